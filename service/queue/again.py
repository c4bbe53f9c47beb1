"""Back into the line: a job that is over, once more or with more to do. Called by the store, inside its transactions.

Its checkpoints are kept: the next attempt goes on from the last one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from service import wire
from service.errors import ConflictError
from service.kinds.train.spec import TrainSpec, lengthened
from service.queue.jobs import JobState, Trigger
from service.queue.rows import Clocked
from vae_models.measures import STORED

FRESH = MappingProxyType(
    {
        "failures": 0,
        "outages": 0,
        "not_before": 0.0,
        "reason": None,
        "ended_at": None,
        "cancel_requested_at": None,
        "tracked": False,
    }
)


def retry(work: Clocked, job_id: str, by: str) -> None:
    """A job that FAILED or was CANCELLED, at its old place, with a fresh retry budget. Raises ConflictError else."""
    row = work.locked_job(job_id)
    if row["state"] == JobState.SUCCEEDED and row["kind"] == "train":
        raise ConflictError(
            f"job {job_id} is SUCCEEDED: there is nothing to try again. To train it for longer, from its last "
            f"checkpoint on: vaesvc retry {job_id} --set epochs=N"
        )
    work.move(row, Trigger.RETRY, "retried", detail={"by": by}, result={}, **FRESH)


def lengthen(work: Clocked, job_id: str, request: wire.LengthenRequest, by: str) -> None:
    """A run that is over, with more epochs or steps. The same length again, of one that SUCCEEDED: nothing changes.

    Raises UsageError where a longer run is another one (see `vae_models.config.longer`), ConflictError while it runs
    and for a study.
    """
    row = work.locked_job(job_id)
    state = JobState(row["state"])
    if row["kind"] != "train":
        raise ConflictError(f"job {job_id} is a study; for more trials: vaesvc study extend {job_id} --trials N")
    if not state.final:
        raise ConflictError(f"job {job_id} is {state}: it can be given more to do when it is over")
    before = TrainSpec.model_validate(row["spec"], context=STORED)
    spec = lengthened(before, request.epochs, request.steps)
    if spec == before and state is JobState.SUCCEEDED:
        return
    detail = {"by": by, "epochs": request.epochs, "steps": request.steps}
    values: dict[str, Any] = {"spec": spec.model_dump(mode="json"), "started_at": None}
    work.move(row, Trigger.EXTEND, "extended", detail=detail, **(FRESH | values))
