"""Simple and effective VAE training with calibrated decoders (Rybkin et al. 2020, "sigma-VAE").

The paper (appendix B): three convolutions from 32 channels doubling (from 128 on CIFAR), one linear layer, mirrored;
latent 20; Adam 1e-3, batch 128, 10 epochs; beta of the unit-variance Gaussian from 100 to 0.0001; the decoders of
appendix C and table 4. The paper's code (github.com/orybkin/sigma-vae-pytorch): kernels, strides and paddings, no
activation after the decoder's linear layer, a sigmoid at its end (the link of the Gaussians and of the discretized
shapes; decoders of other parameters take them raw), SVHN cropped to 28x28, log sigma clipped softly at -6.
Ours: the number of mixture components (10), and table 4's discretized decoders on other data than its CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from vae_models.backbones.specs import SigmaVaeConfig
from vae_models.config.run import CheckpointConfig
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.likelihoods.specs import (
    BetaLikelihoodConfig,
    BitwiseConfig,
    CategoricalConfig,
    DiscretizedConfig,
    GaussianConfig,
    LikelihoodConfig,
    LogisticMixtureConfig,
)
from vae_models.optimization.specs import AdamConfig
from vae_models.recipes.recipe import Recipe, ours, recipe
from vae_models.topologies.vae.specs import ModelConfig

# system -> (likelihood, where it is, what it is)
SYSTEMS: Mapping[str, tuple[LikelihoodConfig, str, str]] = {
    "gaussian-vae": (
        GaussianConfig(link="sigmoid"),
        "appendix B",
        "unit-variance Gaussian decoder; sweep beta from 100 to 0.0001",
    ),
    "sigma-vae-shared": (GaussianConfig(fit="trained", link="sigmoid"), "appendix B", "one trained decoder variance"),
    "sigma-vae-optimal": (
        GaussianConfig(fit="mle", link="sigmoid"),
        "figure 5, appendix B",
        "one decoder variance by maximum likelihood",
    ),
    "sigma-vae-per-image": (
        GaussianConfig(fit="predicted", per="datum", link="sigmoid"),
        "section 3.1, appendix B",
        "a decoder variance per image",
    ),
    "sigma-vae-per-pixel": (
        GaussianConfig(fit="predicted", per="datum", tie="diag", link="sigmoid"),
        "section 3.1, appendix B",
        "a decoder variance per pixel",
    ),
    "categorical-vae": (CategoricalConfig(), "section 3.2, appendix B", "categorical decoder over 256 levels"),
    "bitwise-vae": (BitwiseConfig(), "appendices B, C", "a Bernoulli decoder for each bit of 256 levels"),
    "discretized-gaussian-vae": (
        DiscretizedConfig(shape="gaussian", link="sigmoid"),
        "table 4, appendix B",
        "discretized Gaussian decoder",
    ),
    "discretized-logistic-vae": (
        DiscretizedConfig(shape="logistic", link="sigmoid"),
        "table 4, appendix B",
        "discretized logistic decoder",
    ),
    "logistic-mixture-vae": (LogisticMixtureConfig(), "appendices B, C", "mixture of discretized logistics"),
    "beta-decoder-vae": (BetaLikelihoodConfig(), "appendices B, C", "Beta decoder"),
}
DATA = {"svhn": ("svhn-28", 32), "celeba": ("celeba", 32), "cifar10": ("cifar10", 128)}


def sigma_vae(data: str, system: str) -> TrainConfig:
    """Return one decoder on one data set."""
    name, channels = DATA[data]
    return TrainConfig(
        data=DataConfig.model_validate({"name": name}),
        model=ModelConfig(latent=20, backbone=SigmaVaeConfig(channels=channels), likelihood=SYSTEMS[system][0]),
        optimizer=AdamConfig(lr=1e-3),
        batch_size=128,
        epochs=10,
        checkpoint=CheckpointConfig(every_steps=1000),
    )


def _recipe(data: str, system: str) -> Recipe:
    _, section, what = SYSTEMS[system]
    build = partial(sigma_vae, data, system)
    if section.startswith("table 4") and data != "cifar10":
        return ours(f"{data}/{system}", "sigma-VAE", section, what, build)
    return recipe(f"{data}/{system}", "sigma-VAE", f"{section}; the paper's code", what, build)


RECIPES = tuple(_recipe(data, system) for data in DATA for system in SYSTEMS)
