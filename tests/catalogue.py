"""Every part of the models, once, at a size for tests: what a test of "all parts" is parametrized over.

A new part is added here and is then covered by the contract tests of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor

from vae_models.config import (
    BackboneConfig,
    BernoulliConfig,
    ConstantBetaConfig,
    ConvConfig,
    DataShape,
    DiagonalNormalConfig,
    ElboConfig,
    GaussianConfig,
    MLPConfig,
    ModelConfig,
    StandardNormalConfig,
    WarmupBetaConfig,
)
from vae_models.models.vae import VAE

LATENT = 3

# name -> (config, data shape it is tried on)
BACKBONES: Mapping[str, tuple[BackboneConfig, DataShape]] = {
    "linear": (MLPConfig(hidden=()), (1, 2, 3)),
    "mlp-relu": (MLPConfig(hidden=(5,), activation="relu"), (1, 2, 3)),
    "mlp-tanh": (MLPConfig(hidden=(5, 4), activation="tanh"), (2, 3, 2)),
    "mlp-elu": (MLPConfig(hidden=(5,), activation="elu"), (1, 2, 3)),
    "mlp-softplus": (MLPConfig(hidden=(5,), activation="softplus"), (1, 2, 3)),
    "mlp-gelu": (MLPConfig(hidden=(5,), activation="gelu"), (3, 2, 1)),
    "conv-28": (ConvConfig(channels=(2, 3, 4, 5)), (1, 28, 28)),
    "conv-32": (ConvConfig(channels=(2, 3, 4)), (3, 32, 32)),
    "conv-64": (ConvConfig(channels=(2, 3, 4, 5, 6)), (3, 64, 64)),
}
LIKELIHOODS = {
    "bernoulli": BernoulliConfig(),
    "gaussian": GaussianConfig(sigma=0.3),
    "gaussian-sigmoid": GaussianConfig(sigma=0.3, link="sigmoid"),
}
PRIORS = {"standard-normal": StandardNormalConfig()}
POSTERIORS = {"diagonal-normal": DiagonalNormalConfig()}
OBJECTIVES = {"elbo": ElboConfig()}
BETAS = {"constant": ConstantBetaConfig(value=0.5), "warmup": WarmupBetaConfig(start=0.1, value=0.9, epochs=2)}

# every combination: name -> (config, data shape)
MODELS: Mapping[str, tuple[ModelConfig, DataShape]] = {
    "/".join((backbone, likelihood, prior, posterior)): (
        ModelConfig(
            latent=LATENT,
            backbone=BACKBONES[backbone][0],
            likelihood=LIKELIHOODS[likelihood],
            prior=PRIORS[prior],
            posterior=POSTERIORS[posterior],
        ),
        BACKBONES[backbone][1],
    )
    for backbone, likelihood, prior, posterior in product(BACKBONES, LIKELIHOODS, PRIORS, POSTERIORS)
}


def build(name: str, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> VAE:
    """The model by its name in `MODELS`, a pure function of the seed."""
    config, shape = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build(shape).to(dtype)


def inputs(
    name: str, *, batch: int = 4, seed: int = 1, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, dict[str, Tensor]]:
    """x in {0, 1} and noise for one batch of the model `name`."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(batch, *MODELS[name][1], generator=generator) < 0.4).to(dtype)
    return x, {"z": torch.randn(batch, LATENT, generator=generator, dtype=dtype)}
