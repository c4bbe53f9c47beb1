"""Who is told of what, and what is still to be told: the outbox's other end.

A message is claimed for a while, delivered outside of any transaction, and then noted as delivered or tried again
later. Whoever dies in between has it delivered again, by somebody else: at least once, always with the same id.
"""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from service.errors import ConflictError, NotFoundError
from service.queue.jobs import JobState
from service.queue.notice import Message, Notice, Subscription, Target
from service.queue.outbox import row_of
from service.queue.rows import Clocked, Transactions, clean
from service.queue.schema import jobs, outbox, subscriptions

MOST = 50  # subscriptions of one user, besides those of single jobs
MOST_OF_A_JOB = 10
FIRST_SECONDS = 5.0  # after a first failure; then twice as long each time
LONGEST_SECONDS = 1800.0
GIVEN_UP_SECONDS = 3 * 86_400.0  # after so long
KEPT_SECONDS = 7 * 86_400.0  # what has been delivered or given up
AT_ONCE = 200  # jobs that wait for long, of one look


def subscribe(work: Clocked, owner: str, job_id: str | None, target: Target) -> str:
    """Note a wish, and return its id; the same again is the same. Raises ConflictError for too many."""
    scope = subscriptions.c.job_id.is_(None) if job_id is None else subscriptions.c.job_id == job_id
    there = work.rows(sa.select(subscriptions).where(subscriptions.c.owner == owner, scope))
    wanted = sorted(notice.value for notice in set(target.notices))
    for row in there:
        if (row["channel"], row["address"], row["notices"]) == (target.channel.value, target.address, wanted):
            return str(row["id"])
    most = MOST if job_id is None else MOST_OF_A_JOB
    if len(there) >= most:
        raise ConflictError(f"{owner} asked for {most} kinds of notices already, the most: `vaesvc notify rm ID`")
    values = {
        "id": uuid.uuid4().hex, "owner": owner, "job_id": job_id, "channel": target.channel.value,
        "address": target.address, "notices": wanted, "created_at": work.now,
    }  # fmt: skip
    work.connection.execute(sa.insert(subscriptions).values(values))
    return str(values["id"])


