"""What needs a data set of a user's own: the one place that says it, for its removal and for who asks why it is kept.

A set is needed by every name that points to it, by every registered model of a job that was trained on it, and by every
job that is not over or that ended within the jobs' grace: such a job may be tried again, or given more to do. What
nothing needs is kept for the sets' grace, counted from when it was last wanted.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from service.data.records import Kept, KeptSet, SetState
from service.queue.rows import Clocked
from service.queue.schema import data_moves, data_names, data_sets, job_data, jobs, model_versions

JOB_GRACE_SECONDS = 30 * 86_400.0  # a job that is over may be tried again for so long, with its data
UPLOAD_GRACE_SECONDS = 7200.0  # at least: signed addresses are good for an hour, and an upload asks again and again


@dataclass(frozen=True, kw_only=True)
class Grace:
    """How long a set is kept after it was last wanted, and how long a job that is over needs its sets [s]."""

    seconds: float
    job_seconds: float = JOB_GRACE_SECONDS


def unneeded(work: Clocked, grace: Grace) -> sa.Select[Any]:
    """Return the query of the digests that nothing needs, nor has for the grace, and of those whose removal was
    begun.
    """
    upload_grace = max(grace.seconds, UPLOAD_GRACE_SECONDS)
    of_this = sa.case((data_sets.c.state == SetState.COMPLETE.value, grace.seconds), else_=upload_grace)
    old = data_sets.c.touched_at < work.now - of_this
    going = data_sets.c.state == SetState.REMOVING.value
    return (
        sa.select(data_sets.c.digest)
        .where(sa.or_(going, sa.and_(old, ~_needed(work, grace))))
        .order_by(data_sets.c.digest)
    )


def _needed(work: Clocked, grace: Grace) -> sa.ColumnElement[bool]:
    named = sa.exists().where(data_names.c.digest == data_sets.c.digest)
    has_a_model = sa.exists().where(model_versions.c.job_id == jobs.c.id)
    wanted = sa.exists().where(
        job_data.c.digest == data_sets.c.digest,
        jobs.c.id == job_data.c.job_id,
        sa.or_(_may_go_on(work, grace), has_a_model),
    )
    return sa.or_(named, wanted)


def _may_go_on(work: Clocked, grace: Grace) -> sa.ColumnElement[bool]:
    return sa.or_(jobs.c.ended_at.is_(None), jobs.c.ended_at > work.now - grace.job_seconds)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Whose sets, names, jobs and models are meant, and which set; None: all."""

    owner: str | None = None
    digest: str | None = None

    def of(self, query: sa.Select[Any], owner: sa.Column[Any], digest: sa.Column[Any]) -> sa.Select[Any]:
        """Return the query of these alone; owner, digest: the columns that say whose a row is, and of which set."""
        if self.owner is not None:
            query = query.where(owner == self.owner)
        return query if self.digest is None else query.where(digest == self.digest)


def kept(work: Clocked, grace: Grace, asked: Asked) -> list[KeptSet]:
    """Return the complete sets, oldest first, and why each is kept.

    A user's sets are those that the user has brought, or has pointed a name to.
    """
    fields = [name for name in KeptSet.model_fields if name != "kept"]
    query = sa.select(
        *(data_sets.c[name] for name in fields), data_sets.c.touched_at, _needed(work, grace).label("needed")
    )
    if asked.owner is not None:
        moved = sa.exists().where(data_moves.c.digest == data_sets.c.digest, data_moves.c.by == asked.owner)
        query = query.where(sa.or_(data_sets.c.owner == asked.owner, moved))
    if asked.digest is not None:
        query = query.where(data_sets.c.digest == asked.digest)
    rows = work.rows(query.where(data_sets.c.state == SetState.COMPLETE.value).order_by(data_sets.c.created_at))
    reasons = _reasons(work, grace, asked)
    return [
        KeptSet(
            **{name: row[name] for name in fields},
            kept=Kept(**reasons[row["digest"]], until=None if row["needed"] else row["touched_at"] + grace.seconds),
        )
        for row in rows
    ]


def _reasons(work: Clocked, grace: Grace, asked: Asked) -> defaultdict[str, dict[str, Any]]:
    """Return the fields of `Kept` by digest, but for `until`."""
    reasons: defaultdict[str, dict[str, Any]] = defaultdict(
        lambda: {"names": (), "models": 0, "last_model": None, "jobs": 0, "last_job": None}
    )
    for row in work.rows(_names(asked)):
        reasons[row["digest"]]["names"] += (row["name"],)
    for row in work.rows(_models(asked)):
        reasons[row["digest"]] |= {"models": row["models"], "last_model": f"{row['name']}/{row['version']}"}
    for row in work.rows(_jobs(work, grace, asked)):
        reasons[row["digest"]] |= {"jobs": row["jobs"], "last_job": row["last_job"]}
    return reasons


def _names(asked: Asked) -> sa.Select[Any]:
    query = sa.select(data_names.c.digest, data_names.c.name).order_by(data_names.c.name)
    return asked.of(query, data_names.c.owner, data_names.c.digest)


def _jobs(work: Clocked, grace: Grace, asked: Asked) -> sa.Select[Any]:
    """Return the query of how many jobs may go on with each set, and of the newest: ids grow with time."""
    query = (
        sa.select(job_data.c.digest, sa.func.count().label("jobs"), sa.func.max(jobs.c.id).label("last_job"))
        .join(jobs, jobs.c.id == job_data.c.job_id)
        .where(_may_go_on(work, grace))
        .group_by(job_data.c.digest)
    )
    return asked.of(query, jobs.c.owner, job_data.c.digest)


def _models(asked: Asked) -> sa.Select[Any]:
    """Return the query of how many registered models were trained on each set, and of the newest."""
    newest = (model_versions.c.created_at.desc(), model_versions.c.version.desc())
    of_set = job_data.c.digest
    ranked = (
        sa.select(
            of_set,
            model_versions.c.name,
            model_versions.c.version,
            sa.func.count().over(partition_by=of_set).label("models"),
            sa.func.row_number().over(partition_by=of_set, order_by=newest).label("rank"),
        )
        .select_from(job_data)
        .join(model_versions, model_versions.c.job_id == job_data.c.job_id)
        .join(jobs, jobs.c.id == job_data.c.job_id)
    )
    each = asked.of(ranked, jobs.c.owner, of_set).subquery()
    return sa.select(each).where(each.c.rank == 1)
