"""Rows to records, and the two things that every change of a job does: lock its row, and write down what happened."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from service.errors import ConflictError, NotFoundError
from service.queue import outbox
from service.queue.database import CLOCK, Database
from service.queue.jobs import Attempt, Checkpoint, Event, Job, JobState, Resources, Trigger, next_state
from service.queue.notice import notice_of
from service.queue.policy import Policy
from service.queue.schema import attempts, checkpoints, events, jobs

MAX_TEXT = 20_000  # characters of an error or a reason; its end says most

# statements that every change of a job needs, built once: building one costs more than the database does
_JOB = sa.select(jobs).where(jobs.c.id == sa.bindparam("of_job", type_=jobs.c.id.type))
_LOCKED = _JOB.with_for_update().subquery()
_LOCKED_JOB = {
    True: _JOB,  # BEGIN IMMEDIATE has locked everything
    # the clock is read by an outer query, so when the row is locked: a query that locks is never merged with another
    False: sa.select(_LOCKED, CLOCK.label("now_")),
}
_OF_ATTEMPT = (
    attempts.c.job_id == sa.bindparam("of_job", type_=jobs.c.id.type),
    attempts.c.number == sa.bindparam("of_number", type_=sa.Integer),
)
_ATTEMPT = sa.select(attempts).where(*_OF_ATTEMPT)
_ATTEMPT_OF_JOB = (
    sa.select(*jobs.c, *(column.label(f"attempt_{column.name}") for column in attempts.c))
    .join_from(jobs, attempts, attempts.c.job_id == jobs.c.id)
    .where(jobs.c.id == sa.bindparam("of_job", type_=jobs.c.id.type), _OF_ATTEMPT[1])
)
# PostgreSQL reads what it locks again, when it has waited for the lock, and nothing else: so both rows are locked
_LOCKED_BOTH = _ATTEMPT_OF_JOB.with_for_update().subquery()
_LOCKED_WITH_ATTEMPT = {True: _ATTEMPT_OF_JOB, False: sa.select(_LOCKED_BOTH, CLOCK.label("now_"))}
_EVENT = sa.insert(events).inline()  # nobody asks for its number
_NO_JOB = dict.fromkeys(jobs.c.keys())
_NO_ATTEMPT = dict.fromkeys(attempts.c.keys())


@lru_cache(maxsize=500)
def _update_job(names: tuple[str, ...]) -> sa.Update:
    which = jobs.c.id == sa.bindparam("of_job", type_=jobs.c.id.type)
    return sa.update(jobs).where(which).values(_parameters(jobs, names, "job"))


@lru_cache(maxsize=500)
def _update_attempt(names: tuple[str, ...]) -> sa.Update:
    return sa.update(attempts).where(*_OF_ATTEMPT).values(_parameters(attempts, names, "attempt"))


def _parameters(table: sa.Table, names: tuple[str, ...], prefix: str) -> dict[str, sa.BindParameter[Any]]:
    return {name: sa.bindparam(f"{prefix}_{name}", type_=table.c[name].type) for name in names}


def _named(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in values.items()}


@dataclass
class _Step:
    """What one step of a job writes, until it goes out in one statement.

    of_job, of_number: whose; job, attempt, event: new values by column, none where nothing is written there
    """

    of_job: str = ""
    of_number: int = 0
    job: dict[str, Any] = field(default_factory=dict)
    attempt: dict[str, Any] = field(default_factory=dict)
    event: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.job or self.attempt or self.event)

    def takes(self, job_id: str, number: int = 0) -> bool:
        """Return whether a change of this job, and attempt, belongs to it."""
        return self.of_job in ("", job_id) and (not number or self.of_number in (0, number))

    def parameters(self) -> dict[str, Any]:
        of = {"of_job": self.of_job} | ({"of_number": self.of_number} if self.attempt else {})
        return of | _named("job", self.job) | _named("attempt", self.attempt) | _named("event", self.event)


@lru_cache(maxsize=500)
def _in_one(query: sa.Select[Any], job: tuple[str, ...], attempt: tuple[str, ...], event: tuple[str, ...]) -> Any:
    """Return the query with writes beside it, which it does not see: PostgreSQL does all at once."""
    writes: list[sa.CTE] = []
    if job:
        writes.append(_update_job(job).cte("job_written"))
    if attempt:
        writes.append(_update_attempt(attempt).cte("attempt_written"))
    if event:
        values = _parameters(events, event, "event")
        writes.append(sa.insert(events).inline().values(values).cte("event_written"))
    return query.add_cte(*writes)


_NOTHING = sa.select(sa.literal(1))


def as_row(values: Mapping[str, Any]) -> RowMapping:
    """Return what a row of these values reads as: it has all of the columns, each as the table's types read it."""
    return cast("RowMapping", values)


