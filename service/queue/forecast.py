"""When what waits will start: pure functions of the line, of what runs, and of how long jobs took before.

Futures     the line is played FUTURES times: in each, every job takes a time that jobs like it took before
            (`service.queue.history`), what runs takes what its progress says is left (or, where that is not known,
            what is left of a time that is longer than what it has run already), and jobs start in the order of the
            line when their gang is free in total. Nobody is passed, no later job comes, and where on the nodes a gang
            fits is not looked at: a first guess. The order is that of `turns.Line`, shares being charged with what
            each job is expected to take. Times of one future are drawn from an urn, and each is put back with a copy of
            itself (Blackwell and MacQueen (1973), "Ferguson distributions via Polya urn schemes"): a future is a sample
            of how long such jobs may take on average, too, of which a few known times say little.
Range       from the second earliest to the second latest of the futures' starts: waits l and u.
Calibration guesses are kept with what came of them. Of those about as far ahead, let q be the SIDE-quantile of log((w
            + c) / (l + c)), and Q the (1 - SIDE)-quantile of log((w + c) / (u + c)), w being the wait that came to
            pass and c GRAIN_SECONDS. A job that still waits counts with a wait that is longer than what it has waited
            (Kaplan and Meier, as in `service.queue.history`); where Q may be one of these, it is that and UNSURE.
            What is told is

                [(l + c) e^min(0, q) - c,  (u + c) e^max(0, Q) - c],

            the conformal interval of Romano, Patterson and Candes (2019), "Conformalized quantile regression", eq. 7,
            with its two sides apart, in logarithms, and never narrower than the guess. So whatever the guess neglects
            (later jobs that shares let go first, say) the range holds as often as it did with the guesses before, 1 - 2
            SIDE of the time and more, where what is to come is like what was. Guesses of jobs that waited at one time
            were wrong together: they count as n, the most waits among them of which no two overlap. Where n is too
            small for such a quantile, q and Q are the farthest that any was off, and 2 UNSURE / n farther. With fewer
            than FEWEST guesses, q and Q are -UNSURE and UNSURE.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from service.queue.history import GRAIN_SECONDS, History, survival
from service.queue.jobs import Capacity, Resources
from service.queue.placing import Empty, units
from service.queue.sharing import Ledger, Principal, Sharing
from service.queue.turns import Lane, Line

FUTURES = 16
DEPTH = 1000  # jobs of the line that are looked at
SIDE = 0.06  # of the time it starts earlier than the range, and of the time later
HORIZONS = (60.0, 600.0, 3600.0, 14_400.0, 86_400.0)  # seconds: guesses of one class are calibrated together
FEWEST = 30  # guesses of a class with which it is calibrated by itself
NEWEST = 1000  # of a class that count
UNSURE = math.log(2.0)  # how far a guess may be off while too little is known of guesses
NAMES = ("GPU", "CPU")  # of what a gang has to be free in total


@dataclass(frozen=True, kw_only=True)
class Going:
    """A gang that is held. left: equally likely seconds until it is free."""

    owner: str
    resources: Resources
    left: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A job of the line, in its order. times: equally likely seconds for which it will hold its gang."""

    job_id: str
    lane: str
    owner: str
    resources: Resources
    times: Sequence[float]
    not_before: float = 0.0


def startable(lanes: Iterable[Lane], capacity: Capacity, sharing: Sharing) -> list[Lane]:
    """Return the lanes whose jobs can start some day in this cluster under these quotas, by what is stored now."""
    fits = lru_cache(Empty(capacity).fits)
    limits = lru_cache(sharing.limits)

    def can(lane: Lane) -> bool:
        if not lane.begun and sharing.without_storage(lane.owner) is not None:
            return False
        asked = dict(_asked(_to_start(lane.resources)))
        return fits(lane.resources) and all(
            asked.get(name, 0) <= most for (_, name), most in limits(lane.owner).items()
        )

    return [lane for lane in lanes if can(lane)]


