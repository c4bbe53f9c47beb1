"""NVAE (Vahdat and Kautz 2020), as published, and with multi-rate gates (Bae et al. 2023, appendix C.2).

The widths, cells and groups are those of the published commands (github.com/NVlabs/NVAE): Adamax, learning rate 0.01,
five epochs of warm-up, a cosine down to 1e-4, weight decay 3e-4; spectral regularization of weight 1e-2 (CelebA 1e-1);
the KL weight rises from 1e-4 to 1 over the first 30% of the run, and while it is below 1 the groups' rates are
balanced. MR-VAE trains it on binary images for 400 epochs with batches of 256 and 16 channels, by table 1's counts: its
8,867,988 are those of an output of 100 channels, CIFAR-10's, and its 8,950,118 of the multi-rate model those of one.
Ours: mixtures of logistics without autoregression over channels; the multi-rate models' rates are not balanced, for
each datum has its own beta; Omniglot's grey images are binarized anew at every step; the small ones.
"""

from __future__ import annotations

from functools import partial

from vae_models.config.run import CheckpointConfig, EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.control.specs import BetaConfig, HeldBetaConfig, LogUniformBetaConfig, WarmupBetaConfig
from vae_models.data.config import DataConfig
from vae_models.likelihoods.specs import GaussianConfig, LikelihoodConfig, LogisticMixtureConfig
from vae_models.objectives.specs import LadderElboConfig
from vae_models.optimization.specs import AdamaxConfig, CosineScheduleConfig
from vae_models.recipes.recipe import Recipe, ours, recipe
from vae_models.topologies.ladder.specs import NvaeConfig
from vae_models.topologies.vae.specs import GatingConfig

OPTIMIZER = AdamaxConfig(lr=1e-2, weight_decay=3e-4, eps=1e-3)
RISING = 0.3  # of the run, in which the KL weight rises, or is held
FIRST_WEIGHT = 1e-4

BINARY = NvaeConfig()
BINARY_16 = NvaeConfig(channels=16)  # of the multi-rate paper, by its counts
CIFAR = NvaeConfig(
    size=(32, 32), channels=128, scales=1, groups=30, halved=False, blocks=1, block_cells=2,
    likelihood=LogisticMixtureConfig(),
)  # fmt: skip
CELEBA = NvaeConfig(
    size=(64, 64), channels=64, scales=3, groups=20, blocks=1, block_cells=2, likelihood=LogisticMixtureConfig()
)
DATA = {
    "mnist": DataConfig(name="mnist", binarize="dynamic"),
    "binarized-mnist": DataConfig(name="binarized-mnist"),
    "omniglot": DataConfig(name="omniglot", binarize="dynamic"),
    "cifar10": DataConfig(name="cifar10"),
    "celeba": DataConfig(name="celeba"),
    "digits": DataConfig(name="digits"),
}


def nvae(
    data: str,
    model: NvaeConfig,
    *,
    epochs: float,
    batch_size: int,
    weight: float = 1e-2,
    gating: GatingConfig | None = None,
    held: bool = False,
) -> TrainConfig:
    """Return an NVAE. weight: of spectral regularization. held: the KL weight is held, and does not rise, at first."""
    rising = RISING * epochs
    beta: BetaConfig = WarmupBetaConfig(start=FIRST_WEIGHT, epochs=rising)
    if held:
        beta = HeldBetaConfig(start=FIRST_WEIGHT, epochs=rising)
    evaluation = EvaluationConfig(batch_size=100)
    if gating is not None:
        beta = LogUniformBetaConfig(low=gating.low, high=gating.high)
        evaluation = EvaluationConfig(batch_size=100, betas=(gating.low, 0.1, gating.high), betas_at_end_only=True)
    return TrainConfig(
        data=DATA[data],
        model=model.model_copy(update={"gating": gating}),
        objective=LadderElboConfig(weight=weight, balanced=gating is None),
        beta=beta,
        optimizer=OPTIMIZER,
        schedule=CosineScheduleConfig(warmup_epochs=min(5.0, epochs / 10), final=0.01),
        batch_size=batch_size,
        epochs=epochs,
        evaluation=evaluation,
        checkpoint=CheckpointConfig(every_steps=1000),
    )


def tiny(gating: GatingConfig | None = None) -> TrainConfig:
    """Return two scales of two groups and one on scikit-learn's digits: a minute of a core."""
    likelihood: LikelihoodConfig = GaussianConfig(sigma=0.1, link="sigmoid")
    model = NvaeConfig(
        size=(8, 8), channels=8, latent=4, groups=2, blocks=0, encoder_cells=1, decoder_cells=1, likelihood=likelihood
    )
    return nvae("digits", model, epochs=20, batch_size=128, gating=gating)


def small() -> TrainConfig:
    """Return two scales of two groups and one on static binarized MNIST: what one core trains in some minutes.

    Latents of 14x14 and 7x7 places, and 3x3 cells, which a processor computes three times as fast as depthwise ones.
    """
    model = NvaeConfig(
        channels=8, latent=8, groups=2, blocks=1, block_cells=1, encoder_cells=1, decoder_cells=1, body="swish"
    )
    return nvae("binarized-mnist", model, epochs=2, batch_size=32)


_C2 = "appendix C.2; NVAE's code"
GATING = GatingConfig()


def _binary(data: str) -> tuple[Recipe, ...]:
    build = partial(nvae, data, BINARY_16, epochs=400, batch_size=256)
    return (
        recipe(f"{data}/nvae-16", "MR-VAE", _C2, "NVAE of 16 channels", build),
        recipe(f"{data}/mr-nvae-16", "MR-VAE", _C2, "multi-rate NVAE of 16 channels", partial(build, gating=GATING)),
    )


RECIPES = (
    ours("digits/nvae-tiny", "NVAE", "its structure", "NVAE of three groups, a minute on one core", tiny),
    ours(
        "digits/mr-nvae-tiny", "MR-VAE", "C.2", "multi-rate NVAE of three groups, a minute on one core",
        partial(tiny, GATING),
    ),
    ours("binarized-mnist/nvae-small", "NVAE", "its structure", "NVAE of three groups, minutes on one core", small),
    *(each for data in ("binarized-mnist", "omniglot") for each in _binary(data)),
    recipe(
        "mnist/nvae", "NVAE", "its code, MNIST", "NVAE of 15 groups",
        partial(nvae, "mnist", BINARY, epochs=400, batch_size=400),
    ),
    recipe(
        "omniglot/nvae", "NVAE", "its code, MNIST's flags", "NVAE of 15 groups",
        partial(nvae, "omniglot", BINARY, epochs=400, batch_size=400),
    ),
    recipe(
        "cifar10/nvae", "NVAE", "its code, CIFAR-10", "NVAE of 30 groups",
        partial(nvae, "cifar10", CIFAR, epochs=400, batch_size=256),
    ),
    recipe(
        "celeba/nvae", "NVAE", "its code, CelebA 64", "NVAE of 35 groups",
        partial(nvae, "celeba", CELEBA, epochs=90, batch_size=128, weight=1e-1),
    ),
    recipe(
        "celeba/nvae-held", "MR-VAE", _C2, "NVAE of 35 groups, the KL weight held for the first 30%",
        partial(nvae, "celeba", CELEBA, epochs=90, batch_size=16, weight=1e-1, held=True),
    ),
    recipe(
        "celeba/mr-nvae", "MR-VAE", _C2, "multi-rate NVAE of 35 groups",
        partial(nvae, "celeba", CELEBA, epochs=90, batch_size=16, weight=1e-1, gating=GATING),
    ),
)  # fmt: skip
