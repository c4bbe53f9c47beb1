"""What several papers' reproductions share: a recipe with changes, and how a small scale evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuning.space import with_values
from vae_models.config.train import TrainConfig
from vae_models.recipes import RECIPES

# on 2,000 data at the end alone, without pictures; a checkpoint at the end, or when interrupted
BRIEFLY: Mapping[str, Any] = {
    "evaluation.every_epochs": 1e4,
    "evaluation.pictures": False,
    "evaluation.limit": 2_000,
    "checkpoint.every_steps": 1_000,
}


def recipe(name: str, changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """Return the configuration of a recipe with every path of `changes` set (see `space.with_values`)."""
    config = RECIPES.get(name).build()
    return with_values(config, changes) if changes else config


def mlp(*widths: int) -> dict[str, Any]:
    """Return a fully connected backbone, as a value of `model.backbone`."""
    return {"kind": "mlp", "hidden": list(widths)}
