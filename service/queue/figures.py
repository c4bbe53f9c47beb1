"""The queue in numbers: for Prometheus, and what users have used. Read from the tables, so that every process says the
same, whoever was killed in between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.queue.database import Database
from service.queue.giving_way import Way
from service.queue.jobs import AttemptState, JobState, Resources
from service.queue.rows import Clocked, Transactions
from service.queue.schema import attempts, jobs, labels, measured, members, outbox
from service.queue.used import By, Used

WAIT_BUCKETS = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)  # seconds
_OPEN = (AttemptState.STARTING.value, AttemptState.RUNNING.value)
_CAUSES = (  # of attempts that ended badly, by words of their errors; the first that fits
    ("out_of_memory", ("%out of memory%", "%OutOfMemory%", "%oom%")),
    ("machine_lost", ("%node%died%", "%node%dead%", "%raylet%", "%GCS%", "%preempted%")),
    ("silent", ("%lease%", "%not been heard%", "%no sign of life%")),
    ("no_room", ("%no room%", "%NoRoom%", "%WorkerGroupStartupTimeout%")),
    ("disk_full", ("%No space left%", "%disk%full%")),
    ("not_finite", ("%not finite%", "%NaN%")),
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """jobs: by state. waiting, oldest: by class of priority, number and seconds of the one that has waited longest.
    waits: for each of WAIT_BUCKETS how many jobs waited at most so long for their first attempt; started, waited: how
    many have had one, and the sum of their seconds. attempts: by state. failures: attempts that ended badly, by cause.
    requeues: attempts that gave way, by why.
    lag: seconds since the last sign of life of the running attempt that has been silent longest. plans: seconds.
    """

    jobs: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    oldest: Mapping[str, float] = field(default_factory=dict)
    waits: Mapping[float, int] = field(default_factory=dict)
    started: int = 0
    waited: float = 0.0
    attempts: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    lag: float = 0.0
    requeues: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    measured: Mapping[str, float] = field(default_factory=dict)


class FigureTables(Transactions):
    """Each method is one short transaction."""

    def __init__(self, database: Database, lease_seconds: float) -> None:
        super().__init__(database)
        self._lease_seconds = lease_seconds

    def now(self) -> Figures:
        """Return the queue in numbers."""
        with self._read() as work:
            waiting = work.rows(_waiting(work.now))
            wait = work.rows(_waits())[0]
            lease = sa.select(sa.func.min(attempts.c.lease_until)).where(attempts.c.state == AttemptState.RUNNING.value)
            until = work.connection.scalar(lease)
            pending = sa.select(sa.func.count()).select_from(outbox).where(outbox.c.next_at.is_not(None))
            return Figures(
                jobs=_counts(work, jobs.c.state, [state.value for state in JobState]),
                waiting={row["class"]: row["number"] for row in waiting},
                oldest={row["class"]: max(0.0, row["oldest"]) for row in waiting},
                waits={bucket: wait[f"b{index}"] or 0 for index, bucket in enumerate(WAIT_BUCKETS)},
                started=wait["number"],
                waited=wait["total"] or 0.0,
                attempts=_counts(work, attempts.c.state, [state.value for state in AttemptState]),
                failures={row["cause"]: row["number"] for row in work.rows(_failures())},
                requeues=_counts(work, attempts.c.gives_way, Way, attempts.c.state == AttemptState.REQUEUED.value),
                lag=0.0 if until is None else max(0.0, work.now - (until - self._lease_seconds)),
                pending=int(work.connection.scalar(pending) or 0),
                measured={row["name"]: row["value"] for row in work.rows(sa.select(measured.c.name, measured.c.value))},
            )

    def measure(self, values: Mapping[str, float]) -> None:
        """Keep what a process has measured, under names that it chooses: the newest of each counts."""
        insert = sqlite.insert if self._database.sqlite else postgresql.insert
        with self._database.write() as connection:
            at = self._database.now(connection)
            for name, value in values.items():
                put = insert(measured).values(name=name, value=value, at=at)
                newer = {"value": put.excluded.value, "at": put.excluded.at}
                connection.execute(put.on_conflict_do_update(index_elements=["name"], set_=newer))

    def used(
        self, *, since: float, until: float | None = None, owner: str | None = None, by: By = "user"
    ) -> list[Used]:
        """Return what attempts have held between two moments, by the owners of their jobs, these owners' groups as they
        are now, or the jobs' labels; sorted by name.

        An attempt holds its gang from its admission to its end. since, until: seconds since 1970; until: now. owner:
        of this one only.
        """
        columns = (attempts.c.job_id, attempts.c.nodes, attempts.c.created_at, attempts.c.ended_at, jobs.c.resources)
        query = _BY[by](sa.select(*columns).join(jobs, jobs.c.id == attempts.c.job_id))
        query = query.where(sa.or_(attempts.c.ended_at.is_(None), attempts.c.ended_at > since))
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        names: dict[str, set[str]] = defaultdict(set)
        with self._read() as work:
            end = work.now if until is None else min(until, work.now)
            for row in work.connection.execute(query).mappings():
                seconds = (end if row["ended_at"] is None else min(end, row["ended_at"])) - max(
                    since, row["created_at"]
                )
                if seconds <= 0:
                    continue
                held = Resources.model_validate(row["resources"]).sized(len(row["nodes"]))
                names[row["name"]].add(row["job_id"])
                total = sums[row["name"]]
                total["attempts"] += 1
                total["gpu_seconds"] += seconds * held.workers * held.gpus_per_worker
                total["cpu_seconds"] += seconds * held.workers * held.cpus_per_worker
        return [
            Used(
                name=name,
                jobs=len(names[name]),
                attempts=int(total["attempts"]),
                gpu_seconds=total["gpu_seconds"],
                cpu_seconds=total["cpu_seconds"],
            )
            for name, total in sorted(sums.items())
        ]


def _by_user(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.add_columns(jobs.c.owner.label("name"))


def _by_group(query: sa.Select[Any]) -> sa.Select[Any]:
    group = sa.func.coalesce(members.c.group, "").label("name")
    return query.add_columns(group).outerjoin(members, members.c.user == jobs.c.owner)


def _by_label(query: sa.Select[Any]) -> sa.Select[Any]:
    label = sa.func.coalesce(labels.c.name + "=" + labels.c.value, "").label("name")
    return query.add_columns(label).outerjoin(labels, labels.c.job_id == jobs.c.id)


_BY: Mapping[By, Callable[[sa.Select[Any]], sa.Select[Any]]] = {
    "user": _by_user, "group": _by_group, "label": _by_label,
}  # fmt: skip


def _counts(
    work: Clocked, column: sa.Column[Any], names: Iterable[str], *where: sa.ColumnElement[bool]
) -> dict[str, int]:
    counted = work.connection.execute(sa.select(column, sa.func.count()).where(*where).group_by(column)).all()
    return dict.fromkeys(names, 0) | {row[0]: row[1] for row in counted}


def _waiting(now: float) -> sa.Select[Any]:
    kind = sa.case((jobs.c.priority > 0, "high"), (jobs.c.priority < 0, "low"), else_="normal").label("class")
    oldest = (now - sa.func.min(jobs.c.created_at)).label("oldest")
    query = sa.select(kind, sa.func.count().label("number"), oldest)
    return query.where(jobs.c.state == JobState.QUEUED.value).group_by(kind)


def _waits() -> sa.Select[Any]:
    waited = attempts.c.created_at - jobs.c.created_at
    columns: list[Any] = [sa.func.count().label("number"), sa.func.sum(waited).label("total")]
    for index, bucket in enumerate(WAIT_BUCKETS):
        columns.append(sa.func.sum(sa.case((waited <= bucket, 1), else_=0)).label(f"b{index}"))
    return sa.select(*columns).join_from(attempts, jobs, jobs.c.id == attempts.c.job_id).where(attempts.c.number == 1)


def _failures() -> sa.Select[Any]:
    error = sa.func.coalesce(attempts.c.error, "")
    cases = [(sa.or_(*(error.like(words) for words in patterns)), name) for name, patterns in _CAUSES]
    cause = sa.case(*cases, else_="other").label("cause")
    bad = attempts.c.state.in_([AttemptState.FAILED.value, AttemptState.LOST.value])
    return sa.select(cause, sa.func.count().label("number")).where(bad).group_by(cause)
