"""When a job that waits is expected to start: read from what was written down after a plan, never computed by a read.

Of each lane some of its jobs are known with their ranges, the first ones closely; a job between two of them starts
after the one before it and before the one behind. What came after the last look, or is too far back, is read from the
places: some places of the line are known with ranges, and behind the last one it goes on as fast as before it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import RowMapping

from service.queue.rows import Clocked
from service.queue.schema import expected

OLD_SECONDS = 180.0  # what was written down longer ago says nothing
SPREAD = 1.3  # from one known place to the next: each place at first, then that much further
WHOLE = ""  # in place of a lane's name: the whole line, by places

_SINCE = expected.c.made_at > sa.bindparam("since", type_=sa.Double)
_LANES = sa.bindparam("lanes", type_=postgresql.ARRAY(sa.String))
_POINTS = sa.select(expected.c.lane, expected.c.points).where(_SINCE)
# one text for any number of lanes, which is made once: a list of parameters would be written out anew each time
_EACH = sa.func.json_each(sa.bindparam("lanes", type_=sa.JSON)).table_valued("value")
_KNOWN = {
    True: _POINTS.where(expected.c.lane.in_(sa.select(_EACH.c.value))),  # SQLite's
    False: _POINTS.where(expected.c.lane == sa.any_(_LANES)),
}
_AS_JSON = sa.func.json_object_agg(
    expected.c.lane, sa.cast(sa.type_coerce(expected.c.points, sa.Text), postgresql.JSON)
)
# what is known, as a part of another statement, for PostgreSQL
KNOWN = sa.select(sa.cast(_AS_JSON, sa.Text)).where(expected.c.lane == sa.any_(_LANES), _SINCE).scalar_subquery()

Range = tuple[float, float]  # seconds since 1970
Point = tuple[str | int, float, float]  # a job or a place, and its range
Known = Mapping[str, Sequence[Point]]  # by lane


def thinned(length: int) -> Iterator[int]:
    """Yield the indices of those of so many that are written down, the last one among them."""
    index = 0
    while index < length - 1:
        yield index
        index = max(index + 1, int(index * SPREAD))
    if length:
        yield length - 1


def bounds(work: Clocked, rows: Iterable[Mapping[str, Any] | RowMapping]) -> dict[str, Any]:
    """Return the parameters by which it is read what is known of the lanes of these jobs."""
    return {"lanes": sorted({WHOLE, *(row["lane"] for row in rows)}), "since": work.now - OLD_SECONDS}


def of(
    work: Clocked, rows: Iterable[RowMapping], places: Mapping[str, int], known: Known | None = None
) -> dict[str, Range]:
    """Return when those of the jobs that are in the line are expected to start. places: of the jobs in the line. known:
    of their lanes, where it has been read."""
    waiting = [row for row in rows if row["id"] in places]
    if not waiting:
        return {}
    if known is None:
        rows_of_lanes = work.connection.execute(_KNOWN[work.database.sqlite], bounds(work, waiting)).mappings()
        known = {row["lane"]: row["points"] for row in rows_of_lanes}
    ranges = {}
    for row in waiting:
        if (range_ := _range(row, places[row["id"]], known)) is not None:
            ranges[row["id"]] = max(range_[0], work.now), max(range_[1], work.now)
    return ranges


def _range(row: RowMapping, place: int, known: Known) -> Range | None:
    points = known.get(row["lane"]) if row["lane"] != WHOLE else None
    if points is not None and not points:
        return None  # as things are it cannot start
    if points:
        index = bisect_left(points, row["id"], key=lambda point: str(point[0]))
        if index < len(points):
            same = points[index][0] == row["id"]
            return points[index if same else max(0, index - 1)][1], points[index][2]
    whole = known.get(WHOLE)
    if not whole:
        return None
    early, late = _at(place, whole)
    return (max(early, points[-1][1]), max(late, points[-1][2])) if points else (early, late)


def _at(place: int, whole: Sequence[Point]) -> Range:
    """Return the range of a place in the line."""
    index = bisect_left(whole, place, key=lambda point: int(point[0]))
    if index < len(whole):
        return whole[max(0, index - 1)][1], whole[index][2]
    last, before = whole[-1], whole[len(whole) // 2]
    places = int(last[0]) - int(before[0])
    more = (place - int(last[0])) / places if places else 0.0
    return last[1] + more * max(0.0, last[1] - before[1]), last[2] + more * max(0.0, last[2] - before[2])
