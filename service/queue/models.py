"""Registered model versions in SQL: which there are, and which one is the best. Called by the store.

One per job. A version's number is the one that MLflow gave it, unless somebody has it already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service.queue.jobs import Record
from service.queue.rows import Clocked
from service.queue.schema import model_versions
from vae_models.measures import Goal

MOST = 10**9  # MLflow counts 1, 2, 3; an attempt may say anything


class VersionRow(Record):
    """A model version's row. envelope: the signed statement, of which the rest is for finding it."""

    job_id: str
    name: str
    version: int
    mlflow_version: int | None
    envelope: str
    created_at: float


class Valued(Protocol):
    """The part of a statement that decides which version is the best."""

    @property
    def metric(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def mode(self) -> str: ...
    @property
    def measure(self) -> str: ...
    @property
    def data(self) -> str: ...


V = TypeVar("V", bound=Valued)


def best(versions: Sequence[V]) -> V | None:
    """Return the best of versions in the order of their numbers: each is compared with the best before it.

    A value that is not finite never becomes the best; neither is one compared with another metric's, another data
    set's, or a density with a mass. Of equal values the first stays.
    """
    leader: V | None = None
    for version in versions:
        if version.value is not None and math.isfinite(version.value) and (leader is None or _better(version, leader)):
            leader = version
    return leader


def _better(one: Valued, other: Valued) -> bool:
    """Return whether a version is strictly better than another with which it is comparable."""
    goal = Goal.stored(one.metric, one.mode)
    if goal != Goal.stored(other.metric, other.mode) or (one.measure, one.data) != (other.measure, other.data):
        return False
    return goal.better(one.value, other.value)


def put(
    work: Clocked,
    job_id: str,
    name: str,
    mlflow_version: int | None,
    sign: Callable[[int], str],
    *,
    bytes: int | None = None,
) -> VersionRow:
    """Store the job's version, with the envelope that `sign` makes of its number. The same again changes nothing.

    bytes: of all its files.
    """
    work.locked_job(job_id)
    work.database.lock_models(work.connection)
    table = model_versions
    known = work.row(sa.select(table).where(table.c.job_id == job_id))
    number = known["version"] if known is not None else _number(work, name, mlflow_version)
    values: dict[str, Any] = {"envelope": sign(number)}
    if mlflow_version is not None:
        values["mlflow_version"] = min(mlflow_version, MOST)
    if bytes is not None:
        values["bytes"] = bytes
    if known is None:
        new = {"job_id": job_id, "name": name, "version": number, "created_at": work.now}
        work.connection.execute(sa.insert(table).values(new | values))
        work.record(job_id, "registered", name=name, version=number)
    else:
        work.connection.execute(sa.update(table).where(table.c.job_id == job_id).values(values))
    row = of_job(work, job_id)
    assert row is not None
    return row


def _number(work: Clocked, name: str, wanted: int | None) -> int:
    table = model_versions
    taken = sa.select(table.c.version).where(table.c.name == name, table.c.version == wanted)
    if wanted is not None and 1 <= wanted <= MOST and work.row(taken) is None:
        return wanted
    greatest = work.connection.scalar(sa.select(sa.func.max(table.c.version)).where(table.c.name == name))
    return int(greatest or 0) + 1


def every(work: Clocked, name: str | None = None) -> list[VersionRow]:
    """Return the versions, by name and number."""
    query = sa.select(model_versions).order_by(model_versions.c.name, model_versions.c.version)
    if name is not None:
        query = query.where(model_versions.c.name == name)
    return [record(row) for row in work.rows(query)]


def of_job(work: Clocked, job_id: str) -> VersionRow | None:
    row = work.row(sa.select(model_versions).where(model_versions.c.job_id == job_id))
    return None if row is None else record(row)


def record(row: RowMapping) -> VersionRow:
    return VersionRow(**{name: row[name] for name in VersionRow.model_fields})