def _to_start(resources: Resources) -> Resources:
    """Return what the gang takes to start: of an elastic one its fewest workers."""
    return resources.sized(resources.fewest)


def in_order(
    lanes: Iterable[Lane], running: Iterable[Going], history: History, sharing: Sharing, first: str | None = None
) -> list[Turn]:
    """Return the first DEPTH jobs of the line in the order in which they are expected to start. lanes: `startable`
    ones. first: the lane of the head, as in `scheduling.plan`."""
    ledger = Ledger(sharing)
    for gang in running:
        ledger.charge(gang.owner, gang.resources, seconds=_mean(gang.left))
    turns: list[Turn] = []
    line = Line(lanes, ledger, first)
    for lane, job in line:
        times = history.times(lane.owner, lane.resources)
        ledger.charge(lane.owner, lane.resources, seconds=_mean(times))
        turns.append(
            Turn(
                job_id=job.job_id,
                lane=lane.name,
                owner=lane.owner,
                resources=_to_start(lane.resources),
                times=times,
                not_before=job.not_before,
            )
        )
        if len(turns) == DEPTH:
            break
        line.go_on()
    return turns


def _mean(times: Sequence[float]) -> float:
    return sum(times) / len(times)


Range = tuple[float, float]  # seconds from now, or since 1970


def guess(
    turns: Sequence[Turn],
    running: Sequence[Going],
    capacity: Capacity,
    now: float,
    random: Random,
    sharing: Sharing | None = None,
) -> list[Range]:
    """Return for each of the jobs the range of its wait in seconds, not calibrated: `Calibration` does that."""
    starts: list[list[float]] = [[] for _ in turns]
    quotas = _Quotas(sharing)
    held = [_Asks(gang.owner, gang.resources, gang.left, quotas) for gang in running]
    asking = [_Asks(turn.owner, turn.resources, turn.times, quotas, turn.not_before - now) for turn in turns]
    for _ in range(FUTURES):
        future, urns = _Future(capacity, held, random), _Urns(random)
        for asks, each in zip(asking, starts, strict=True):
            each.append(future.start(asks, urns.draw(asks.times)))
    ranges = []
    for each in starts:
        each.sort()
        ranges.append((each[1], each[-2]))
    return ranges