class Clocked:
    """A connection inside a transaction, and the time at which what it does happens."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self.database = database
        self._connection = connection
        self._step: _Step | None = None
        self._now: float | None = None
        self._locked: dict[str, RowMapping] = {}  # jobs that nobody else can change, as they are now
        self._attempts: dict[tuple[str, int], RowMapping] = {}  # of these jobs

    @property
    def connection(self) -> Connection:
        """Return the connection, on which what was done before has been done."""
        if self._step:
            self._written()
        return self._connection

    @contextmanager
    def in_one(self) -> Iterator[None]:
        """Let what the block changes of a job, of its attempt and writes down of it go out together: in one round trip
        to PostgreSQL, and before whatever else the block asks of the connection."""
        if self.database.sqlite:  # a statement is a call in this process
            yield
            return
        self._step = _Step()
        try:
            yield
            if self._step:
                self._written()
        finally:
            self._step = None

    def _written(self, query: sa.Select[Any] = _NOTHING, **values: Any) -> list[RowMapping]:
        """Write the step, and return what the query finds, as things were before it."""
        step, self._step = self._step or _Step(), _Step()
        names = (tuple(sorted(each)) for each in (step.job, step.attempt, step.event))
        return list(self._connection.execute(_in_one(query, *names), step.parameters() | values).mappings())

    def beside(self, query: sa.Select[Any], **values: Any) -> list[RowMapping]:
        """Return what a query finds that has nothing to do with what the block of `in_one` has changed."""
        if self._step:
            return self._written(query, **values)
        return list(self._connection.execute(query, values).mappings())

    @property
    def now(self) -> float:
        """Return the time by the database's clock, read when it is first asked for, and after `read_clock` again."""
        if self._now is None:
            self._now = self.database.now(self.connection)
        return self._now

    def read_clock(self) -> None:
        """Let the clock be read again: waiting for a lock may have taken long."""
        self._now = None

    def afterwards(self, connection: Connection) -> Clocked:
        """Return one that reads, of the same time, when what this one did has been committed."""
        other = Clocked(self.database, connection)
        other._now = self._now
        return other

    def set_clock(self, now: float) -> None:
        """Take the time that came with something else that was read."""
        self._now = now

    def row(self, query: sa.Select[Any], **values: Any) -> RowMapping | None:
        return self.connection.execute(query, values).mappings().one_or_none()

    def rows(self, query: sa.Select[Any]) -> list[RowMapping]:
        return list(self.connection.execute(query).mappings())

    def locked_job(self, job_id: str, number: int | None = None) -> RowMapping:
        """Return the job's row, locked until the end of the transaction. number: of an attempt that is read with it, if
        there is one. Raises NotFoundError."""
        row = None
        if number is not None:
            values = {"of_job": job_id, "of_number": number}
            row = self.connection.execute(_LOCKED_WITH_ATTEMPT[self.database.sqlite], values).one_or_none()
        attempt = None if row is None else as_row(dict(zip(_NO_ATTEMPT, row[len(_NO_JOB) :], strict=False)))
        if row is None:
            row = self.connection.execute(_LOCKED_JOB[self.database.sqlite], {"of_job": job_id}).one_or_none()
        if row is None:
            raise unknown_job(job_id)
        if self.database.sqlite:
            self.read_clock()
        else:  # the time when it was locked: waiting for it may have taken long
            self.set_clock(float(row[-1]))
        self._locked[job_id] = locked = as_row(dict(zip(_NO_JOB, row, strict=False)))
        self._attempts = {key: known for key, known in self._attempts.items() if key[0] != job_id}
        if attempt is not None:
            self._attempts[job_id, attempt["number"]] = attempt
        return locked

    def know(self, job: Mapping[str, Any]) -> None:
        """Take the row of a job that this transaction has inserted: what it lacks is NULL."""
        self._locked[job["id"]] = as_row({**_NO_JOB, **job})

    def job(self, job_id: str) -> Job:
        return job_record(self.job_row(job_id))

    def job_row(self, job_id: str) -> RowMapping:
        """Return the job's row: read, unless this transaction holds its lock and knows what has become of it. Raises
        NotFoundError."""
        known = self._locked.get(job_id)
        return known if known is not None else _existing(self.row(_JOB, of_job=job_id), job_id)

    def attempt_row(self, job_id: str, number: int) -> RowMapping | None:
        if (known := self._attempts.get((job_id, number))) is not None:
            return known
        row = self.row(_ATTEMPT, of_job=job_id, of_number=number)
        if row is not None and job_id in self._locked:  # whatever changes an attempt locks its job first
            self._attempts[job_id, number] = row
        return row

    def record(self, job_id: str, kind: str, number: int | None = None, **detail: Any) -> None:
        """Append an event to the log, in the same transaction as the change that it records."""
        row = {"job_id": job_id, "attempt": number, "at": self.now, "kind": kind, "detail": finite(detail)}
        if self._step is None or self._step.event or not self._step.takes(job_id):
            self.connection.execute(_EVENT, row)
        else:
            self._step.of_job, self._step.event = job_id, row

    def update_job(self, job_id: str, **values: Any) -> None:
        if self._step is None or not self._step.takes(job_id):
            self.connection.execute(_update_job(tuple(sorted(values))), {"of_job": job_id, **_named("job", values)})
        else:
            self._step.of_job = job_id
            self._step.job |= values
        if job_id in self._locked:
            self._locked[job_id] = as_row({**self._locked[job_id], **values})

    def update_attempt(self, job_id: str, number: int, **values: Any) -> None:
        if self._step is None or not self._step.takes(job_id, number):
            which = {"of_job": job_id, "of_number": number}
            self.connection.execute(_update_attempt(tuple(sorted(values))), which | _named("attempt", values))
        else:
            self._step.of_job, self._step.of_number = job_id, number
            self._step.attempt |= values
        if (known := self._attempts.get((job_id, number))) is not None:
            self._attempts[job_id, number] = as_row({**known, **values})

    def move(
        self, job: RowMapping, trigger: Trigger, kind: str, *, detail: Mapping[str, Any] | None = None, **values: Any
    ) -> JobState:
        """Move the job by the table, with its event: the only way a state changes. `job` is a row from `locked_job`.

        Raises ConflictError when the table has no such transition.
        """
        before = JobState(job["state"])
        try:
            after = next_state(before, trigger)
        except ConflictError as error:
            raise ConflictError(f"job {job['id']}: {error}") from None
        self.update_job(job["id"], state=after.value, **values)
        number = values.get("attempt", job["attempt"]) or None
        self.record(job["id"], kind, number, **(detail or {}), **{"from": before.value, "to": after.value})
        if (notice := notice_of(before, trigger, after)) is not None:
            asked = self.beside(outbox.ASKED, of_job=job["id"], of_owner=job["owner"])
            outbox.put(self._connection, asked, self.now, {**job, **values, "state": after.value}, notice)
        return after


