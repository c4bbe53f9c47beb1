"""Which weights of a study become its model: those of its winner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.attempt.best import Choice
from service.queue.jobs import Checkpoint, Job


def choose(job: Job, result: Mapping[str, Any], checkpoints: Callable[[], Sequence[Checkpoint]]) -> Choice | None:
    """Return the winner that the attempt's result names; None when there is none."""
    winner = result.get("winner")
    if winner is None:
        return None
    error = winner["standard_error"]
    tags = {
        "vaesvc.study": job.id,
        "vaesvc.stage": str(winner["stage"]),
        "vaesvc.trial": str(winner["trial"]),
        "vaesvc.seed": str(winner["seed"]),
        "vaesvc.assignment": ", ".join(f"{path}={value}" for path, value in winner["assignment"].items()),
        "vaesvc.mean": f"{winner['mean']:.8g}" + ("" if error is None else f" +- {error:.2g}"),
        "vaesvc.reason": str(winner["reason"]),
    }
    return Choice(
        job=job.model_copy(update={"spec": {**job.spec, "kind": "train", "train": winner["config"]}}),
        checkpoint=Checkpoint.model_validate(winner["checkpoint"]),
        metric=winner["metric"],
        mode=winner["mode"],
        tags=tags,
    )
