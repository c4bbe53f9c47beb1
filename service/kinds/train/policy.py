"""What the queue is told of a run, and how a run may change after it was submitted: it may be longer."""

from __future__ import annotations

from functools import lru_cache

from pydantic import Field

from service.kinds.train.spec import TrainSpec, lengthened
from service.queue.jobs import Record
from service.queue.policy import Policy, Retention
from vae_models.measures import Mode

LENGTHEN = "to train it for longer, from its last checkpoint on: vaesvc retry {job} --set epochs=N"


class Lengthen(Record):
    """How long a run shall be in all, by one of the two, at most `vae_models.bounds`. The same again changes
    nothing."""

    epochs: float | None = Field(default=None, gt=0, le=10**6, description="passes over the training split")
    steps: int | None = Field(default=None, ge=1, le=10**9, description="optimizer steps")


def policy(spec: TrainSpec) -> Policy:
    """Return the policy: checkpoints are kept by the spec's own metric."""
    kept = spec.train.checkpoint
    return _policy(kept.metric, kept.mode, kept.keep_best)


@lru_cache(maxsize=1000)
def _policy(metric: str, mode: Mode, keep_best: int) -> Policy:
    return Policy(retention=Retention(metric=metric, mode=mode, keep_best=keep_best), amendments={"lengthen": LENGTHEN})


def lengthen(spec: TrainSpec, request: Lengthen) -> TrainSpec:
    """Return it with more epochs or steps in all. Raises UsageError if that is another run
    (`vae_models.config.longer`)."""
    return lengthened(spec, request.epochs, request.steps)
