"""Which checkpoint of a job becomes its model."""

from __future__ import annotations

from collections.abc import Sequence

from service.queue.jobs import Checkpoint
from service.spec import TrainSpec


def best_checkpoint(found: Sequence[Checkpoint], spec: TrainSpec) -> Checkpoint | None:
    """The best by the spec's metric; where none has it, the newest. None when there is none."""
    config = spec.train.checkpoint
    sign = 1.0 if config.mode == "max" else -1.0
    scored = [one for one in found if config.metric in one.metrics]
    if scored:
        return max(scored, key=lambda one: (sign * one.metrics[config.metric], one.step))
    return max(found, key=lambda one: (one.epoch, one.step), default=None)
