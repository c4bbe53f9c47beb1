"""Back into the line: a job that is over, once more or with more to do. Called by the store, inside its transactions.

Its checkpoints are kept: the next attempt goes on from the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy.engine import RowMapping

from service.errors import ConflictError
from service.queue import attempts, limits, order
from service.queue.jobs import Job, JobState, Trigger
from service.queue.policy import Policy, Signal
from service.queue.rows import Clocked, policy

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


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """A change of a job's spec. job: as it was before; spec: the new one. over: only a job that is over is changed, and
    one that did not succeed goes on with the same spec, too. detail: for the event log."""

    job: Job
    spec: Mapping[str, Any]
    policy: Policy
    over: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)


def retry(work: Clocked, job_id: str, by: str) -> None:
    """Queue a FAILED or CANCELLED job again, at its old place, with a fresh retry budget. Raises ConflictError
    otherwise."""
    row = work.locked_job(job_id)
    if row["state"] == JobState.SUCCEEDED:
        raise ConflictError(f"job {job_id} is SUCCEEDED: there is nothing to try again{policy(row).advice(job_id)}")
    work.move(row, Trigger.RETRY, "retried", detail={"by": by}, result={}, **FRESH)
    limits.renew(work, row)
    order.settle(work, work.job_row(job_id))


def signal(work: Clocked, job: RowMapping, signal: Signal, by: str) -> None:
    """Note what the job shall receive with the reply to its next report. `job` is a row from `locked_job`."""
    state = JobState(job["state"])
    if signal not in policy(job).signals:
        raise ConflictError(f"job {job['id']} is of kind {job['kind']}, which cannot {signal} early")
    if state.final or state is JobState.CANCELLING:
        raise ConflictError(f"job {job['id']} is {state}: there is nothing to stop")
    if not attempts.finish_requested(work, job["id"]):
        work.record(job["id"], "stop_requested", job["attempt"] or None, by=by)


def refuse_going(job_id: str, state: JobState) -> None:
    """Raise ConflictError for a job that is not over."""
    if not state.final:
        raise ConflictError(f"job {job_id} is {state}: it can be given more to do when it is over")


def amend(work: Clocked, amendment: Amendment, by: str) -> None:
    """Replace the job's spec. Raises ConflictError."""
    job, spec = amendment.job, dict(amendment.spec)
    row = work.locked_job(job.id)
    state = JobState(row["state"])
    if amendment.over:
        refuse_going(job.id, state)
    if row["spec"] != job.spec:
        raise ConflictError(f"job {job.id} was changed by somebody else in the same moment: try again")
    if spec == row["spec"] and (not amendment.over or state is JobState.SUCCEEDED):
        return
    values: dict[str, Any] = {"spec": spec, "policy": amendment.policy.model_dump(mode="json", exclude_defaults=True)}
    if state.final:
        values |= FRESH | {"started_at": None}
    work.move(row, Trigger.EXTEND, "extended", detail={"by": by, **amendment.detail}, **values)
    if state.final:
        limits.renew(work, row)
        order.settle(work, work.job_row(job.id))
