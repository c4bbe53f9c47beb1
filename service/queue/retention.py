"""Which checkpoints a job keeps: the last one, and the best k of those before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from service.queue.jobs import Checkpoint
from service.queue.policy import Retention


def kept(checkpoints: Sequence[Checkpoint], config: Retention) -> tuple[Checkpoint, ...]:
    """Return which of `checkpoints` (newest first) are kept, newest first, with the best one marked.

    The last is kept for going on from; `keep_best` others are kept by the metric (ties: the newer; those without the
    metric come after all others). The last does not count as one of the best even when it is: so there is always a
    second one to fall back on, should the last prove corrupt.
    """
    if not checkpoints:
        return ()
    last, earlier = checkpoints[0], checkpoints[1:]
    ranked = sorted(earlier, key=lambda c: _rank(c, config), reverse=True)  # stable: the newer of equals first
    chosen = {c.uri for c in (last, *ranked[: config.keep_best])}
    return marked([c for c in checkpoints if c.uri in chosen], config)


def marked(checkpoints: Sequence[Checkpoint], config: Retention) -> tuple[Checkpoint, ...]:
    """Return `checkpoints` with `best` set on the one with the best metric (ties: the newer), on none without the
    metric."""
    measured = [c for c in checkpoints if config.metric in c.metrics]
    best = max(measured, key=lambda c: _rank(c, config)).uri if measured else None
    return tuple(c.model_copy(update={"best": c.uri == best}) for c in checkpoints)


def _rank(checkpoint: Checkpoint, config: Retention) -> tuple[bool, float]:
    value = checkpoint.metrics.get(config.metric)
    return value is not None, config.goal.score(value)