class Transactions:
    """A database's readers and writers: each method of a subclass is one short transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def _read(self) -> Iterator[Clocked]:
        with self._database.read() as connection:
            yield Clocked(self._database, connection)

    @contextmanager
    def _write(self) -> Iterator[Clocked]:
        with self._database.write() as connection:
            yield Clocked(self._database, connection)


def policy(row: RowMapping) -> Policy:
    """Return the policy that the queue keeps of the job's kind."""
    return Policy.model_validate(row["policy"])


def _existing(row: RowMapping | None, job_id: str) -> RowMapping:
    if row is None:
        raise unknown_job(job_id)
    return row


def unknown_job(job_id: str) -> NotFoundError:
    """Return the error for a job that does not exist, or not for the one who asks: in the same words."""
    return NotFoundError(f"no job {job_id!r}; `vaesvc jobs` lists those there are")


def job_record(
    row: RowMapping,
    *,
    position: int | None = None,
    reason: str | None = None,
    expected: tuple[float, float] | None = None,
) -> Job:
    """Return the job of a row. `position`, `reason` and `expected` are those of the plan, for a job in the queue."""
    return Job(
        id=row["id"],
        name=row["name"],
        kind=row["kind"],
        state=JobState(row["state"]),
        priority=row["priority"],
        owner=row["owner"],
        spec=row["spec"],
        resources=Resources.model_validate(row["resources"]),
        attempt=row["attempt"],
        failures=row["failures"],
        outages=row["outages"],
        max_attempts=row["max_attempts"],
        not_before=row["not_before"],
        position=position,
        reason=reason or row["reason"],
        progress=row["progress"],
        result=row["result"],
        run_id=row["run_id"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        cancel_requested_at=row["cancel_requested_at"],
        array=row["array"] or None,
        expected_start=expected,
    )


def attempt_record(row: RowMapping) -> Attempt:
    return Attempt(**{name: row[name] for name in Attempt.model_fields})


def event_record(row: RowMapping) -> Event:
    return Event(**{name: row[name] for name in Event.model_fields})


def checkpoint_record(row: RowMapping, *, best: bool = False) -> Checkpoint:
    values = {name: row[name] for name in Checkpoint.model_fields if name != "best"}
    return Checkpoint(**values, best=best)


def kept_checkpoints(work: Clocked, job_id: str) -> list[Checkpoint]:
    """Return the checkpoints that retention has not given up, newest first; `best` is not filled in."""
    query = sa.select(checkpoints).where(checkpoints.c.job_id == job_id, checkpoints.c.given_up_for.is_(None))
    listed = [checkpoint_record(row) for row in work.rows(query)]
    return sorted(listed, key=lambda c: (c.attempt, c.step, c.committed_at), reverse=True)


def finite(value: Any) -> Any:
    """Return `value` with NaN and infinities made None: JSON has no word for them, and a diverged run reports them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value


def clean(text: str | None) -> str | None:
    """Return text from outside so that every database takes it: no U+0000, no lone surrogates, bounded length."""
    if text is None:
        return None
    if len(text) > MAX_TEXT:
        text = "..." + text[-MAX_TEXT:]
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
