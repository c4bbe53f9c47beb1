"""The line in SQL: lanes to be planned, read only as far as they are needed, and a job's place.

A **lane** is what waits of one priority, owner, kind of gang and class of bounds in time, and has begun before or has
not. Its name, kept with each job, is a digest of the first three, the class (`service.queue.reservation`) where there
is a bound, and a mark of what has begun: so the lanes are found by one look into an index each, and a lane's jobs lie
there in the order of their age.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service.queue.jobs import JobState, Resources, canonical
from service.queue.reservation import bound_class, longest
from service.queue.rows import Clocked
from service.queue.schema import jobs, limits
from service.queue.turns import Lane, Queued

CHUNK = 32  # jobs of a lane that are read at a time
SHORT = 4000  # jobs of a line that is counted from its start
SPACING = 1000  # jobs between two marks in a longer one
MARKS_SECONDS = 10.0  # so old are marks at the most
BEGUN = "b-"  # before the names of lanes whose jobs have begun: no digest has it
QUEUED = jobs.c.state == JobState.QUEUED.value
RESOURCES = sa.type_coerce(jobs.c.resources, sa.Text).label("resources")


@lru_cache(maxsize=1000)
def lane_of(priority: int, owner: str, resources: str, seconds: float | None = None) -> str:
    """Return the lane's name. resources: the gang's, as canonical JSON; seconds: for which an attempt may run."""
    digest = hashlib.sha256(canonical([priority, owner, resources]).encode()).hexdigest()[:24]
    return digest if seconds is None else f"{digest}.{bound_class(seconds)}"


def begun(lane: str) -> str:
    """Return the name of the lane beside this one whose jobs have begun."""
    return lane if lane.startswith(BEGUN) else BEGUN + lane


def bound_of(lane: str) -> float | None:
    """Return the bound of the attempts of a lane's jobs, in seconds, by its name; None where they have none."""
    _, dot, number = lane.partition(".")
    return longest(int(number)) if dot else None


@lru_cache(maxsize=1000)
def parsed(text: str) -> Resources:
    """Return the gang's resources, remembered: a long line has few kinds of gangs."""
    return Resources.model_validate_json(text)


def fill_in(work: Clocked) -> None:
    """Give a lane to the jobs in the line that have none: a process of an earlier version put them there."""
    columns = (
        jobs.c.id, jobs.c.priority, jobs.c.owner, jobs.c.attempt, RESOURCES, limits.c.max_seconds,
        limits.c.attempt_seconds,
    )  # fmt: skip
    query = sa.select(*columns).outerjoin(limits, limits.c.job_id == jobs.c.id).where(QUEUED, jobs.c.lane == "")
    for row in work.rows(query):
        bound = least(row["max_seconds"], row["attempt_seconds"])
        lane = lane_of(row["priority"], row["owner"], row["resources"], bound)
        work.update_job(row["id"], lane=begun(lane) if row["attempt"] else lane)


def least(*seconds: float | None) -> float | None:
    """Return the least of the bounds that there are; None where there is none."""
    return min((each for each in seconds if each is not None), default=None)


def lanes(work: Clocked) -> list[Lane]:
    """Return the lanes. Their jobs are read, in chunks, while somebody asks for more."""
    return [
        Lane(
            resources=parsed(row["resources"]),
            priority=row["priority"],
            owner=row["owner"],
            jobs=_jobs(work, row),
            name=row["lane"],
            seconds=bound_of(row["lane"]),
            begun=row["lane"].startswith(BEGUN),
        )
        for row in work.rows(_first_of_each())
    ]


def _first_of_each() -> sa.Select[Any]:
    """Return the query for each lane's oldest job: one look into the index for each lane, however long it is."""
    first = sa.select(sa.func.min(jobs.c.lane).label("lane")).where(QUEUED).cte("lanes", recursive=True)
    others = jobs.alias()
    queued = others.c.state == JobState.QUEUED.value
    following = sa.select(others.c.lane).where(queued, others.c.lane > first.c.lane).order_by(others.c.lane).limit(1)
    names = first.union_all(sa.select(following.scalar_subquery()).where(first.c.lane.is_not(None)))
    oldest = sa.select(others.c.id).where(queued, others.c.lane == names.c.lane).order_by(others.c.id).limit(1)
    columns = (jobs.c.id, jobs.c.lane, jobs.c.priority, jobs.c.owner, jobs.c.not_before, RESOURCES)
    return sa.select(*columns).select_from(names).join(jobs, jobs.c.id == oldest.scalar_subquery())


def _jobs(work: Clocked, first: RowMapping) -> Iterator[Queued]:
    lane = {
        "resources": parsed(first["resources"]), "priority": first["priority"], "owner": first["owner"],
        "seconds": bound_of(first["lane"]), "begun": first["lane"].startswith(BEGUN),
    }  # fmt: skip
    query = sa.select(jobs.c.id, jobs.c.not_before).where(QUEUED, jobs.c.lane == first["lane"])
    rows = [first]
    while rows:
        for row in rows:
            yield Queued(job_id=row["id"], not_before=row["not_before"], **lane)
        rows = work.rows(query.where(jobs.c.id > rows[-1]["id"]).order_by(jobs.c.id).limit(CHUNK))


def of_lane(work: Clocked, name: str) -> list[str]:
    """Return the jobs of a lane, oldest first."""
    return list(work.connection.scalars(sa.select(jobs.c.id).where(QUEUED, jobs.c.lane == name).order_by(jobs.c.id)))


