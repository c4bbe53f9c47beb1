"""What attempts say to the store and ask of it. Each method is one short transaction.

All raise FencedError when the attempt is superseded, over, not claimed, or another runner's.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service import wire
from service.queue import attempts
from service.queue.jobs import Checkpoint, Job
from service.queue.opened import Opened
from service.queue.rows import Clocked, job_record
from service.queue.schema import attempts as attempts_table
from service.queue.schema import jobs


class Runners(Opened):
    """The attempts' part of the store."""

    def claim(self, job_id: str, number: int, runner_id: str) -> tuple[Job, tuple[Checkpoint, ...]]:
        """Make `runner_id` the attempt's runner; return the job with the gang that the attempt has, and what to resume
        from. The same runner may ask again."""

        def claim(work: Clocked) -> tuple[Job, tuple[Checkpoint, ...]]:
            with work.in_one():
                resumable = attempts.claim(work, job_id, number, runner_id, self.lease_seconds)
            row = work.job_row(job_id)
            checkpoints = self._checkpoints(work, row) if resumable else ()
            return attempts.of_its_size(work, job_record(row), number), checkpoints

        return self._together.run(claim)

    def heartbeat(self, job_id: str, number: int, runner_id: str) -> wire.HeartbeatReply:
        """Renew the lease; return whether to stop."""
        return self._together.run(lambda work: attempts.heartbeat(work, job_id, number, runner_id, self.lease_seconds))

    def progress(self, job_id: str, number: int, report: wire.ProgressReport) -> wire.HeartbeatReply:
        """Note how far the run is; the lease is not renewed."""

        def progress(work: Clocked) -> wire.HeartbeatReply:
            with work.in_one():
                return attempts.progress(work, job_id, number, report, self.lease_seconds)

        return self._together.run(progress)

    def commit_checkpoint(self, job_id: str, number: int, checkpoint: Checkpoint) -> wire.CheckpointReply:
        """Make the job resume from this checkpoint; return which ones the caller must delete. Idempotent by address.

        Raises ConflictError when the address holds another manifest.
        """
        return self._together.run(lambda work: attempts.commit_checkpoint(work, job_id, number, checkpoint))

    def checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """Return the checkpoints that the job keeps, newest first, the best one marked."""
        with self._read() as work:
            return self._checkpoints(work, work.job_row(job_id))

    def finish(self, job_id: str, number: int, request: wire.FinishRequest) -> Job:
        """Take the runner's final report; the same again is harmless. Raises ConflictError for another one."""

        def finish(work: Clocked) -> RowMapping:
            with work.in_one():
                attempts.finish(work, job_id, number, request)
            return work.job_row(job_id)

        return self._told(self._together.run(finish))

    def attempt_open(self, job_id: str, number: int) -> bool:
        """Return whether attempt `number` of the job is its newest and not over."""
        query = sa.select(jobs.c.id).where(
            jobs.c.id == job_id,
            jobs.c.attempt == number,
            attempts_table.c.job_id == jobs.c.id,
            attempts_table.c.number == jobs.c.attempt,
            attempts_table.c.ended_at.is_(None),
        )
        with self._read() as work:
            return work.connection.scalar(query) is not None

    def check_held(self, job_id: str, number: int) -> Job:
        """Return the job, if `number` is its open attempt and claimed. Raises FencedError otherwise."""
        with self._write() as work:
            return job_record(attempts.held(work, job_id, number))
