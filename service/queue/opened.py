"""The store as it is opened: the database, what is known of the cluster, and the answers that its parts share."""

from __future__ import annotations

from sqlalchemy.engine import RowMapping

from service.queue import admission, retention
from service.queue.database import Database
from service.queue.jobs import Capacity, Checkpoint, Job, JobState
from service.queue.rows import Clocked, Transactions, job_record, kept_checkpoints, policy
from service.queue.stored import Lately
from service.queue.together import Together


class Opened(Transactions):
    """A database that is open, and how the queue in it is kept. `service.queue.store.Store` says what each means."""

    def __init__(self, url: str, *, lease_seconds: float, capacity: Capacity | None, settle_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self._capacity = capacity
        self._settle_seconds = settle_seconds
        super().__init__(Database(url))
        self._together = Together(self._database)
        self._stored = Lately()

    def close(self) -> None:
        self._database.close()

    def _seen(self, work: Clocked) -> admission.Seen:
        return admission.seen(work, self._capacity, self._settle_seconds)

    def _told(self, row: RowMapping) -> Job:
        """Return the job of `row`, with its place in the line, which is computed while no lock is held."""
        if row["state"] != JobState.QUEUED:
            return job_record(row)
        with self._read() as work:
            return admission.with_places(work, [row], self._seen(work))[0]

    def _checkpoints(self, work: Clocked, job: RowMapping) -> tuple[Checkpoint, ...]:
        return retention.marked(kept_checkpoints(work, job["id"]), policy(job).retention)
