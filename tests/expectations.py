"""Expected starts in a virtual cluster: what would have been told, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from service.queue import forecast
from service.queue.forecast import Calibration, Going, Outcome, Range
from service.queue.history import History, Past, reported
from tests.simulation import GANGS, Began, World

LOOK_SECONDS = 3600.0
REMEMBERED = 1000  # attempts that are over, the newest
REPORTING = 0.7  # of the jobs tell how far they are, which is
ERROR = 0.1  # off by so much: the standard deviation of the logarithm of the seconds that are left
CHECKED = 3  # jobs of a look whose ranges calibrate those that are told later


@dataclass(kw_only=True)
class Told:
    """What was told of a job, and when."""

    at: float
    guess: Range
    told: Range


@dataclass(kw_only=True)
class Expectations:
    """Looks at a world now and then, as the dispatcher does, and keeps what it would tell.

    first: of each job the first range that it was told; later: of jobs drawn by chance at every look; checks: what
    calibrates.
    """

    random: Random
    first: dict[str, Told] = field(default_factory=dict)
    checks: list[tuple[str, Told]] = field(default_factory=list)
    later: list[tuple[str, Told]] = field(default_factory=list)
    looks: int = 0
    next_at: float = 0.0

    def look(self, world: World) -> None:
        if world.now < self.next_at:
            return
        self.next_at = world.now + LOOK_SECONDS
        self.looks += 1
        left = {job_id: self._left(world, job_id) for job_id in world.running}
        history = History(
            [
                *(_so_far(world.running[job_id], world.now, seconds) for job_id, seconds in left.items()),
                *(
                    Past(owner=gang.arrival.user, resources=GANGS[gang.arrival.gpus], seconds=gang.arrival.seconds)
                    for gang in reversed(world.over[-REMEMBERED:])
                ),
            ]
        )
        running = [_going(world.running[job_id], history, world.now, seconds) for job_id, seconds in left.items()]
        sharing = world.sharing()
        turns = forecast.in_order(
            forecast.startable(world.lanes(), world.capacity, sharing), running, history, sharing, world.head_lane
        )
        ranges = forecast.guess(turns, running, world.capacity, world.now, self.random, sharing)
        calibration = Calibration.of(self.outcomes(world))
        told = {
            turn.job_id: Told(at=world.now, guess=guess, told=calibration.told(guess))
            for turn, guess in zip(turns, ranges, strict=True)
        }
        new = [job_id for job_id in told if job_id not in self.first]
        self.first |= {job_id: told[job_id] for job_id in new}
        checked = {job_id for job_id, _ in self.checks}
        unchecked = [job_id for job_id in told if job_id not in checked]
        some = self.random.sample(unchecked, min(CHECKED, len(unchecked)))
        self.checks += [(job_id, told[job_id]) for job_id in some]
        if told:
            chosen = self.random.choice(list(told))
            self.later.append((chosen, told[chosen]))

    def _left(self, world: World, job_id: str) -> float | None:
        """Return the seconds that are left as the job tells them, if it does."""
        gang = world.running[job_id]
        chance = Random(job_id)
        if chance.random() < REPORTING and world.now - gang.at > 60.0:
            return (gang.end - world.now) * chance.lognormvariate(0.0, ERROR)
        return None

    def outcomes(self, world: World, most: int = 4000) -> list[Outcome]:
        """Return what came of the checks, the newest first."""
        return [self._outcome(world, job_id, told) for job_id, told in reversed(self.checks[-most:])]

    def _outcome(self, world: World, job_id: str, told: Told) -> Outcome:
        began = world.began.get(job_id)
        waited = (world.now if began is None else began.at) - told.at
        return Outcome(made_at=told.at, guess=told.guess, told=told.told, waited=waited, over=began is not None)

    def within(self, world: World) -> tuple[list[Outcome], list[Outcome]]:
        """Return the outcomes that are known of the first ranges, and of those drawn by chance."""
        both = (self.first.items(), self.later)
        known = ([self._outcome(world, job_id, told) for job_id, told in some] for some in both)
        first, later = ([outcome for outcome in some if outcome.within is not None] for some in known)
        return first, later


def _so_far(gang: Began, now: float, left: float | None) -> Past:
    seconds = now - gang.at + (left or 0.0)
    resources = GANGS[gang.arrival.gpus]
    return Past(owner=gang.arrival.user, resources=resources, seconds=seconds, over=left is not None)


def _going(gang: Began, history: History, now: float, left: float | None) -> Going:
    owner, resources = gang.arrival.user, GANGS[gang.arrival.gpus]
    times = reported(left) if left is not None else history.left(owner, resources, now - gang.at)
    return Going(owner=owner, resources=resources, left=times)
