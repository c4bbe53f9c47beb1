"""Multi-rate VAE, appendix C: the learning rate first, then ten beta with it; three seeds, the mean decides.

Open in the text: which ten ("uniformly sampled between 0.01 and 10 on a log scale"; here evenly spaced, both ends
included), and the seeds of the first stage (here the same three). By validation loss at beta = 1 where the paper has
that (C.2); by the training loss at beta = 1 for TCVAE and the linear and TC multi-rate models (C.1, C.2.1): of a
multi-rate model that is the ELBO of the training split, since the loss that it trains on is of all beta. Ours: the
linear VAE's rate is chosen by the training loss at beta = 1, in the paper by its average over beta.
"""

from __future__ import annotations

from functools import partial
from itertools import product

from tuning.searches.search import Search, recipe
from tuning.space import LogUniform, Values
from tuning.study import StageConfig, StudyConfig
from vae_models.measures import ON_TRAIN

RATES = (0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001)
SEEDS = (0, 1, 2)
IMAGES = ("binarized-mnist", "omniglot", "cifar10", "svhn", "celeba")


def rates(metric: str = "val/elbo", mode: str = "max") -> StageConfig:
    """Return a stage of seven learning rates; at beta = 1, which evaluation uses."""
    space = {"optimizer.lr": Values(values=RATES)}
    return StageConfig.model_validate(
        {"name": "rates", "space": space, "metric": metric, "mode": mode, "repeats": SEEDS}
    )


def betas(low: float = 0.01, metric: str = "val/elbo", mode: str = "max") -> StageConfig:
    """Return a stage of ten beta, log-spaced up to 10."""
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
    searches = []
    for data, backbone in product(IMAGES, ("cnn", "resnet")):
        for suffix, warmed in (("", "without"), ("-warmup", "with")):
            summary = f"7 learning rates at beta = 1, then 10 beta in [0.01, 10], {warmed} KL warm-up; 3 seeds"
            system = f"{data}/beta-vae-{backbone}{suffix}"
            searches.append(_search(system, "appendix C.2", summary, rates(), betas()))
        summary = "7 learning rates, chosen at beta = 1; 3 seeds"
        searches.append(_search(f"{data}/mr-vae-{backbone}", "appendix C.2", summary, rates()))
    return searches


def _text() -> list[Search]:
    both = "7 learning rates at beta = 1, then 10 beta in [0.01, 10], {} KL warm-up; 3 seeds"
    return [
        _search("yahoo/lstm", "appendix C.2", both.format("without"), rates(), betas()),
        _search("yahoo/lstm-warmup", "appendix C.2", both.format("with"), rates(), betas()),
        _search("yahoo/mr-lstm", "appendix C.2", "7 learning rates, chosen at beta = 1; 3 seeds", rates()),
    ]


def _others() -> list[Search]:
    loss = ("train/loss", "min")
    two = "7 learning rates by the training loss, then 10 beta in [{}, 10]; 3 seeds"
    summary = "7 learning rates by the training split's ELBO, beta = 1; 3 seeds"
    at_one = f"{ON_TRAIN}/elbo"
    return [
        _search("mnist/linear-vae", "appendix C.1", two.format(0.01), rates(*loss), betas(0.01, *loss)),
        _search("mnist/mr-linear-vae", "appendix C.1", summary, rates(at_one)),
        _search("dsprites/beta-tcvae", "appendix C.2.1", two.format(0.1), rates(*loss), betas(0.1, *loss)),
        _search("dsprites/mr-tcvae", "appendix C.2.1", summary, rates(at_one)),
    ]


SEARCHES = [*_images(), *_text(), *_others()]
