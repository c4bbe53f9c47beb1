"""Which jobs may be in the line, and in which order: holds and priorities. HELD jobs wait outside the line.

A job is HELD while anything keeps it there: somebody who holds it back, jobs that it comes after
(`service.queue.dependencies`), or others of its array that go first (`service.queue.arrays`). What that is stands as
its reason for waiting, written down whenever it changes. It keeps its id, and with it its place in the line, for when
it is released.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service.errors import ConflictError
from service.queue import arrays, dependencies, shares
from service.queue.database import Database
from service.queue.jobs import JobState, Resources, Trigger
from service.queue.rows import Clocked
from service.queue.schema import holds

OUTSIDE = (JobState.QUEUED, JobState.HELD)  # the states between which holding and releasing moves a job


def keeps(work: Clocked, job: RowMapping, *, turn: bool = False) -> list[str]:
    """Return what keeps the job out of the line, a sentence each; none: it may be in it. turn: it is its turn in its
    array."""
    job_id = job["id"]
    hold = work.row(sa.select(holds).where(holds.c.job_id == job_id))
    held = [] if hold is None else [f"held by {hold['by']}; `vaesvc release {job_id}` puts it into the line"]
    return [*dependencies.waits(work, job_id), *([] if turn else arrays.waits(work, job)), *held]


def settle(work: Clocked, job: RowMapping, by: str | None = None, *, turn: bool = False) -> None:
    """Move the job out of the line or into it, as what keeps it out says. `job` is a row from `locked_job`.

    turn: it is its turn in its array, as admission alone can know. by: who caused it; None: nobody, something came to
    pass. A job that is in neither place stays as it is.
    """
    state = JobState(job["state"])
    if state not in OUTSIDE:
        return
    why = "; ".join(keeps(work, job, turn=turn)) or None
    detail = {} if by is None else {"by": by}
    if state is JobState.QUEUED and why is not None:
        work.move(job, Trigger.HOLD, "held", detail=detail, reason=why)
    elif state is JobState.HELD and why is None:
        work.move(job, Trigger.RELEASE, "released", detail=detail, reason=None)
    elif state is JobState.HELD and why != job["reason"]:
        work.update_job(job["id"], reason=why)


class Order:
    """What users change of the line. Each method is one short transaction; asking again is harmless."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def hold(self, job_id: str, *, by: str) -> None:
        """Keep a waiting job out of the line until it is released.

        Raises NotFoundError, ConflictError for a job that does not wait.
        """
        with self._database.write() as connection:
            work = Clocked(self._database, connection)
            job = work.locked_job(job_id)
            if JobState(job["state"]) not in OUTSIDE:
                raise ConflictError(
                    f"job {job_id} is {job['state']}: only a job that waits can be held. `vaesvc cancel {job_id}` "
                    "stops one that runs, at a checkpoint from which `vaesvc retry` goes on"
                )
            if work.row(sa.select(holds.c.job_id).where(holds.c.job_id == job_id)) is None:
                work.connection.execute(sa.insert(holds).values(job_id=job_id, by=by, at=work.now))
                settle(work, job, by)

    def release(self, job_id: str, *, by: str) -> None:
        """Let a held job into the line, at its old place, unless something else keeps it out. Raises NotFoundError."""
        with self._database.write() as connection:
            work = Clocked(self._database, connection)
            job = work.locked_job(job_id)
            work.connection.execute(sa.delete(holds).where(holds.c.job_id == job_id))
            settle(work, job, by)

    def rest(self) -> None:
        """Look no more for turns in arrays of which no job waits. For the dispatcher, after its look."""
        with self._database.read() as connection:
            idle = arrays.idle(Clocked(self._database, connection))
        for array in idle:
            with self._database.write() as connection:
                arrays.rest(Clocked(self._database, connection), array)

    def reprioritize(self, job_id: str, priority: int, *, by: str, admin: bool = False) -> None:
        """Give the job another priority: its place in the line now, or when it is in it again. Its spec stays.

        admin: no quota bounds who asks. Raises NotFoundError, ConflictError for a job that is over, QuotaError.
        """
        with self._database.write() as connection:
            work = Clocked(self._database, connection)
            job = work.locked_job(job_id)
            if JobState(job["state"]).final:
                raise ConflictError(f"job {job_id} is {job['state']}: it has no place in the line")
            if job["priority"] == priority:
                return
            if priority > job["priority"] and not admin:
                shares.check_priority(work, job["owner"], Resources.model_validate(job["resources"]), priority)
            work.update_job(job_id, priority=priority, lane="")  # which lane it is in now is found at the next look
            detail = {"by": by, "from_priority": job["priority"], "priority": priority}
            work.record(job_id, "reprioritized", job["attempt"] or None, **detail)


def look(work: Clocked) -> None:
    """Let the jobs into the line whose dependencies are met by now or whose turn it is in their array, and end those
    whose dependencies can never be. Needs the admission lock. One that ends may decide about others: they are looked
    at, too."""
    while ids := dependencies.decided(work):
        for job_id in ids:
            job = work.locked_job(job_id)
            if job["state"] != JobState.HELD:
                continue
            never = dependencies.meet(work, job_id)
            if never is None:
                settle(work, job)
            else:
                values = {"reason": never, "ended_at": work.now, "tracked": False}
                work.move(job, Trigger.REFUSE, "refused", detail={"reason": never}, **values)
                forget(work, job_id)
    for job_id in arrays.turns(work):
        job = work.locked_job(job_id)
        if job["state"] == JobState.HELD:
            settle(work, job, turn=True)


def forget(work: Clocked, job_id: str) -> None:
    """Drop the hold on a job that is over: tried again, it enters the line."""
    work.connection.execute(sa.delete(holds).where(holds.c.job_id == job_id))
