"""The one door to SQL: jobs, attempts, checkpoints, events, tokens and the cluster as it was last seen.

Each method is one short transaction. What it does inside is in `admission`, `attempts` and `rows`; how transactions,
locks and the clock work on the two databases is in `database`. All times are the database's.

Raises, everywhere: NotFoundError for a job that is not there, UnavailableError when the database does not answer,
StorageError when its disk is full.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service import wire
from service.errors import NotFoundError
from service.queue import (
    admission,
    again,
    attempts,
    audit,
    collected,
    data_sets,
    expecting,
    figures,
    identities,
    limits,
    listing,
    models,
    notices,
    order,
    packages,
    retention,
    room,
    shares,
    tokens,
)
from service.queue.database import Database
from service.queue.jobs import (
    FINAL,
    Attempt,
    Capacity,
    Checkpoint,
    Event,
    Job,
    JobState,
    Resources,
    TokenInfo,
    Trigger,
)
from service.queue.listing import Which
from service.queue.notice import Target
from service.queue.policy import Signal
from service.queue.roles import Role
from service.queue.rows import (
    Clocked,
    Transactions,
    attempt_record,
    clean,
    event_record,
    job_record,
    kept_checkpoints,
    policy,
)
from service.queue.schema import attempts as attempts_table
from service.queue.schema import events, jobs
from service.queue.submission import Submission, rows, submit
from service.queue.together import Together
from service.specs.job import JobSpec


class Store(Transactions):
    """The queue in a database. Threads may share it.

    lease_seconds:  how long a claim or heartbeat keeps an attempt's lease
    capacity:       the most that the cluster can ever have, where that is known (an autoscaler's limit); what is seen
                    is added to it
    settle_seconds: a cluster that starts shows its nodes one by one: a queued job is called impossible only when the
                    largest cluster seen has not grown for this long
    preempt_grace_seconds: in which an attempt that makes room for a job of a higher priority may checkpoint; None:
                    nobody is preempted
    grow_seconds:   an elastic gang is given more workers when room for them has been idle for so long; None: never
    """

    def __init__(
        self,
        url: str,
        *,
        lease_seconds: float = 20.0,
        capacity: Capacity | None = None,
        settle_seconds: float = 15.0,
        preempt_grace_seconds: float | None = None,
        grow_seconds: float | None = None,
    ) -> None:
        self.lease_seconds = lease_seconds
        self._capacity = capacity
        self._settle_seconds = settle_seconds
        super().__init__(Database(url))
        self._together = Together(self._database)
        self.data = data_sets.DataSets(self._database)
        self.shares = shares.Shares(self._database)
        self.figures = figures.FigureTables(self._database, lease_seconds)
        self.users = tokens.Users(self._database)
        self.identities = identities.Identities(self._database)
        self.notices = notices.Notices(self._database)
        self.audit = audit.Audit(self._database, self._together)
        self.order = order.Order(self._database)
        self.expected = expecting.Expected(self._database, self._seen)
        self.limits = limits.Limits(self._database)
        self.room = room.Room(self._database, self._seen, preempt_grace_seconds, grow_seconds)
        self.collected = collected.Collected(self._database)

    def migrate(self) -> None:
        """Make or upgrade the tables; safe in several processes at once. Raises StorageError if they are newer than
        this code."""
        self._database.migrate()

    def ping(self) -> None:
        """Raise UnavailableError, without waiting for a restart, unless the database answers and has been prepared."""
        with self._database.read(patient=False) as connection:
            connection.execute(sa.select(jobs.c.id).limit(1))

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

    # --- users ------------------------------------------------------------------------------------------------------

    def submit(
        self,
        spec: JobSpec,
        *,
        owner: str,
        key: str | None = None,
        after: str | None = None,
        notify: Sequence[Target] = (),
    ) -> Job:
        """Put a job into the line. The same owner, key and spec again: the same job, in whatever state it is.

        after: the job that this one follows, which is told so, once. Raises ConflictError when the key was used for
        another spec, ImpossibleError when no cluster that was ever seen could run it, QuotaError when it is more than
        the owner may.
        after: the job that this one follows, which is told so, once. notify: where to tell of it what. Raises
        ConflictError when the key was used for another spec, ImpossibleError when no cluster that was ever seen could
        run it.
        """
        submission = Submission.of(spec, key)

        def put(work: Clocked) -> tuple[RowMapping, admission.Seen, float]:
            known = self._seen(work)
            ((job_id, new),) = submit(work, [submission], owner, known)
            if new and after is not None:
                work.record(after, "followed", job=job_id, what=spec.kind)
            for target in notify:
                notices.subscribe(work, owner, job_id, target)
            return work.job_row(job_id), known, work.now

        row, known, now = self._together.run(put)
        return job_record(row) if row["state"] != JobState.QUEUED else self._placed([row], known, now)[0]

    def submit_all(self, specs: Sequence[tuple[JobSpec, str | None]], *, owner: str) -> list[Job]:
        """Put many jobs, each with its key or none, into the line, in this order: all of them or none.

        Raises what `submit` raises; the error says which spec it is about.
        """
        submissions = [Submission.of(spec, key) for spec, key in specs]
        with self._write() as work:
            known = self._seen(work)
            made = submit(work, submissions, owner, known)
            job_rows, now = rows(work, [job_id for job_id, _ in made]), work.now
        return self._placed(job_rows, known, now)

    def _placed(self, job_rows: Sequence[RowMapping], known: admission.Seen, now: float) -> list[Job]:
        """Return the jobs of rows that have just been written, with their places, counted while no lock is held."""
        with self._read() as work:
            work.set_clock(now)
            return admission.with_places(work, job_rows, known)

    def not_followed(self, job_id: str, kind: str, reason: str) -> None:
        """Note why a job that should follow this one was not submitted. The same again changes nothing."""
        known = sa.select(events.c.detail).where(events.c.job_id == job_id, events.c.kind == "not_followed")
        with self._write() as work:
            work.locked_job(job_id)
            detail = {"what": kind, "reason": clean(reason)}
            if detail not in list(work.connection.scalars(known)):
                work.record(job_id, "not_followed", None, **detail)

    def check_possible(self, resources: Resources) -> None:
        """Raise ImpossibleError, with the reason, when no cluster that was ever seen could run this gang."""
        with self._read() as work:
            admission.refuse_impossible(resources, self._seen(work))

    def _row(self, job_id: str) -> RowMapping:
        with self._read() as work:
            return work.job_row(job_id)

    def job(self, job_id: str) -> Job:
        with self._read() as work:
            return admission.with_places(work, [work.job_row(job_id)], self._seen(work))[0]

    def detail(self, job_id: str) -> wire.JobDetail:
        """Return the job, its attempts (oldest first) and the checkpoints it keeps (newest first)."""
        table = attempts_table
        with self._read() as work:
            row = work.job_row(job_id)
            query = sa.select(table).where(table.c.job_id == job_id).order_by(table.c.number)
            return wire.JobDetail(
                job=admission.with_places(work, [row], self._seen(work))[0],
                attempts=tuple(attempt_record(attempt) for attempt in work.rows(query)),
                checkpoints=self._checkpoints(work, row),
            )

    def owner(self, job_id: str) -> str:
        """Return the job's owner."""
        with self._read() as work:
            return str(work.job_row(job_id)["owner"])

    def owned(self, job_ids: Collection[str], owner: str) -> set[str]:
        """Return which of these jobs are `owner`'s."""
        query = sa.select(jobs.c.id).where(jobs.c.id.in_(job_ids), jobs.c.owner == owner)
        with self._read() as work:
            return set(work.connection.scalars(query))

    def jobs(
        self,
        states: Collection[JobState] | None = None,
        limit: int = 100,
        before: str | None = None,
        owner: str | None = None,
        which: Which | None = None,
    ) -> list[Job]:
        """Return jobs, newest first: `before` the job of that id, `owner`'s only, and of these those that `which`
        names; place and reason for those in the line."""
        query = sa.select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        if states is not None:
            query = query.where(jobs.c.state.in_([JobState(state).value for state in states]))
        if before is not None:
            query = query.where(jobs.c.id < before)
        if which is not None:
            query = which.narrow(query)
        with self._read() as work:
            listed = admission.with_places(work, work.rows(query), self._seen(work))
            return listing.counted(work, listed) if which is not None and which.together else listed

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return the events with an id above `after`, oldest first."""
        query = sa.select(events).where(events.c.job_id == job_id, events.c.id > after)
        with self._read() as work:
            work.job_row(job_id)
            return [event_record(row) for row in work.rows(query.order_by(events.c.id).limit(limit))]

    def cancel(self, job_id: str, *, by: str) -> Job:
        """Cancel a queued job at once; ask a running one to stop. Asking again is harmless.

        Raises ConflictError when the job has SUCCEEDED or FAILED.
        """
        with self._write() as work:
            row = work.locked_job(job_id)
            if row["state"] not in (JobState.CANCELLING, JobState.CANCELLED):
                values: dict[str, Any] = {"cancel_requested_at": work.now}
                if JobState(row["state"]) in order.OUTSIDE:
                    values |= {"ended_at": work.now, "tracked": False, "reason": None}
                    order.forget(work, job_id)
                work.move(row, Trigger.CANCEL, "cancel_requested", detail={"by": by}, **values)
            return work.job(job_id)

    def retry(self, job_id: str, *, by: str) -> Job:
        """Queue the job again, at its old place, with a fresh retry budget; its checkpoints are kept.

        Raises ConflictError unless the job is FAILED or CANCELLED, NotFoundError where its data have been removed.
        """
        with self._write() as work:
            again.retry(work, job_id, by)
            row = work.job_row(job_id)
            data_sets.need(work, job_id, data_sets.digests(row["spec"]))
        return self._told(row)

    def signal(self, job_id: str, signal: Signal, *, by: str) -> Job:
        """Send a running job a signal that its kind understands. Asking again is harmless.

        Raises ConflictError when it is over, being cancelled, or of a kind that does not listen.
        """
        with self._write() as work:
            row = work.locked_job(job_id)
            again.signal(work, row, signal, by)
        return self._told(row)

    def amend(self, amendment: again.Amendment, *, by: str) -> Job:
        """Give a job another spec of its kind. The same again changes nothing.

        One that is over goes back into the line with it; one that runs is followed by another attempt. Raises
        ConflictError while the job is being cancelled, or when somebody else amended it in the meantime.
        """
        with self._write() as work:
            again.amend(work, amendment, by)
            row = work.job_row(amendment.job.id)
            data_sets.need(work, amendment.job.id, data_sets.digests(row["spec"]))
        return self._told(row)

    # --- tokens -----------------------------------------------------------------------------------------------------

    def add_token(self, name: str, token: str, *, admin: bool = False) -> None:
        """Let `token` act as `name`, as an administrator if asked to. Only its SHA-256 is kept. The same pair again is
        harmless (and takes nobody's role away).

        Raises ConflictError when the name has another token, or the token another name.
        """
        with self._write() as work:
            tokens.add(work, name, token, admin=admin)

    def token_user(self, token: str) -> TokenInfo | None:
        """Return the token's user, with role and scopes; None for a token that is unknown or past its end."""
        with self._read() as work:
            return tokens.find(work, token)

    def tokens(self) -> list[TokenInfo]:
        """Return the tokens' users, by name."""
        with self._read() as work:
            return tokens.all_of(work)

    def set_role(self, name: str, *, admin: bool) -> None:
        """Make a user an administrator, or an ordinary user. Raises NotFoundError when `name` has no token."""
        with self._write() as work:
            tokens.set_role(work, name, Role.ADMIN if admin else Role.USER)

    def revoke_token(self, name: str) -> None:
        """Revoke every token of `name`. Raises NotFoundError when there is none."""
        with self._write() as work:
            tokens.revoke(work, name)

    # --- the dispatcher ---------------------------------------------------------------------------------------------

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
            made = admission.admit(work, self._seen(work))
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
            work.locked_job(job_id)
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
            work.locked_job(job_id)
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

    # --- attempts ---------------------------------------------------------------------------------------------------
    # All raise FencedError when the attempt is superseded, over, not claimed, or another runner's.

    def claim(self, job_id: str, number: int, runner_id: str) -> tuple[Job, tuple[Checkpoint, ...]]:
        """Make `runner_id` the attempt's runner; return the job with the gang that the attempt has, and what to resume
        from. The same runner may ask again."""

        def claim(work: Clocked) -> tuple[Job, tuple[Checkpoint, ...]]:
            attempts.claim(work, job_id, number, runner_id, self.lease_seconds)
            row = work.job_row(job_id)
            return attempts.of_its_size(work, job_record(row), number), self._checkpoints(work, row)

        return self._together.run(claim)

    def heartbeat(self, job_id: str, number: int, runner_id: str) -> wire.HeartbeatReply:
        """Renew the lease; return whether to stop."""
        return self._together.run(lambda work: attempts.heartbeat(work, job_id, number, runner_id, self.lease_seconds))

    def progress(self, job_id: str, number: int, report: wire.ProgressReport) -> wire.HeartbeatReply:
        """Note how far the run is; the lease is not renewed."""
        return self._together.run(lambda work: attempts.progress(work, job_id, number, report, self.lease_seconds))

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

    # --- registered models ------------------------------------------------------------------------------------------

    def check_held(self, job_id: str, number: int) -> Job:
        """Return the job, if `number` is its open attempt and claimed. Raises FencedError otherwise."""
        with self._write() as work:
            return job_record(attempts.held(work, job_id, number))

    def put_model_version(
        self,
        job_id: str,
        name: str,
        mlflow_version: int | None,
        sign: Callable[[int], str],
        *,
        number: int | None = None,
    ) -> models.VersionRow:
        """Store the job's version of the model, with the envelope that `sign` makes of its number. Idempotent.

        mlflow_version: MLflow's number, which the version gets unless somebody has it. number: of the attempt that
        asks; raises FencedError when that is superseded or over.
        """
        with self._write() as work:
            if number is not None:
                attempts.held(work, job_id, number)
            return models.put(work, job_id, name, mlflow_version, sign)

    def needs_package(self, digest: str, ended_after: float) -> bool:
        """Return whether a job needs this package of own code: one that is not over, or has been over since then."""
        with self._read() as work:
            return packages.needed(work, digest, ended_after)

    def model_versions(self, name: str | None = None) -> list[models.VersionRow]:
        """Return the versions of every model (or of `name`), by name and number."""
        with self._read() as work:
            return models.every(work, name)

    def model_version(self, job_id: str) -> models.VersionRow | None:
        """Return the job's model version, if it has one."""
        with self._read() as work:
            return models.of_job(work, job_id)

    def _checkpoints(self, work: Clocked, job: RowMapping) -> tuple[Checkpoint, ...]:
        return retention.marked(kept_checkpoints(work, job["id"]), policy(job).retention)