class _Urns:
    """How long jobs take in one future: what was drawn for one job is likelier for those behind it that are like it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._drawn: dict[int, list[float]] = {}

    def draw(self, times: Sequence[float]) -> float:
        """Return one of these times, or one that was drawn of the same sequence before, all equally likely."""
        drawn = self._drawn.setdefault(id(times), [])
        index = int(self._random.random() * (len(times) + len(drawn)))
        seconds = times[index] if index < len(times) else drawn[index - len(times)]
        drawn.append(seconds)
        return seconds


class _Quotas:
    """The quotas that owners are under, looked up once."""

    def __init__(self, sharing: Sharing | None) -> None:
        self._sharing = sharing
        self._limits: dict[str, dict[tuple[Principal, str], int]] = {}

    def of(self, owner: str) -> dict[tuple[Principal, str], int]:
        """Return whose, of which resource -> the most, in 1/10000."""
        if self._sharing is None:
            return {}
        if owner not in self._limits:
            self._limits[owner] = self._sharing.limits(owner)
        return self._limits[owner]


class _Asks:
    """What a gang asks for, of the cluster and of its quotas, the same in every future.

    amounts: by resource; quotas: which, the most of it, and the amount. not_before: seconds from now.
    """

    __slots__ = ("amounts", "not_before", "quotas", "times")

    def __init__(
        self, owner: str, resources: Resources, times: Sequence[float], quotas: _Quotas, not_before: float = 0.0
    ) -> None:
        self.amounts = _asked(resources)
        self.times = times
        self.not_before = not_before
        limits = quotas.of(owner)
        asked = dict(self.amounts) if limits else {}
        self.quotas = [(key, most, asked[key[1]]) for key, most in limits.items() if asked.get(key[1], 0)]


class _Free:
    """When how much of a resource is free, from the last start in the line on."""

    def __init__(self, total: int) -> None:
        self._now = total  # free since the last start in the line
        self._later: list[tuple[float, int]] = []  # becomes free then

    def give(self, at: float, amount: int) -> None:
        insort(self._later, (at, amount))

    def hold(self, until: float, amount: int) -> None:
        """Take what is free now; what runs on nodes that are gone leaves less than none."""
        self._now -= amount
        self.give(until, amount)

    def when(self, amount: int) -> float:
        """Return when so much is free: at 0, or at an end."""
        free, at = self._now, 0.0
        for end, freed in self._later:
            if free >= amount:
                break
            free, at = free + freed, end
        return at

    def take(self, start: float, seconds: float, amount: int, *, in_line: bool) -> None:
        """Take so much from `start` on. in_line: nothing starts earlier any more."""
        reach = bisect_left(self._later, (start, 1 << 62))
        if in_line:
            self._now -= amount
            if reach:
                self._now += sum([freed for _, freed in self._later[:reach]])
                del self._later[:reach]
        else:  # others start earlier: they are left what is free before
            while amount and reach:
                at, freed = self._later.pop(reach - 1)
                reach -= 1
                if freed > amount:
                    insort(self._later, (at, freed - amount))
                given = min(freed, amount)
                amount -= given
                insort(self._later, (start + seconds, given))
            self._now -= amount
        if amount:
            self.give(start + seconds, amount)


class _Quota:
    """What a quota has given out, in one resource."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.last = 0.0  # nobody whom it counts starts before somebody whom it held back
        self._held: list[tuple[float, int]] = []
        self._sum = 0  # of these

    def when(self, amount: int, at: float) -> float:
        """Return when, from `at` on, so much more may be held."""
        at = max(at, self.last)
        over = bisect_right(self._held, (at, 1 << 62))
        if over:
            self._sum -= sum(each for _, each in self._held[:over])
            del self._held[:over]
        held = self._sum
        for end, each in self._held:
            if held + amount <= self.most:
                break
            at, held = end, held - each
        return at

    def hold(self, start: float, end: float, amount: int) -> None:
        self.last = start
        self._sum += amount
        insort(self._held, (end, amount))


class _Future:
    """One future: jobs start in the order of the line, when their gang is free in total and their quotas allow it."""

    def __init__(self, capacity: Capacity, running: Sequence[_Asks], random: Random) -> None:
        total = units(capacity.total())
        self._free = {name: _Free(total.get(name, 0)) for name in NAMES}
        self._quotas: dict[tuple[Principal, str], _Quota] = {}
        self._last = 0.0
        for gang in running:
            until = random.choice(gang.times)  # nosec B311
            for name, amount in gang.amounts:
                self._free[name].hold(until, amount)
            for key, most, amount in gang.quotas:
                self._quota(key, most).hold(0.0, until, amount)

    def _quota(self, key: tuple[Principal, str], most: int) -> _Quota:
        quota = self._quotas.get(key)
        if quota is None:
            quota = self._quotas[key] = _Quota(most)
        return quota

    def start(self, asks: _Asks, seconds: float) -> float:
        """Let the job start as soon as it can, and return when that is, in seconds from now."""
        in_line = self._last
        for name, amount in asks.amounts:
            if (free := self._free[name].when(amount)) > in_line:
                in_line = free
        start = max(in_line, asks.not_before)
        quotas = [(self._quota(key, most), amount) for key, most, amount in asks.quotas]
        for quota, amount in quotas:
            start = quota.when(amount, start)
        for name, amount in asks.amounts:
            self._free[name].take(start, seconds, amount, in_line=start == in_line)
        for quota, amount in quotas:
            quota.hold(start, start + seconds, amount)
        if start == in_line:
            self._last = start
        return start


_ASKED: dict[Resources, tuple[tuple[str, int], ...]] = {}


