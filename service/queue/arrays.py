"""Arrays: jobs that are submitted, shown, cancelled and tried again as one, of which so many at most go on at once.

The jobs beyond an array's limit wait outside the line (HELD). Admission alone lets the next ones in, oldest first, when
others of the array are over: it holds the one lock under which they can be counted. A job that is tried again after a
failure keeps its turn; one that was over and is queued again waits for another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import RowMapping

from service.errors import ConflictError
from service.queue.jobs import FINAL, JobState
from service.queue.rows import Clocked
from service.queue.schema import after, arrays, holds, jobs

if TYPE_CHECKING:
    from service.specs.job import ArrayPlace

_GOING = [state.value for state in JobState if state not in FINAL and state is not JobState.HELD]


def limit(place: ArrayPlace | None) -> list[str]:
    """Return why a new job of this place waits for its turn; none: its array has no limit."""
    return [] if place is None or place.at_most is None else [_turn(place.id, place.at_most)]


def _turn(array: str, at_most: int) -> str:
    return f"waits for its turn: {at_most} at most of the array {array} go on at once"


def join(work: Clocked, place: ArrayPlace, owner: str, job_id: str) -> None:
    """Note the array that a new job is in. Raises ConflictError for one that is another user's, or of another form."""
    insert = sqlite.insert if work.database.sqlite else postgresql.insert
    made = insert(arrays).values(
        id=place.id, owner=owner, size=place.size, at_most=place.at_most, first_id=job_id,
        waiting=place.at_most is not None, created_at=work.now,
    )  # fmt: skip
    work.connection.execute(made.on_conflict_do_nothing())
    known = work.row(sa.select(arrays).where(arrays.c.id == place.id))
    assert known is not None
    if known["owner"] != owner:
        raise ConflictError(f"array: {place.id} is another user's array: leave `array` to `vaesvc submit --array`")
    if (known["size"], known["at_most"]) != (place.size, place.at_most):
        raise ConflictError(
            f"array: {place.id} has {known['size']} jobs, {known['at_most'] or 'all'} at once; not {place.size}, "
            f"{place.at_most or 'all'}"
        )
    if place.at_most is not None:
        _wake(work, place.id)


def waits(work: Clocked, job: RowMapping) -> list[str]:
    """Return why a job waits for its turn, and see to it that it gets one; none: its array has no limit."""
    if not job["array"]:
        return []
    query = sa.select(arrays.c.at_most).where(arrays.c.id == job["array"], arrays.c.at_most.is_not(None))
    at_most = work.connection.scalar(query)
    if at_most is None or job["state"] not in (JobState.HELD, JobState.QUEUED):
        return []
    _wake(work, job["array"])
    return [_turn(job["array"], at_most)]


def turns(work: Clocked) -> list[str]:
    """Return the jobs whose turn it is, oldest first in each array. Needs the admission lock."""
    chosen: list[str] = []
    waiting = sa.select(arrays.c.id, arrays.c.at_most).where(arrays.c.waiting.is_(True), arrays.c.at_most.is_not(None))
    for row in work.rows(waiting.order_by(arrays.c.id)):
        of_array = (jobs.c.array == row["id"], jobs.c.array != "")
        going = sa.select(sa.func.count()).select_from(jobs).where(*of_array, jobs.c.state.in_(_GOING))
        free = row["at_most"] - (work.connection.scalar(going) or 0)
        held = sa.select(jobs.c.id).where(*of_array, jobs.c.state == JobState.HELD.value)
        if free > 0:
            kept = sa.select(holds.c.job_id).where(holds.c.job_id == jobs.c.id).exists()
            unmet = sa.select(after.c.job_id).where(after.c.job_id == jobs.c.id, after.c.met_at.is_(None)).exists()
            chosen += work.connection.scalars(held.where(~kept, ~unmet).order_by(jobs.c.id).limit(free))
    return chosen


def _wake(work: Clocked, array: str) -> None:
    """Note that jobs of the array may wait, locking its row even where that is known: see `rest`."""
    work.connection.execute(sa.update(arrays).where(arrays.c.id == array).values(waiting=True))


def idle(work: Clocked) -> list[str]:
    """Return the arrays that are looked at for turns though none of their jobs waits."""
    query = sa.select(arrays.c.id).where(arrays.c.waiting.is_(True), ~_some_held())
    return list(work.connection.scalars(query.order_by(arrays.c.id)))


def rest(work: Clocked, array: str) -> None:
    """Look no more for turns of the array, unless one of its jobs waits by now.

    Whoever makes a job wait holds the array's row until that is to be seen, so nobody is forgotten. Needs a transaction
    of its own: others lock a job first, and then its array.
    """
    locked = work.row(sa.select(arrays).where(arrays.c.id == array).with_for_update())
    assert locked is not None
    which = (arrays.c.id == array, ~_some_held())
    work.connection.execute(sa.update(arrays).where(*which).values(waiting=False))


def _some_held() -> sa.Exists:
    held = (jobs.c.array == arrays.c.id, jobs.c.array != "", jobs.c.state == JobState.HELD.value)
    return sa.select(jobs.c.id).where(*held).exists()
