"""Simple and effective VAE training with calibrated decoders (Rybkin et al. 2020, "sigma-VAE"), appendix B and tables.

Stated there: three convolutions from 32 channels doubling (from 128 on CIFAR), one linear layer, mirrored; latent 20;
Adam 1e-3, batch 128, 10 epochs; beta of the unit-variance Gaussian from 100 to 0.0001. SVHN is cropped to 28x28.
Left open, and chosen here: kernels and strides (the published code's), the number of mixture components (10).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from vae_models.config import (
    AdamConfig,
    BetaLikelihoodConfig,
    BitwiseConfig,
    CategoricalConfig,
    CheckpointConfig,
    DataConfig,
    DiscretizedConfig,
    GaussianConfig,
    LikelihoodConfig,
    LogisticMixtureConfig,
    ModelConfig,
    SigmaVaeConfig,
    TrainConfig,
)
from vae_models.recipes.recipe import recipe

# system -> (likelihood, where it is, what it is)
SYSTEMS: Mapping[str, tuple[LikelihoodConfig, str, str]] = {
    "gaussian-vae": (GaussianConfig(), "table 1", "unit-variance Gaussian decoder; sweep beta from 100 to 0.0001"),
    "sigma-vae-shared": (GaussianConfig(fit="trained"), "table 1", "one trained decoder variance"),
    "sigma-vae-optimal": (GaussianConfig(fit="mle"), "table 1", "one decoder variance by maximum likelihood"),
    "sigma-vae-per-image": (GaussianConfig(fit="predicted", per="datum"), "table 1", "a decoder variance per image"),
    "sigma-vae-per-pixel": (
        GaussianConfig(fit="predicted", per="datum", tie="diag"),
        "table 1",
        "a decoder variance per pixel",
    ),
    "categorical-vae": (CategoricalConfig(), "table 2", "categorical decoder over 256 levels"),
    "bitwise-vae": (BitwiseConfig(), "table 2, appendix C", "a Bernoulli decoder for each bit of 256 levels"),
    "discretized-gaussian-vae": (DiscretizedConfig(shape="gaussian"), "table 4", "discretized Gaussian decoder"),
    "discretized-logistic-vae": (DiscretizedConfig(shape="logistic"), "table 4", "discretized logistic decoder"),
    "logistic-mixture-vae": (LogisticMixtureConfig(), "table 2, appendix C", "mixture of discretized logistics"),
    "beta-decoder-vae": (BetaLikelihoodConfig(), "table 2, appendix C", "Beta decoder"),
}
DATA = {"svhn": ("svhn-28", 32), "celeba": ("celeba", 32), "cifar10": ("cifar10", 128)}


def sigma_vae(data: str, system: str) -> TrainConfig:
    """One decoder on one data set."""
    name, channels = DATA[data]
    return TrainConfig(
        data=DataConfig.model_validate({"name": name}),
        model=ModelConfig(latent=20, backbone=SigmaVaeConfig(channels=channels), likelihood=SYSTEMS[system][0]),
        optimizer=AdamConfig(lr=1e-3),
        batch_size=128,
        epochs=10,
        checkpoint=CheckpointConfig(every_steps=1000),
    )


RECIPES = tuple(
    recipe(f"{data}/{system}", "sigma-VAE", f"{section}, appendix B", what, partial(sigma_vae, data, system))
    for data in DATA
    for system, (_, section, what) in SYSTEMS.items()
)
