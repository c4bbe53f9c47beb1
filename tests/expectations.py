"""Expected starts in a virtual cluster: what would have been told, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from service.queue import forecast
from service.queue.forecast import Calibration, Going, History, Outcome, Past, Range
from tests.simulation import GANGS, World

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
        history = History(
            Past(owner=gang.arrival.user, resources=GANGS[gang.arrival.gpus], seconds=gang.arrival.seconds)
            for gang in reversed(world.over[-REMEMBERED:])
        )
        running = [self._going(world, history, job_id) for job_id in world.running]
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
        self.checks += [(job_id, told[job_id]) for job_id in self.random.sample(new, min(CHECKED, len(new)))]
        if told:
            chosen = self.random.choice(list(told))
            self.later.append((chosen, told[chosen]))

    def _going(self, world: World, history: History, job_id: str) -> Going:
        gang = world.running[job_id]
        resources = GANGS[gang.arrival.gpus]
        chance = Random(job_id)
        elapsed = world.now - gang.at
        if chance.random() < REPORTING and elapsed > 60.0:
            left: tuple[float, ...] = ((gang.end - world.now) * chance.lognormvariate(0.0, ERROR),)
        else:
            left = tuple(history.left(gang.arrival.user, resources, elapsed))
        return Going(owner=gang.arrival.user, resources=resources, left=left)

    def outcomes(self, world: World, most: int = 4000) -> list[Outcome]:
        """Return what came of the checks, the newest first."""
        return [self._outcome(world, job_id, told) for job_id, told in reversed(self.checks[-most:])]

    def _outcome(self, world: World, job_id: str, told: Told) -> Outcome:
        began = world.began.get(job_id)
        waited = (world.now if began is None else began.at) - told.at
        return Outcome(guess=told.guess, told=told.told, waited=waited, over=began is not None)

    def within(self, world: World) -> tuple[list[Outcome], list[Outcome]]:
        """Return the outcomes that are known of the first ranges, and of those drawn by chance."""
        both = (self.first.items(), self.later)
        known = ([self._outcome(world, job_id, told) for job_id, told in some] for some in both)
        first, later = ([outcome for outcome in some if outcome.within is not None] for some in known)
        return first, later
