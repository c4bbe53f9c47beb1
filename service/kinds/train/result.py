"""Which checkpoint of a run becomes its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.attempt.best import Choice
from service.kinds.train.spec import TrainSpec
from service.queue.jobs import Checkpoint, Job
from vae_models.measures import STORED


def choose(job: Job, result: Mapping[str, Any], checkpoints: Callable[[], Sequence[Checkpoint]]) -> Choice | None:
    """Return the best checkpoint that the job keeps, by its spec's metric; None when there is none."""
    spec = TrainSpec.model_validate(job.spec, context=STORED)
    best = best_checkpoint(checkpoints(), spec)
    config = spec.train.checkpoint
    return None if best is None else Choice(job=job, checkpoint=best, metric=config.metric, mode=config.mode)


def best_checkpoint(checkpoints: Sequence[Checkpoint], spec: TrainSpec) -> Checkpoint | None:
    """Return the best by the spec's metric; where none has it, the newest. None when there is none."""
    config = spec.train.checkpoint
    scored = [checkpoint for checkpoint in checkpoints if config.metric in checkpoint.metrics]
    if scored:
        return max(scored, key=lambda each: (config.goal.score(each.metrics[config.metric]), each.step))
    return max(checkpoints, key=lambda each: (each.attempt, each.step), default=None)