def _asked(resources: Resources) -> tuple[tuple[str, int], ...]:
    """Return what the gang takes in total of what is counted here, in 1/10000."""
    if resources not in _ASKED:
        if len(_ASKED) > 4096:
            _ASKED.clear()
        total = units(resources.total())
        _ASKED[resources] = tuple((name, total[name]) for name in NAMES if total.get(name))
    return _ASKED[resources]


# --- calibration ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A guess and what came of it. guess: the range of the wait in seconds before calibration; told: after it.

    made_at: when it was told; waited: seconds; over: it has started, else it has waited so long already
    """

    made_at: float
    guess: Range
    told: Range
    waited: float
    over: bool

    @property
    def within(self) -> bool | None:
        """Return whether the range that was told holds the wait; None while that is not known."""
        early, late = self.told
        if self.over:
            return early - 0.5 <= self.waited <= late + 0.5  # what is told is rounded to seconds
        return False if self.waited > late + 0.5 else None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far the guesses were off, by how far ahead they were: (log of the early side, log of the late side)."""

    sides: Mapping[int | None, Range] = field(default_factory=dict)  # None: of all guesses together

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Calibration:
        """Return the calibration by these outcomes, the newest first."""
        by_class: dict[int | None, list[Outcome]] = {}
        for outcome in outcomes:
            for horizon in (_horizon(outcome.guess), None):
                some = by_class.setdefault(horizon, [])
                if len(some) < NEWEST:
                    some.append(outcome)
        return cls(sides={key: _sides(some) for key, some in by_class.items() if _known(some) >= FEWEST})

    def told(self, guess: Range) -> Range:
        """Return the range of the wait that is told, in seconds: of a guess."""
        early, late = self.sides.get(_horizon(guess)) or self.sides.get(None) or (-UNSURE, UNSURE)
        low, high = (GRAIN_SECONDS + wait for wait in guess)
        low, high = low * math.exp(early) - GRAIN_SECONDS, high * math.exp(late) - GRAIN_SECONDS
        return max(0.0, min(low, high)), max(0.0, low, high)


def _horizon(guess: Range) -> int:
    return bisect_right(HORIZONS, guess[1])


def _known(outcomes: Sequence[Outcome]) -> int:
    """Return of how many it is known whether they wait for longer than was guessed."""
    return sum(outcome.over or outcome.waited > outcome.guess[1] for outcome in outcomes)


def _sides(outcomes: Sequence[Outcome]) -> Range:
    count, apart = len(outcomes), _apart(outcomes)
    level = (SIDE * (apart + 1) - 1) / apart  # conformal: the ranks allow for the one to come
    below, farther = max(0, math.floor(count * level)), 2 * UNSURE / apart if level < 0 else 0.0
    early, late = (
        [(_log(outcome.waited, outcome.guess[side]), not outcome.over) for outcome in outcomes] for side in (0, 1)
    )
    return min(0.0, _at_rank(early, below + 1) - farther), max(0.0, _at_rank(late, count - below) + farther)


def _apart(outcomes: Iterable[Outcome]) -> int:
    """Return of how many waits at most no two overlap."""
    count, last = 0, -math.inf
    for end, made_at in sorted((outcome.made_at + outcome.waited, outcome.made_at) for outcome in outcomes):
        if made_at >= last:
            count, last = count + 1, end
    return count


def _at_rank(scores: Sequence[tuple[float, bool]], rank: int) -> float:
    """Return the score that so many of them are not above, by `history.survival`; UNSURE above all where what waits may
    be the one. scores: and whether that one waits still."""
    wanted = 1.0 - rank / len(scores) + 1e-9
    for score, left in survival(scores):
        if left <= wanted:
            return score
    return max(score for score, _ in scores) + UNSURE


def _log(waited: float, guessed: float) -> float:
    return math.log((max(0.0, waited) + GRAIN_SECONDS) / (guessed + GRAIN_SECONDS))
