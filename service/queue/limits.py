"""How long jobs and attempts may take, and attempts that hang: looked at by the dispatcher, written down, and told to
the runner with its next heartbeat.

max_seconds, deadline    the job is cancelled: it checkpoints, ends CANCELLED with the reason, and `retry` goes on
attempt_seconds          the attempt checkpoints and fails with the reason; another may follow (`retry.max_attempts`)
a hang                   the training loop, which comes by about once a second or step, has been away for `hang_factor`
                         times the longest that it ever was, and for `hang_seconds`: its stacks go into its log, the
                         attempt fails, and another one goes on from the last checkpoint, on other nodes if there are

What is tried again or given more to do has its max_seconds anew; a deadline that has passed does not count any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service.queue import line, order, reservation
from service.queue.database import Database
from service.queue.jobs import FINAL, AttemptState, JobState, Trigger, submission_id
from service.queue.rows import Clocked
from service.queue.schema import attempts, jobs, limits
from service.specs.job import HANG_FACTOR, HANG_SECONDS, TimeLimits

_OPEN = [state.value for state in AttemptState if state.open]
_FINAL = [state.value for state in FINAL]


def note(work: Clocked, job_id: str, given: TimeLimits) -> None:
    """Note the limits of a new job, where they are not those of most."""
    if given != TimeLimits():
        work.connection.execute(sa.insert(limits).values(job_id=job_id, before=0, **given.model_dump()))


def renew(work: Clocked, job: RowMapping) -> None:
    """Begin anew with a job that goes back into the line: what it took before does not count."""
    work.connection.execute(sa.update(limits).where(limits.c.job_id == job["id"]).values(before=job["attempt"]))
    passed = (limits.c.job_id == job["id"], limits.c.deadline <= work.now)
    work.connection.execute(sa.update(limits).where(*passed).values(deadline=None))


class BoundColumns(NamedTuple):
    """What bounds an attempt, as columns: the attempt's own, and the limits of its job by an outer join."""

    created_at: Any = attempts.c.created_at
    started_at: Any = attempts.c.started_at
    stop_until: Any = attempts.c.stop_until
    max_seconds: Any = limits.c.max_seconds
    attempt_seconds: Any = limits.c.attempt_seconds
    deadline: Any = limits.c.deadline
    before: Any = limits.c.before
    state: Any = jobs.c.state
    cancel_requested_at: Any = jobs.c.cancel_requested_at


def until(row: RowMapping, now: float) -> float | None:
    """Return when an open attempt has left its gang at the latest, by what its job may take (`reservation`); None where
    nothing bounds it. row: with `BoundColumns`.

    What earlier attempts took of max_seconds is not looked up: the bound is later than it need be. One that nobody
    has claimed START_SECONDS after its admission is counted as if it were claimed now.
    """
    bounds = []
    if row["stop_until"] is not None:  # it gives way: what it was asked to make room for is not passed meanwhile
        bounds.append(max(now, row["stop_until"]) + reservation.ENDS_SECONDS)
    seconds = line.least(row["max_seconds"], row["attempt_seconds"])
    if seconds is not None:
        begin = row["started_at"]
        if begin is None:
            begin = max(now, row["created_at"] + reservation.START_SECONDS)
        bounds.append(begin + seconds + reservation.ENDS_SECONDS)
    if row["before"] is not None and row["state"] == JobState.CANCELLING:  # its deadline has been seen to, say
        bounds.append(row["cancel_requested_at"] + reservation.ENDS_SECONDS)
    if row["deadline"] is not None:
        bounds.append(max(now, row["deadline"]) + reservation.ENDS_SECONDS)
    return min(bounds, default=None)


class Limits:
    """What the dispatcher looks at. Several may look at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, nodes_of: Callable[[str], Collection[str]] = lambda name: ()) -> list[str]:
        """End what has taken as long as it may, and attempts that hang; return what was done, a sentence each.

        nodes_of: of an attempt, by its name in Ray, Ray's ids of the nodes that its workers are on
        """
        with self._database.read() as connection:
            work = Clocked(self._database, connection)
            over, slow = list(_over(work)), list(_slow(work))
        said = []
        for job_id, why in over:
            with self._database.write() as connection:
                if _cancel(Clocked(self._database, connection), job_id, why):
                    said.append(f"{job_id} is cancelled: {why}")
        for job_id, number, why, hangs in slow:
            nodes = sorted(nodes_of(submission_id(job_id, number))) if hangs else []
            with self._database.write() as connection:
                if _stop(Clocked(self._database, connection), job_id, number, why, hangs, nodes):
                    said.append(f"{job_id}-{number} shall end: {why}")
        return said

    def avoid(self, job_id: str, number: int) -> tuple[str, ...]:
        """Return Ray's ids of the nodes that this attempt shall keep away from: the one before it hung there."""
        if number <= 1:
            return ()
        which = (attempts.c.job_id == job_id, attempts.c.number == number - 1, attempts.c.hangs.is_(True))
        with self._database.read() as connection:
            return tuple(connection.scalar(sa.select(attempts.c.hung_on).where(*which)) or ())