class Notices(Transactions):
    """Subscriptions and the outbox in a database. Each method is one short transaction."""

    def subscribe(self, owner: str, target: Target, *, job_id: str | None = None) -> Subscription:
        """Note that the owner wants to be told of a job, or of all of theirs; the same again changes nothing."""
        with self._write() as work:
            if job_id is not None:
                work.locked_job(job_id)
            made = subscribe(work, owner, job_id, target)
        return self.one(made, owner)

    def one(self, subscription: str, owner: str) -> Subscription:
        """Return one of the owner's. Raises NotFoundError."""
        for each in self.all(owner):
            if each.id == subscription:
                return each
        raise _unknown(subscription)

    def all(self, owner: str) -> list[Subscription]:
        """Return the owner's, oldest first."""
        counted = sa.select(
            outbox.c.subscription,
            sa.func.sum(sa.case((outbox.c.next_at.is_not(None), 1), else_=0)).label("pending"),
            sa.func.sum(sa.case((_GIVEN_UP, 1), else_=0)).label("given_up"),
            sa.func.max(sa.case((outbox.c.delivered_at.is_(None), outbox.c.error))).label("error"),
        ).group_by(outbox.c.subscription)
        query = sa.select(subscriptions).where(subscriptions.c.owner == owner)
        with self._read() as work:
            rows = work.rows(query.order_by(subscriptions.c.created_at, subscriptions.c.id))
            ids = [row["id"] for row in rows]
            counts = {row["subscription"]: row for row in work.rows(counted.where(outbox.c.subscription.in_(ids)))}
        wishes = []
        for row in rows:
            count = counts.get(row["id"])
            more = {} if count is None else {name: count[name] for name in ("pending", "given_up", "error")}
            wishes.append(Subscription(**row, **more))
        return wishes

    def remove(self, subscription: str, owner: str) -> None:
        """Forget a wish, and what was to be told of it. Raises NotFoundError where the owner has none of this id."""
        which = (subscriptions.c.id == subscription, subscriptions.c.owner == owner)
        with self._write() as work:
            if work.connection.execute(sa.delete(subscriptions).where(*which)).rowcount == 0:
                raise _unknown(subscription)
            work.connection.execute(sa.delete(outbox).where(outbox.c.subscription == subscription))

    def try_out(self, subscription: str, owner: str) -> str:
        """Let a trial message be sent, and return its id. Raises NotFoundError."""
        which = (subscriptions.c.id == subscription, subscriptions.c.owner == owner)
        with self._write() as work:
            row = work.row(sa.select(subscriptions).where(*which))
            if row is None:
                raise _unknown(subscription)
            values = row_of(subscription, work.now, {"id": "", "name": "trial", "owner": owner}, Notice.STARTED)
            values["notice"], values["body"]["type"] = "trial", "trial"
            work.connection.execute(sa.insert(outbox).values(values))
            return str(values["id"])

    # --- who delivers -----------------------------------------------------------------------------------------------

    def claim(self, *, limit: int, lease_seconds: float) -> list[Message]:
        """Return messages that are due, the longest due first: nobody else gets them for so long."""
        due = sa.select(outbox.c.id).where(outbox.c.next_at <= sa.bindparam("now")).order_by(outbox.c.next_at)
        if not self._anything_due():
            return []
        with self._write() as work:
            ids = list(work.connection.scalars(due.limit(limit).with_for_update(skip_locked=True), {"now": work.now}))
            values = {"next_at": work.now + lease_seconds, "tries": outbox.c.tries + 1}
            work.connection.execute(sa.update(outbox).where(outbox.c.id.in_(ids)).values(values))
            joined = sa.select(outbox, subscriptions.c.channel, subscriptions.c.address).join(
                subscriptions, subscriptions.c.id == outbox.c.subscription
            )
            rows = work.rows(joined.where(outbox.c.id.in_(ids)).order_by(outbox.c.created_at, outbox.c.id))
        return [Message(**{name: row[name] for name in Message.model_fields}) for row in rows]

    def _anything_due(self) -> bool:
        with self._read() as work:
            return (
                work.connection.scalar(sa.select(outbox.c.id).where(outbox.c.next_at <= work.now).limit(1)) is not None
            )

    def delivered(self, message: str) -> None:
        """Note that the receiver has taken it."""
        with self._write() as work:
            self._update(work, message, delivered_at=work.now, next_at=None, error=None)

    def failed(self, message: Message, error: str, *, final: bool = False) -> None:
        """Note why it was not delivered: it is tried again later, for three days, unless that is final."""
        with self._write() as work:
            wait = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(message.tries - 1, 20))
            over = final or work.now - message.created_at > GIVEN_UP_SECONDS
            self._update(work, message.id, next_at=None if over else work.now + wait, error=clean(error[:2000]))

    def _update(self, work: Clocked, message: str, **values: Any) -> None:
        work.connection.execute(
            sa.update(outbox).where(outbox.c.id == message, outbox.c.delivered_at.is_(None)).values(values)
        )

    def look(self, wait_seconds: float) -> int:
        """Write what is to be told of jobs that have waited this long since they were submitted, once a week; forget
        what was told a week ago. Return how many messages are new."""
        written = sa.exists().where(
            outbox.c.subscription == subscriptions.c.id,
            outbox.c.job_id == jobs.c.id,
            outbox.c.notice == Notice.WAITING.value,
        )
        asks = sa.or_(
            subscriptions.c.job_id == jobs.c.id,
            sa.and_(subscriptions.c.job_id.is_(None), subscriptions.c.owner == jobs.c.owner),
        )
        with self._write() as work:
            waiting = (
                jobs.c.state == JobState.QUEUED.value,
                jobs.c.started_at.is_(None),
                jobs.c.created_at <= work.now - wait_seconds,
            )
            wanted = sa.type_coerce(subscriptions.c.notices, sa.Text).contains(f'"{Notice.WAITING.value}"')
            query = sa.select(jobs, subscriptions.c.id.label("subscription")).join(subscriptions, asks)
            waiting_long = work.rows(query.where(*waiting, wanted, ~written).limit(AT_ONCE))
            rows = [row_of(row["subscription"], work.now, dict(row), Notice.WAITING) for row in waiting_long]
            if rows:
                work.connection.execute(sa.insert(outbox), rows)
            old = (outbox.c.next_at.is_(None), outbox.c.created_at < work.now - KEPT_SECONDS)
            work.connection.execute(sa.delete(outbox).where(*old))
            return len(rows)

    def pending(self) -> int:
        """Return how many messages are still to be delivered."""
        with self._read() as work:
            return int(work.connection.scalar(sa.select(sa.func.count()).where(outbox.c.next_at.is_not(None))) or 0)


_GIVEN_UP = sa.and_(outbox.c.next_at.is_(None), outbox.c.delivered_at.is_(None))


def _unknown(subscription: str) -> NotFoundError:
    return NotFoundError(f"you have no subscription {subscription!r}; `vaesvc notify list` lists those there are")
