"""Which configurations have parameters of the same shapes, trained by the same steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vae_models.config.train import TrainConfig


def shape_of(config: TrainConfig) -> str:
    """Equal for configurations that may be one stack.

    They are alike but for real numbers of their parts, seed, optimizer, schedule, beta's numbers, length, evaluation
    and checkpoints.
    """
    parts: list[Any] = [config.determining()["data"], config.batch_size, config.dtype, config.beta.kind]
    return repr([*parts, _without_reals(config.model.model_dump()), _without_reals(config.objective.model_dump())])


def _without_reals(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_reals(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_without_reals(part) for part in value]
    return "real" if isinstance(value, float) else value
