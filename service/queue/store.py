"""The one door to SQL: jobs, attempts, checkpoints, events, tokens and the cluster as it was last seen.

Each method is one short transaction. How jobs come in is in `submitting`, what the dispatcher and the attempts ask in
`dispatching` and `runners`; what is done inside of the transactions in `admission`, `attempts` and `rows`; how
transactions, locks and the clock work on the two databases is in `database`. All times are the database's.

Raises, everywhere: NotFoundError for a job that is not there, UnavailableError when the database does not answer,
StorageError when its disk is full.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service import wire
from service.queue import (
    admission,
    again,
    attempts,
    audit,
    collected,
    data_sets,
    drains,
    expecting,
    figures,
    identities,
    limits,
    listing,
    models,
    nodes,
    notices,
    order,
    packages,
    room,
    shares,
    tokens,
)
from service.queue.dispatching import Dispatching
from service.queue.jobs import Capacity, Event, Job, JobState, Resources, TokenInfo, Trigger
from service.queue.listing import Which
from service.queue.policy import Signal
from service.queue.roles import Role
from service.queue.rows import attempt_record, clean, event_record
from service.queue.runners import Runners
from service.queue.schema import attempts as attempts_table
from service.queue.schema import events, jobs
from service.queue.submitting import Submitting


class Store(Submitting, Runners, Dispatching):
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
        super().__init__(url, lease_seconds=lease_seconds, capacity=capacity, settle_seconds=settle_seconds)
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
        self.drains = drains.Drains(self._database)
        self.nodes = nodes.Nodes(self._database)
        self.collected = collected.Collected(self._database)

    def migrate(self) -> None:
        """Make or upgrade the tables; safe in several processes at once. Raises StorageError if they are newer than
        this code."""
        self._database.migrate()

    def ping(self) -> None:
        """Raise UnavailableError, without waiting for a restart, unless the database answers and has been prepared."""
        with self._database.read(patient=False) as connection:
            connection.execute(sa.select(jobs.c.id).limit(1))

    # --- users ------------------------------------------------------------------------------------------------------

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

    # --- registered models ------------------------------------------------------------------------------------------

    def put_model_version(
        self,
        job_id: str,
        name: str,
        mlflow_version: int | None,
        sign: Callable[[int], str],
        *,
        number: int | None = None,
        bytes: int | None = None,
    ) -> models.VersionRow:
        """Store the job's version of the model, with the envelope that `sign` makes of its number. Idempotent.

        mlflow_version: MLflow's number, which the version gets unless somebody has it. number: of the attempt that
        asks; raises FencedError when that is superseded or over. bytes: of all its files.
        """
        with self._write() as work:
            if number is not None:
                attempts.held(work, job_id, number)
            return models.put(work, job_id, name, mlflow_version, sign, bytes=bytes)

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
