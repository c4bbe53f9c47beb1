"""Multi-rate VAE, appendix C: the learning rate first, then ten beta with it; three seeds, the mean decides.

Open in the text: which ten ("uniformly sampled between 0.01 and 10 on a log scale"; here evenly spaced, both ends
included), and the seeds of the first stage (here the same three). The linear VAE's rate is chosen in the paper by the
training loss averaged over beta, here by that at beta = 1, as for all others.
"""

from __future__ import annotations

from functools import partial
from itertools import product

from tuning.searches.search import Search, recipe
from tuning.space import LogUniform, Values
from tuning.study import StageConfig, StudyConfig

RATES = (0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001)
SEEDS = (0, 1, 2)
IMAGES = ("binarized-mnist", "omniglot", "cifar10", "svhn", "celeba")


def rates(metric: str = "val/elbo", mode: str = "max") -> StageConfig:
    """Seven learning rates; at beta = 1, which is what evaluation uses."""
    space = {"optimizer.lr": Values(values=RATES)}
    return StageConfig.model_validate(
        {"name": "rates", "space": space, "metric": metric, "mode": mode, "repeats": SEEDS}
    )


def betas(low: float = 0.01, metric: str = "val/elbo", mode: str = "max") -> StageConfig:
    """Ten beta, log-spaced up to 10."""
    space = {"beta.value": LogUniform(low=low, high=10.0, points=10)}
    return StageConfig.model_validate(
        {"name": "betas", "space": space, "metric": metric, "mode": mode, "repeats": SEEDS}
    )


def study(name: str, *stages: StageConfig) -> StudyConfig:
    return StudyConfig(base=recipe(name), stages=stages)


def _search(system: str, section: str, summary: str, *stages: StageConfig) -> Search:
    build = partial(study, system, *stages)
    return Search(name=f"searches/{system}", paper="MR-VAE", section=section, summary=summary, build=build)


def _images() -> list[Search]:
    found = []
    for data, backbone in product(IMAGES, ("cnn", "resnet")):
        for suffix, warmed in (("", "without"), ("-warmup", "with")):
            summary = f"7 learning rates at beta = 1, then 10 beta in [0.01, 10], {warmed} KL warm-up; 3 seeds"
            system = f"{data}/beta-vae-{backbone}{suffix}"
            found.append(_search(system, "appendix C.2", summary, rates(), betas()))
        summary = "7 learning rates, chosen at beta = 1; 3 seeds"
        found.append(_search(f"{data}/mr-vae-{backbone}", "appendix C.2", summary, rates()))
    return found


def _others() -> list[Search]:
    loss = ("train/loss", "min")
    two = "7 learning rates by the training loss, then 10 beta in [{}, 10]; 3 seeds"
    one = "7 learning rates; 3 seeds"
    return [
        _search("mnist/linear-vae", "appendix C.1", two.format(0.01), rates(*loss), betas(0.01, *loss)),
        _search("mnist/mr-linear-vae", "appendix C.1", one, rates()),
        _search("dsprites/beta-tcvae", "appendix C.2.1", two.format(0.1), rates(*loss), betas(0.1, *loss)),
        _search("dsprites/mr-tcvae", "appendix C.2.1", one, rates()),
    ]


SEARCHES = [*_images(), *_others()]