def _over(work: Clocked) -> Iterator[tuple[str, str]]:
    """Yield the jobs that are past their deadline, or have run for as long as they may, and why they end."""
    late = sa.select(limits.c.job_id).where(limits.c.deadline <= work.now)
    for job_id in work.connection.scalars(late):
        yield job_id, "its deadline has passed"
    running = (
        sa.select(limits.c.job_id, limits.c.max_seconds, limits.c.before)
        .join(attempts, attempts.c.job_id == limits.c.job_id)
        .where(attempts.c.state.in_(_OPEN), limits.c.max_seconds.is_not(None))
    )
    for row in work.rows(running):
        ended = sa.func.coalesce(attempts.c.ended_at, work.now)
        which = (attempts.c.job_id == row["job_id"], attempts.c.number > row["before"])
        took = work.connection.scalar(sa.select(sa.func.sum(ended - attempts.c.started_at)).where(*which)) or 0.0
        if took >= row["max_seconds"]:
            yield row["job_id"], f"it has run for the {row['max_seconds']:g} s that it may (limits.max_seconds)"


def _slow(work: Clocked) -> Iterator[tuple[str, int, str, bool]]:
    """Yield the attempts that have run for as long as they may, or hang: job, number, why, and whether it hangs."""
    query = (
        sa.select(
            attempts.c.job_id, attempts.c.number, attempts.c.started_at, attempts.c.moved_at, attempts.c.usual_seconds,
            limits.c.job_id.label("limited"), limits.c.attempt_seconds, limits.c.hang_seconds, limits.c.hang_factor,
        )
        .outerjoin(limits, limits.c.job_id == attempts.c.job_id)
        .where(attempts.c.state == AttemptState.RUNNING.value, attempts.c.stop_reason.is_(None))
    )  # fmt: skip
    for row in work.rows(query):
        if why := _hangs(row, work.now):
            yield row["job_id"], row["number"], why, True
        elif row["attempt_seconds"] is not None and work.now - row["started_at"] >= row["attempt_seconds"]:
            why = f"the attempt has run for the {row['attempt_seconds']:g} s that it may (limits.attempt_seconds)"
            yield row["job_id"], row["number"], why, False


def _hangs(row: RowMapping, now: float) -> str | None:
    """Return why an attempt is taken to hang; None where it is not."""
    least = HANG_SECONDS if row["limited"] is None else row["hang_seconds"]
    factor = HANG_FACTOR if row["limited"] is None else row["hang_factor"]
    if least is None or row["moved_at"] is None:
        return None
    idle, usual = now - row["moved_at"], row["usual_seconds"]
    if idle < max(least, factor * usual):
        return None
    return f"it hangs: no step for {idle:.0f} s, and {usual:.3g} s at most before"


def _cancel(work: Clocked, job_id: str, why: str) -> bool:
    """Cancel a job that is not over, with the reason. Its deadline is seen to, once and for all."""
    job = work.locked_job(job_id)
    passed = (limits.c.job_id == job_id, limits.c.deadline <= work.now)
    work.connection.execute(sa.update(limits).where(*passed).values(deadline=None))
    state = JobState(job["state"])
    if state.final or state is JobState.CANCELLING:
        return False
    values: dict[str, Any] = {"cancel_requested_at": work.now, "reason": why}
    if state in order.OUTSIDE:
        values |= {"ended_at": work.now, "tracked": False}
        order.forget(work, job_id)
    work.move(job, Trigger.CANCEL, "cancel_requested", detail={"reason": why}, **values)
    return True


def _stop(work: Clocked, job_id: str, number: int, why: str, hangs: bool, nodes: list[str]) -> bool:
    """Ask an attempt to end, if it still runs, has not been asked, and has not moved since. nodes: where it hangs."""
    work.locked_job(job_id)
    which = (attempts.c.job_id == job_id, attempts.c.number == number)
    query = (
        sa.select(attempts, limits.c.job_id.label("limited"), limits.c.hang_seconds, limits.c.hang_factor)
        .outerjoin(limits, limits.c.job_id == attempts.c.job_id)
        .where(*which)
    )
    row = work.row(query)
    if row is None or row["state"] != AttemptState.RUNNING or row["stop_reason"] is not None:
        return False
    if hangs and _hangs(row, work.now) is None:
        return False
    work.update_attempt(job_id, number, stop_reason=why, hangs=hangs, hung_on=nodes or None)
    work.record(job_id, "stop_asked", number, reason=why, **({"nodes": nodes} if nodes else {}))
    return True
