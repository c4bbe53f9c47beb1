"""Looks at the line and writes down when what waits is expected to start (`service.queue.forecast`), and what came of
what was expected before. For the dispatcher, beside its plans: it holds nobody up but for the moment of writing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import sqlalchemy as sa

from service.queue import admission, expected, forecast, line, shares
from service.queue.database import Database
from service.queue.forecast import Calibration, Going, Outcome, Range, Turn
from service.queue.history import History, Past, reported
from service.queue.jobs import FINAL, AttemptState, Resources
from service.queue.rows import Clocked, Transactions
from service.queue.schema import attempts, expectations, jobs
from service.queue.schema import expected as table
from service.queue.sharing import NOBODY

LOOK_SECONDS = 10.0  # between two looks
REMEMBERED = 1000  # attempts that are over, the newest: how long jobs take
KEPT = 3000  # checks: ranges that were told, to be held to what came of them
CHECKED = 3  # new ones in
CHECK_SECONDS = 120.0  # so long; those of one moment are all wrong together
EAGER = 200  # while there are so few, at every look
JUDGED = 500  # the newest, of which `vaesvc_expected_start_within` tells
_OPEN = [state.value for state in AttemptState if state.open]
_FINAL = [state.value for state in FINAL]


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What a look has found out. lanes: points of each lane; checks: guess and told range of jobs, from now."""

    now: float
    lanes: Mapping[str, Sequence[expected.Point]]
    checks: Mapping[str, tuple[Range, Range]]
    within: tuple[int, int]  # ranges that held, of so many


class Expected(Transactions):
    """Each method is short transactions. seen: what is known of the cluster."""

    def __init__(self, database: Database, seen: Callable[[Clocked], admission.Seen]) -> None:
        super().__init__(database)
        self._seen = seen

    def look(self) -> dict[str, float]:
        """Write down when what waits is expected to start, unless that has just been done; return what is to be told
        of it by `FigureTables.measure`."""
        with self._read() as work:
            made_at = work.connection.scalar(sa.select(sa.func.max(table.c.made_at)))
            if made_at is not None and work.now < made_at + LOOK_SECONDS / 2:
                return {}
            made = _look(work, self._seen(work))
        if made.lanes or made_at is not None:
            with self._write() as work:
                self._database.lock_admission(work.connection)
                _write(work, made)
        held, judged = made.within
        return {"expected_start_within": held / judged, "expected_start_judged": float(judged)} if judged else {}


def _look(work: Clocked, known: admission.Seen) -> _Made:
    lanes = line.lanes(work)
    outcomes, checked = _outcomes(work)
    judged = [outcome.within for outcome in outcomes[:JUDGED] if outcome.within is not None]
    nothing = _Made(now=work.now, lanes={}, checks={}, within=(sum(judged), len(judged)))
    if not lanes or known.reason is not None:
        return nothing
    unit = "GPU" if (known.most or known.nodes).total().get("GPU") else "CPU"
    owners = {lane.owner for lane in lanes if not lane.begun}
    sharing = shares.sharing(work, shares.pending(work), unit, owners)
    attempts_now = _attempts(work)
    history = History([*(each.past for each in attempts_now), *_past(work)])
    running = [each.going(history) for each in attempts_now]
    able = forecast.startable(lanes, known.usable, sharing)
    head = admission.head_lane(work) if sharing != NOBODY else None
    turns = forecast.in_order(able, running, history, sharing, head)
    random = Random(work.now)  # nosec B311
    guesses = forecast.guess(turns, running, known.usable, work.now, random, sharing)
    calibration = Calibration.of(outcomes)
    calibrated = [calibration.told(each) for each in guesses]
    names = {lane.name for lane in able}
    unable = {lane.name: () for lane in lanes if lane.name not in names}
    ranges = {turn.job_id: (guess, range_) for turn, guess, range_ in zip(turns, guesses, calibrated, strict=True)}
    return _Made(
        now=work.now,
        lanes={**unable, **_points(turns, calibrated, work.now)},
        checks=_to_check(work, ranges, checked, random),
        within=nothing.within,
    )


def _points(turns: Sequence[Turn], told: Sequence[Range], now: float) -> dict[str, list[expected.Point]]:
    """Return what is written down: of the line by places, and of each lane by jobs."""
    by_lane: dict[str, list[tuple[str | int, Range]]] = {}
    for place, (turn, each) in enumerate(zip(turns, told, strict=True), start=1):
        by_lane.setdefault(expected.WHOLE, []).append((place, each))
        by_lane.setdefault(turn.lane, []).append((turn.job_id, each))
    return {
        lane: [
            (key, math.floor(now + early), math.ceil(now + late))
            for key, (early, late) in (every[index] for index in expected.thinned(len(every)))
        ]
        for lane, every in by_lane.items()
    }


