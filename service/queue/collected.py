"""What of ended jobs may go from the bucket, as SQL knows it: called by `service.gc` and by nobody else."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from service.queue.database import Database
from service.queue.jobs import FINAL, Record
from service.queue.rows import Clocked
from service.queue.schema import checkpoints, jobs

CHUNK = 500  # jobs asked for at a time
COLLECTED = "collected"  # in place of the checkpoint for which one was given up


class Ended(Record):
    """A job that is over, and all that follows it is done. ended_at: seconds since 1970."""

    job_id: str
    name: str
    ended_at: float


class Collected:
    """The part of the queue that is about what ended jobs leave behind. Each method is one short transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ended(self, job_ids: Collection[str]) -> dict[str, Ended]:
        """Return those of the jobs that are over and followed up, by id."""
        final = [state.value for state in FINAL]
        wanted, over = sorted(job_ids), {}
        with self._database.read() as connection:
            for start in range(0, len(wanted), CHUNK):
                query = sa.select(jobs.c.id, jobs.c.name, jobs.c.ended_at).where(
                    jobs.c.id.in_(wanted[start : start + CHUNK]), jobs.c.state.in_(final), jobs.c.tracked.is_(True)
                )
                for job_id, name, ended_at in connection.execute(query):
                    if ended_at is not None:
                        over[job_id] = Ended(job_id=job_id, name=name, ended_at=ended_at)
        return over

    def wanted(self) -> set[str]:
        """Return every address in the bucket that a job which is not over names in its spec."""
        final = [state.value for state in FINAL]
        with self._database.read() as connection:
            specs = connection.scalars(sa.select(jobs.c.spec).where(jobs.c.state.not_in(final)))
            return {address for spec in specs for address in _addresses(spec)}

    def give_up(self, job_id: str, what: str, size: int, *, weights: bool) -> bool:
        """Note that files of a job go, unless it is not over any more. weights: its checkpoints are among them, from
        which nobody goes on from here on. size: bytes."""
        with self._database.write() as connection:
            work = Clocked(self._database, connection)
            job = work.locked_job(job_id)
            if job["state"] not in FINAL:
                return False
            if weights:
                which = (checkpoints.c.job_id == job_id, checkpoints.c.given_up_for.is_(None))
                connection.execute(sa.update(checkpoints).where(*which).values(given_up_for=COLLECTED))
            work.record(job_id, "collected", None, what=what, bytes=size)
            return True


def _addresses(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith("s3://"):
            yield value.rstrip("/")
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _addresses(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _addresses(part)
