"""How long jobs hold their gangs: of attempts that are over, and of those that run, as far as they have come.

Jobs that take long are over late: whoever asks only those that are over is told times that are too short, by far
while little is known. So what runs counts, too: with its whole time where its progress tells what is left, else as
one that takes longer than it has run already, by the product-limit estimate of Kaplan and Meier (1958),
"Nonparametric estimation from incomplete observations":

    S(t) = product over the times s <= t at which some were over of (1 - over at s / not yet over before s)

What is left of S beyond the longest time known is spread over OUTLIVED times as much more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.queue.jobs import Resources

NEWEST = 1000  # of a class that count
LIKE = 8  # jobs that have to have been alike for their times to count alone
POINTS = 100  # at most, in place of a distribution that is not one of equally likely times
GRAIN_SECONDS = 10.0
UNKNOWN = (60.0, 300.0, 900.0, 3600.0, 14_400.0)  # seconds, equally likely, before anything has ended
# of the seconds left as a job tells them: so many times, and so many more
REPORTED = ((0.9, 0.0), (1.0, 0.0), (1.0, 10.0), (1.3, 10.0))
OUTLIVED = (0.1, 0.3, 1.0, 3.0, 9.0)  # of what it has run already, for what has run longer than anything before


@dataclass(frozen=True, kw_only=True)
class Past:
    """An attempt: how long it has held its gang. over: that was all, or will be; else it is not known when it ends."""

    owner: str
    resources: Resources
    seconds: float
    over: bool = True


class History:
    """How long jobs took: of the same owner and gang where enough are known, of the owner, of all."""

    def __init__(self, past: Iterable[Past]) -> None:
        """Keep the times. past: the newest first."""
        self._known: dict[tuple[object, ...], list[tuple[float, bool]]] = {}
        self._made: dict[tuple[object, ...], Sequence[float]] = {}
        for each in past:
            for like in ((each.owner, each.resources), (each.owner,), ()):
                known = self._known.setdefault(like, [])
                if len(known) < NEWEST:
                    known.append((each.seconds, not each.over))

    def times(self, owner: str, resources: Resources) -> Sequence[float]:
        """Return equally likely seconds for which such a job holds its gang, in sorted order."""
        for like in ((owner, resources), (owner,)):
            known = self._known.get(like, ())
            if len(known) >= LIKE and sum(not runs for _, runs in known) >= LIKE:
                return self._of(like)
        return self._of(()) or UNKNOWN

    def _of(self, like: tuple[object, ...]) -> Sequence[float]:
        if like not in self._made:
            self._made[like] = equally_likely(self._known.get(like, ()))
        return self._made[like]

    def left(self, owner: str, resources: Resources, elapsed: float) -> Sequence[float]:
        """Return equally likely seconds for which a gang that has run for `elapsed` is still held."""
        times = self.times(owner, resources)
        longer = times[bisect_right(times, elapsed) :]
        return [seconds - elapsed for seconds in longer] or [max(elapsed, GRAIN_SECONDS) * part for part in OUTLIVED]


def reported(left: float) -> Sequence[float]:
    """Return equally likely seconds for which a gang is still held whose job says that so many are left."""
    return sorted(left * part + more for part, more in REPORTED)


def survival(known: Sequence[tuple[float, bool]]) -> list[tuple[float, float]]:
    """Return the values at which something was over, in sorted order, each with S after it. known: values, and whether
    more is to come there."""
    steps: list[tuple[float, float]] = []
    left, at_risk = 1.0, len(known)
    for value, more in sorted(known):  # of equal values what is over comes first
        if not more:
            left *= 1.0 - 1.0 / at_risk
            steps.append((value, left))
        at_risk -= 1
    return steps


def equally_likely(known: Sequence[tuple[float, bool]]) -> Sequence[float]:
    """Return equally likely seconds, in sorted order: none where nothing is over. known: seconds, and whether it runs
    still."""
    if not any(runs for _, runs in known):
        return sorted(seconds for seconds, _ in known)
    steps = survival(known)
    if not steps:
        return ()
    times: list[float] = []
    index = 0
    points = min(POINTS, len(known))
    for point in range(points):
        wanted = 1.0 - (point + 0.5) / points
        while index < len(steps) and steps[index][1] > wanted:
            index += 1
        if index == len(steps):
            break
        times.append(steps[index][0])
    beyond, longest = points - len(times), max(GRAIN_SECONDS, *(seconds for seconds, _ in known))
    times += [longest * (1.0 + OUTLIVED[(2 * place + 1) * len(OUTLIVED) // (2 * beyond)]) for place in range(beyond)]
    return times