def _write(work: Clocked, made: _Made) -> None:
    """Replace what was written down before. Needs the admission lock."""
    work.connection.execute(sa.delete(table))
    if made.lanes:
        rows = [{"lane": lane, "points": list(points), "made_at": made.now} for lane, points in made.lanes.items()]
        work.connection.execute(sa.insert(table), rows)
    if made.checks:
        known = set(
            work.connection.scalars(sa.select(expectations.c.job_id).where(expectations.c.job_id.in_(made.checks)))
        )
        new = [
            {"job_id": job_id, "made_at": made.now, "guess": list(guess), "told": list(calibrated)}
            for job_id, (guess, calibrated) in made.checks.items()
            if job_id not in known
        ]
        if new:
            work.connection.execute(sa.insert(expectations), new)
        oldest = sa.select(expectations.c.made_at).order_by(expectations.c.made_at.desc()).offset(KEPT).limit(1)
        work.connection.execute(sa.delete(expectations).where(expectations.c.made_at <= oldest.scalar_subquery()))


def _to_check(
    work: Clocked, ranges: Mapping[str, tuple[Range, Range]], checked: Sequence[tuple[str, float]], random: Random
) -> dict[str, tuple[Range, Range]]:
    """Return some of the jobs that have not begun before and are not among those that are checked. checked: those that
    are, and when each was told, the newest first."""
    recent = sum(made_at > work.now - CHECK_SECONDS for _, made_at in checked[:CHECKED])
    wanted = CHECKED if len(checked) < EAGER else CHECKED - recent
    known = {job_id for job_id, _ in checked}
    new = [job_id for job_id in ranges if job_id not in known]
    chosen = random.sample(new, min(max(0, wanted), len(new)))  # nosec B311
    query = sa.select(jobs.c.id).where(jobs.c.id.in_(chosen), jobs.c.attempt == 0)
    return {job_id: ranges[job_id] for job_id in work.connection.scalars(query)}


def _outcomes(work: Clocked) -> tuple[list[Outcome], list[tuple[str, float]]]:
    """Return what came of the checks, the newest first, and every check's job with when it was told. Of jobs that were
    cancelled in the line nothing came."""
    began = attempts.c.created_at.label("began")
    query = (
        sa.select(expectations, began, jobs.c.state)
        .join(jobs, jobs.c.id == expectations.c.job_id)
        .outerjoin(attempts, (attempts.c.job_id == jobs.c.id) & (attempts.c.number == 1))
        .order_by(expectations.c.made_at.desc())
    )
    outcomes, checked = [], []
    for row in work.rows(query):
        checked.append((row["job_id"], row["made_at"]))
        if row["began"] is None and row["state"] in _FINAL:
            continue
        (early, late), (first, last) = row["guess"], row["told"]
        waited = (work.now if row["began"] is None else row["began"]) - row["made_at"]
        over = row["began"] is not None
        outcomes.append(
            Outcome(made_at=row["made_at"], guess=(early, late), told=(first, last), waited=waited, over=over)
        )
    return outcomes, checked


def _past(work: Clocked) -> list[Past]:
    query = (
        sa.select(attempts.c.created_at, attempts.c.ended_at, jobs.c.owner, line.RESOURCES)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.ended_at.is_not(None), attempts.c.started_at.is_not(None))
        .order_by(attempts.c.job_id.desc())
        .limit(REMEMBERED)
    )
    return [
        Past(
            owner=row["owner"],
            resources=line.parsed(row["resources"]),
            seconds=max(0.0, row["ended_at"] - row["created_at"]),
        )
        for row in work.rows(query)
    ]


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """An attempt that holds its gang. elapsed: seconds so far; left: seconds, as it tells them."""

    owner: str
    job: Resources
    held: Resources
    elapsed: float
    left: float | None

    @property
    def past(self) -> Past:
        """Return what it tells of how long jobs take."""
        seconds = self.elapsed + (self.left or 0.0)
        return Past(owner=self.owner, resources=self.job, seconds=seconds, over=self.left is not None)

    def going(self, history: History) -> Going:
        left = self.left
        times = history.left(self.owner, self.job, self.elapsed) if left is None else reported(left)
        return Going(owner=self.owner, resources=self.held, left=times)


def _attempts(work: Clocked) -> list[_Attempt]:
    progress = sa.type_coerce(jobs.c.progress, sa.Text).label("progress")
    query = (
        sa.select(
            attempts.c.created_at, attempts.c.started_at, attempts.c.nodes, jobs.c.owner, line.RESOURCES, progress
        )
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.state.in_(_OPEN))
    )
    found = []
    for row in work.rows(query):
        job = line.parsed(row["resources"])
        found.append(
            _Attempt(
                owner=row["owner"],
                job=job,
                held=job.sized(len(row["nodes"])),
                elapsed=max(0.0, work.now - row["created_at"]),
                left=_left(json.loads(row["progress"])) if row["started_at"] is not None else None,
            )
        )
    return found


def _left(progress: Mapping[str, Any]) -> float | None:
    """Return the seconds that are left as a run tells them, from its steps and their speed: where they are of the whole
    run, not of a part of it."""
    left = progress.get("seconds_left")
    return float(left) if isinstance(left, int | float) and left >= 0 and progress.get("total_steps") else None
