"""What the dispatcher says to the store and asks of it. Each method is one short transaction."""

from __future__ import annotations

import sqlalchemy as sa

from service import wire
from service.errors import NotFoundError
from service.queue import admission, attempts
from service.queue.jobs import FINAL, Attempt, Capacity, Job, JobState
from service.queue.opened import Opened
from service.queue.order import Order
from service.queue.rows import attempt_record, job_record
from service.queue.schema import attempts as attempts_table
from service.queue.schema import jobs


class Dispatching(Opened):
    """The dispatcher's part of the store."""

    order: Order

    def observe_cluster(self, capacity: Capacity, *, address: str, ok: bool) -> None:
        """Note what the cluster has now (`ok`: it answered). The largest ever seen decides what is impossible."""
        with self._write() as work:
            self._database.lock_admission(work.connection)
            admission.observe(work, capacity, address, ok)

    def cluster(self) -> wire.ClusterStatus:
        with self._read() as work:
            return admission.status(work, self._seen(work))

    def admit(self) -> list[Attempt]:
        """Make attempts for the gangs that can start now; nobody else admits meanwhile. Impossible jobs FAIL."""
        with self._write() as work:
            self._database.lock_admission(work.connection)
            work.read_clock()
            made = admission.admit(work, self._seen(work), self._stored)
        self.order.rest()
        return made

    def open_attempts(self) -> list[tuple[Job, Attempt]]:
        """Return the attempts that start, run or are being cancelled, with their jobs, oldest first."""
        table = attempts_table
        query = sa.select(table).where(table.c.state.in_(admission.OPEN)).order_by(table.c.created_at, table.c.job_id)
        with self._read() as work:
            open_now = {row["job_id"]: attempt_record(row) for row in work.rows(query)}
            rows = {row["id"]: row for row in work.rows(sa.select(jobs).where(jobs.c.id.in_(open_now)))}
            return [(job_record(rows[job_id]), attempt) for job_id, attempt in open_now.items()]

    def mark_submitted(self, job_id: str, number: int) -> None:
        """Note that the attempt has been handed to Ray. Again, or for an attempt that is over, it changes nothing."""
        with self._write() as work:
            work.locked_job(job_id, number)
            attempt = work.attempt_row(job_id, number)
            if attempt is not None and attempt["submitted_at"] is None and attempt["ended_at"] is None:
                work.update_attempt(job_id, number, submitted_at=work.now)
                work.record(job_id, "submitted_to_ray", number)

    def attempt_lost(
        self, job_id: str, number: int, reason: str, *, retryable: bool = True, outage: bool = False
    ) -> Job | None:
        """End an attempt that was never claimed or whose lease is over; return None, changing nothing, while it is
        held.

        outage: its machines were lost, and not by the job's fault: it does not count against `retry.max_attempts`. An
        attempt that is over already: the job as it is. Raises FencedError for an attempt that never was.
        """
        with self._write() as work:
            ended = attempts.lost(work, job_id, number, reason, retryable=retryable, outage=outage)
            row = work.job_row(job_id)
        return self._told(row) if ended else None

    def cancel_finished(self, job_id: str, number: int) -> Job | None:
        """Move CANCELLING -> CANCELLED, for an attempt without a runner; return None while its lease is held."""
        with self._write() as work:
            ended = attempts.cancel_finished(work, job_id, number)
            row = work.job_row(job_id)
        return self._told(row) if ended else None

    def set_log(self, job_id: str, number: int, uri: str) -> None:
        """Note where the attempt's log is kept; allowed after the attempt's end, too."""
        with self._write() as work:
            work.locked_job(job_id, number)
            attempt = work.attempt_row(job_id, number)
            if attempt is None:
                raise NotFoundError(f"{job_id} has no attempt {number}")
            if attempt["log_uri"] != uri:
                work.update_attempt(job_id, number, log_uri=uri)
                work.record(job_id, "log", number, uri=uri)

    def untracked(self) -> list[Job]:
        """Return the jobs that are over and whose MLflow run has not been closed yet, oldest first."""
        final = [state.value for state in FINAL]
        query = sa.select(jobs).where(jobs.c.state.in_(final), jobs.c.tracked.is_(False)).order_by(jobs.c.id)
        with self._read() as work:
            return [job_record(row) for row in work.rows(query)]

    def tracked(self, job_id: str) -> None:
        """Note that the MLflow run has been closed. Changes nothing for a job that has been queued again meanwhile."""
        with self._write() as work:
            if JobState(work.locked_job(job_id)["state"]).final:
                work.update_job(job_id, tracked=True)
