"""Small configurations that are quick on a CPU: to start with, to test with, to compare with."""

from __future__ import annotations

from vae_models.backbones.specs import MLPConfig
from vae_models.config.run import CheckpointConfig, EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.optimization.specs import AdamConfig, CosineScheduleConfig
from vae_models.recipes.recipe import Recipe
from vae_models.topologies.vae.specs import ModelConfig


def digits_beta_vae_mlp() -> TrainConfig:
    """Return the quickstart: a beta-VAE on scikit-learn's 8 x 8 digits, 10 CPU seconds. Our own choice of numbers.

    A Gaussian with sigma = 0.1, about the residual it reaches. A Bernoulli on these grey values keeps only 3 nats of
    rate and draws blurs.
    """
    return TrainConfig(
        data=DataConfig(name="digits"),
        model=ModelConfig(
            latent=16, backbone=MLPConfig(hidden=(256, 256)), likelihood=GaussianConfig(sigma=0.1, link="sigmoid")
        ),
        optimizer=AdamConfig(lr=2e-3, clip_norm=100.0),
        schedule=CosineScheduleConfig(warmup_epochs=2, final=0.01),
        batch_size=128,
        epochs=200,
        log_every_steps=20,
        evaluation=EvaluationConfig(every_epochs=10),
        checkpoint=CheckpointConfig(every_steps=500),
    )


def binarized_mnist_beta_vae_mlp() -> TrainConfig:
    """Return a plain VAE on static binarized MNIST: a test ELBO of -100 nats in 100 CPU seconds.
    Our own choice of numbers.
    """
    return TrainConfig(
        data=DataConfig(name="binarized-mnist"),
        model=ModelConfig(latent=32, backbone=MLPConfig(hidden=(400, 400))),
        optimizer=AdamConfig(lr=1e-3, clip_norm=200.0),
        schedule=CosineScheduleConfig(warmup_epochs=0.5, final=0.01),
        batch_size=128,
        epochs=15,
        evaluation=EvaluationConfig(every_epochs=1),
    )


RECIPES = (
    Recipe(
        name="digits/beta-vae-mlp",
        paper="ours",
        section="quickstart",
        data="scikit-learn digits (8x8, carried by the package)",
        summary="fully connected VAE, seconds on one core",
        build=digits_beta_vae_mlp,
    ),
    Recipe(
        name="binarized-mnist/beta-vae-mlp",
        paper="ours",
        section="small and quick",
        data="static binarized MNIST (28x28)",
        summary="fully connected VAE, minutes on a CPU",
        build=binarized_mnist_beta_vae_mlp,
    ),
)
