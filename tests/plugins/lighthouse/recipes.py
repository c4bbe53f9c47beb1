"""A recipe and a search by name."""

from __future__ import annotations

from tuning.searches import Search
from tuning.space import Values
from tuning.study import StageConfig, StudyConfig
from vae_models.config.train import TrainConfig
from vae_models.recipes import Recipe


def rings() -> TrainConfig:
    """Everything of this package at once."""
    return TrainConfig.model_validate({
        "data": {"name": "rings"},
        "model": {
            "latent": 2,
            "likelihood": {"kind": "laplace", "scale": 0.3},
            "prior": {"kind": "logistic"},
            "backbone": {"kind": "residual"},
        },
        "objective": {"kind": "free-bits"},
        "beta": {"kind": "half-cosine"},
        "batch_size": 64,
        "epochs": 20,
    })  # fmt: skip


def scales() -> StudyConfig:
    """Which scale of the likelihood is the best, fused in lanes."""
    stage = StageConfig(name="scales", space={"model.likelihood.scale": Values(values=(0.1, 0.3, 1.0))})
    return StudyConfig(base=rings(), stages=(stage,))


OURS = {"paper": "ours", "section": "lighthouse"}
RECIPES = (Recipe(name="rings/lighthouse", data="two rings, by rule", summary="one of each", build=rings, **OURS),)
SEARCHES = (Search(name="searches/rings/scales", summary="the likelihood's scale", build=scales, **OURS),)
