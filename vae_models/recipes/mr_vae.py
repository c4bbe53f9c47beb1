"""Multi-Rate VAE (Bae et al. 2023), appendix C.2: the beta-VAE baselines on the benchmark CNN.

Stated there: Adam, 200 epochs, batch size 128, cosine decay of the learning rate, the architecture of Chadebec et al.
(2022), latent 32 for MNIST and Omniglot (table 1's counts), beta-VAEs at ten log-spaced beta in [0.01, 10] "with and
without the KL warm-up". The learning rate was the best of {0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001} at
beta = 1 by validation loss.

Left open there, and chosen here: which learning rate won (`LEARNING_RATE`), how long the KL warm-up is
(`KL_WARMUP_EPOCHS`), and how grey images become binary outside static MNIST (dynamically: x ~ Bernoulli(grey value)).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vae_models.config import (
    AdamConfig,
    BetaConfig,
    CheckpointConfig,
    ConstantBetaConfig,
    ConvConfig,
    CosineScheduleConfig,
    DataConfig,
    ModelConfig,
    TrainConfig,
    WarmupBetaConfig,
)
from vae_models.recipes.recipe import Recipe

# of the paper's grid; with 0.001 the rate jumps to thousands of nats in the first ten steps before it settles
LEARNING_RATE = 3e-4
KL_WARMUP_EPOCHS = 20.0

_DATA = {
    "mnist": (DataConfig(name="mnist", binarize="dynamic"), "MNIST (28x28), binarized anew at every step"),
    "fashion-mnist": (
        DataConfig(name="fashion-mnist", binarize="dynamic"),
        "Fashion-MNIST (28x28), binarized anew at every step",
    ),
    "omniglot": (DataConfig(name="omniglot", binarize="dynamic"), "Omniglot (28x28), binarized anew at every step"),
    "binarized-mnist": (DataConfig(name="binarized-mnist"), "static binarized MNIST (28x28)"),
}
_WARMED_UP = ("mnist", "binarized-mnist", "omniglot")


def beta_vae_cnn(data: DataConfig, beta: BetaConfig) -> TrainConfig:
    """The baseline on one data set, with one beta or its warm-up."""
    return TrainConfig(
        data=data,
        model=ModelConfig(latent=32, backbone=ConvConfig()),
        beta=beta,
        optimizer=AdamConfig(lr=LEARNING_RATE),
        schedule=CosineScheduleConfig(),
        batch_size=128,
        epochs=200,
        checkpoint=CheckpointConfig(every_steps=2000),
    )


def _recipe(data: str, *, warmup: bool) -> Recipe:
    config, needs = _DATA[data]
    beta: BetaConfig = WarmupBetaConfig(epochs=KL_WARMUP_EPOCHS) if warmup else ConstantBetaConfig()
    build: Callable[[], TrainConfig] = partial(beta_vae_cnn, config, beta)
    return Recipe(
        name=f"{data}/beta-vae-cnn{'-warmup' if warmup else ''}",
        paper="MR-VAE",
        section="appendix C.2",
        data=needs,
        summary="beta-VAE on the benchmark CNN" + (", with KL warm-up" if warmup else ""),
        build=build,
    )


RECIPES = (
    *(_recipe(data, warmup=False) for data in _DATA),
    *(_recipe(data, warmup=True) for data in _WARMED_UP),
)
