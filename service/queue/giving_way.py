"""Attempts that are asked to give way: they checkpoint, and their job goes back into the line at no cost.

An attempt that nobody has claimed has done nothing yet: it ends at once. One that runs is told with its next heartbeat,
has until `stop_until` to checkpoint, and is killed then. However it ends, success and an error that no other attempt
could mend apart, it ends REQUEUED: none of `retry.max_attempts`, no backoff, and the next attempt goes on from the last
checkpoint. Called inside transactions of those who ask, and by `attempts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service.queue.jobs import AttemptState, JobState, Trigger
from service.queue.rows import Clocked
from service.queue.schema import attempts


class Way(StrEnum):
    """Why an attempt gives way."""

    PREEMPTED = "preempted"  # a job of a higher priority needs its room
    RESIZED = "resized"  # its gang is elastic, and shall go on with more or fewer workers
    DRAINED = "drained"  # a node that it is on goes


TRIGGERS: Mapping[Way, Trigger] = MappingProxyType(
    {Way.PREEMPTED: Trigger.PREEMPT, Way.RESIZED: Trigger.RESIZE, Way.DRAINED: Trigger.PREEMPT}
)
_OPEN = [state.value for state in AttemptState if state.open]


def ask(work: Clocked, job_id: str, number: int, why: str, *, way: Way, grace: float, to: str | None = None) -> bool:
    """Ask an attempt to give way, if it still runs and nobody has asked it to end; return whether it was asked.

    why: told to its log and kept as its error. grace: seconds to checkpoint in. to: the job that gets its room.
    """
    job = work.locked_job(job_id, number)
    attempt = work.attempt_row(job_id, number)
    running = job["state"] in (JobState.STARTING, JobState.RUNNING)
    if attempt is None or attempt["ended_at"] is not None or attempt["stop_reason"] is not None or not running:
        return False
    work.update_attempt(
        job_id, number, stop_reason=why, stop_until=work.now + grace, gives_way=way.value, gives_way_to=to
    )
    if attempt["runner_id"] is not None:
        detail = {"reason": why} | ({} if to is None else {"to_job": to})
        work.record(job_id, "stop_asked", number, **detail)
        return True
    asked = work.attempt_row(job_id, number)
    assert asked is not None
    work.update_attempt(job_id, number, state=AttemptState.REQUEUED.value, ended_at=work.now, error=why)
    requeue(work, job, asked, {})
    return True


def requeue(work: Clocked, job: RowMapping, attempt: RowMapping, detail: Mapping[str, Any]) -> None:
    """Put the job of an attempt that gave way, and has ended, back into the line, at its old place and no cost."""
    way = Way(attempt["gives_way"])
    said = {**detail, "reason": attempt["stop_reason"]}
    if attempt["gives_way_to"] is not None:
        said["to_job"] = attempt["gives_way_to"]
    work.move(job, TRIGGERS[way], way.value, detail=said, not_before=0.0)


def making_room(work: Clocked, head: str) -> str | None:
    """Return what the head of the line waits for when attempts give way to it; None when none does."""
    columns = (attempts.c.job_id, attempts.c.stop_until)
    query = sa.select(*columns).where(attempts.c.state.in_(_OPEN), attempts.c.gives_way_to == head)
    rows = work.rows(query.order_by(attempts.c.job_id))
    if not rows:
        return None
    shown = ", ".join(row["job_id"] for row in rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
    left = max(0.0, max(row["stop_until"] for row in rows) - work.now)
    whose = "an attempt of a job" if len(rows) == 1 else f"attempts of {len(rows)} jobs"
    return f"{whose} of lower priority will have checkpointed and made room in {left:.0f} s at the latest: {shown}"