def _places() -> sa.Select[Any]:
    """Return the query for the jobs of a priority from `first` to `last`, and how many are before the first of them:
    two ranges of one index."""
    priority = sa.bindparam("priority", type_=sa.Integer)
    first, last = (sa.bindparam(name, type_=jobs.c.id.type) for name in ("first", "last"))
    others = jobs.alias()
    count = sa.select(sa.func.count()).where(others.c.state == JobState.QUEUED.value)
    higher = count.where(others.c.priority > priority)
    older = count.where(others.c.priority == priority, others.c.id < first)
    which = (QUEUED, jobs.c.priority == priority, jobs.c.id >= first, jobs.c.id <= last)
    return sa.select(jobs.c.id, higher.scalar_subquery() + older.scalar_subquery()).where(*which).order_by(jobs.c.id)


PLACES = _places()


def _places_after_a_mark() -> sa.Select[Any]:
    """Return the query for the jobs of a priority from `first` to `last`, and how many are between a mark and the
    first."""
    priority = sa.bindparam("priority", type_=sa.Integer)
    mark, first, last = (sa.bindparam(name, type_=jobs.c.id.type) for name in ("mark", "first", "last"))
    others = jobs.alias()
    queued = (others.c.state == JobState.QUEUED.value, others.c.priority == priority)
    between = sa.select(sa.func.count()).where(*queued, others.c.id >= mark, others.c.id < first)
    which = (QUEUED, jobs.c.priority == priority, jobs.c.id >= first, jobs.c.id <= last)
    return sa.select(jobs.c.id, between.scalar_subquery()).where(*which).order_by(jobs.c.id)


PLACES_AFTER_A_MARK = _places_after_a_mark()


def _ahead() -> sa.ColumnElement[int]:
    """Return how many jobs are ahead of one that is new in the line, from a mark on: as a part of another statement."""
    above, priority = (sa.bindparam(name, type_=sa.Integer) for name in ("above", "priority"))
    mark, first = (sa.bindparam(name, type_=jobs.c.id.type) for name in ("mark", "first"))
    count = sa.select(sa.func.count()).select_from(jobs)
    higher = count.where(QUEUED, jobs.c.priority > above)
    older = count.where(QUEUED, jobs.c.priority == priority, jobs.c.id >= mark, jobs.c.id < first)
    return higher.scalar_subquery() + older.scalar_subquery()


AHEAD = _ahead()
_NONE_ABOVE = 2**31 - 1  # no priority is
Marks = Mapping[str, Sequence[tuple[str, int]]]  # priority -> ids in the order of age, and how many were before each


def marks(work: Clocked) -> dict[str, list[tuple[str, int]]]:
    """Return every SPACING-th job of each priority with the number of jobs before it; nothing for a short line."""
    count = sa.func.count()
    lengths = sa.select(jobs.c.priority, count).where(QUEUED).group_by(jobs.c.priority).order_by(jobs.c.priority.desc())
    classes = work.connection.execute(lengths).all()
    if sum(length for _, length in classes) < SHORT:
        return {}
    made, before = {}, 0
    number = sa.func.row_number().over(order_by=jobs.c.id).label("number")
    for priority, length in classes:
        numbered = sa.select(jobs.c.id, number).where(QUEUED, jobs.c.priority == priority).subquery()
        query = sa.select(numbered.c.id, numbered.c.number).where(numbered.c.number % SPACING == 1)
        rows = work.connection.execute(query.order_by(numbered.c.id))
        made[str(priority)] = [(job_id, before + place - 1) for job_id, place in rows]
        before += length
    return made


def bounds_ahead(priority: int, first: str, marks: Marks) -> tuple[dict[str, Any], int]:
    """Return the parameters of `AHEAD` for a job of this id, and how many there are before the mark."""
    mark, before = _nearest(priority, first, marks)
    return {"above": _NONE_ABOVE if mark else priority, "priority": priority, "mark": mark, "first": first}, before


def _nearest(priority: int, job_id: str, marks: Marks) -> tuple[str, int]:
    """Return the nearest mark before a job, and how many jobs are before that; none: the start of the line."""
    known = marks.get(str(priority), ())
    nearest = bisect_right(known, job_id, key=lambda mark: mark[0])
    return known[nearest - 1] if nearest else ("", 0)


def places(work: Clocked, rows: Collection[RowMapping], marks: Marks) -> dict[str, int]:
    """Return the places in the line, 1 is next, of those of the jobs that are in it: counted in an index, no plan.

    From the start of the line, or from the nearest mark before it, which is as old as the marks are.
    """
    by_job: dict[str, int] = {}
    wanted: dict[tuple[int, str, int], list[str]] = {}
    for row in rows:
        mark, before = _nearest(row["priority"], row["id"], marks)
        wanted.setdefault((row["priority"], mark, before), []).append(row["id"])
    for (priority, mark, before), ids in wanted.items():
        bounds = {"priority": priority, "first": min(ids), "last": max(ids)}
        counted = (
            work.connection.execute(PLACES_AFTER_A_MARK, bounds | {"mark": mark})
            if mark
            else (work.connection.execute(PLACES, bounds))
        )
        among = {job_id: place + older + before for place, (job_id, older) in enumerate(counted, start=1)}
        by_job |= {job_id: among[job_id] for job_id in ids if job_id in among}
    return by_job
