"""What values and pictures of an evaluation are called in MLflow. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vae_models.measures import ON_TRAIN

ERROR = "_error"


def of(split: str, values: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return metrics: <split>/<name>, and beside it <split>/<name>_error where there is one. values: as plain data."""
    said: dict[str, float] = {}
    for value in values:
        name = f"{_where(split)}/{value['name']}"
        said[name] = float(value["value"])
        if value["error"] is not None:
            said[f"{name}{ERROR}"] = float(value["error"])
    return said


def picture(split: str, name: str) -> str:
    """Return the name of a picture of an evaluation on the split."""
    return f"evaluation/{_where(split)}/{name}"


def _where(split: str) -> str:
    """Return a split's name in metrics: "train" is that of the batches of training."""
    return ON_TRAIN if split == "train" else split
