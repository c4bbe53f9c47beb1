"""A recipe and a search by name."""

from __future__ import annotations

from tuning.searches import Search
from tuning.space import LogUniform
from tuning.study import StageConfig, StudyConfig
from vae_models.config.train import TrainConfig
from vae_models.recipes import Recipe


def rings() -> TrainConfig:
    """Everything of this package at once."""
    return TrainConfig.model_validate({
        "data": {"name": "rings", "noise": {"kind": "jitter"}},
        "model": {
            "latent": 2,
            "likelihood": {"kind": "laplace", "scale": 0.3},
            "prior": {"kind": "logistic"},
            "posterior": {"kind": "floored-normal"},
            "backbone": {"kind": "residual"},
        },
        "objective": {"kind": "free-bits"},
        "beta": {"kind": "half-cosine"},
        "optimizer": {"kind": "rmsprop"},
        "schedule": {"kind": "inverse-root"},
        "evaluation": {"measures": ["worst_error"]},
        "batch_size": 64,
        "epochs": 20,
    })  # fmt: skip


def ladder() -> TrainConfig:
    """Two latents."""
    model = {"kind": "two-ladder", "latent": 2, "likelihood": {"kind": "laplace", "scale": 0.3}}
    return TrainConfig.model_validate({"data": {"name": "rings"}, "model": model, "batch_size": 64, "epochs": 20})


def scales() -> StudyConfig:
    """Which scale of the likelihood is the best, fused in lanes."""
    scale = LogUniform(low=0.1, high=1.0)
    stage = StageConfig(
        name="scales",
        space={"model.likelihood.scale": scale},
        search={"kind": "halton", "trials": 4},
        pruning={"kind": "worst-out", "epochs": 3},
        metric="val/worst_error",
    )
    return StudyConfig(base=rings(), stages=(stage,))


OURS = {"paper": "ours", "section": "lighthouse"}
DATA = "two rings, by rule"
RECIPES = (
    Recipe(name="rings/lighthouse", data=DATA, summary="one part of each kind", build=rings, **OURS),
    Recipe(name="rings/two-ladder", data=DATA, summary="two latents", build=ladder, **OURS),
)
SEARCHES = (Search(name="searches/rings/scales", summary="the likelihood's scale", build=scales, **OURS),)
