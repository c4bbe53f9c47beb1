"""When the head of the line starts at the latest, and who may start before it: where the longest times are known.

Bounds      only what is enforced counts (`service.queue.limits`): an attempt that may run for `seconds` has left its
            gang at `ends(admission, seconds)`, with START_SECONDS to begin in and ENDS_SECONDS to be ended and to
            checkpoint in. One that was asked to give way has left ENDS_SECONDS after its grace, so nobody passes into
            room that is being made. Expected times (`service.queue.forecast`) promise nothing here.
Reservation the least time R at which the head fits when all gangs whose bounds are not later than R have left, and none
            of the others; not before its backoff ends. Without enough bounds there is none. On each node so many of
            the head's workers are reserved, its fewest in all: first where the room comes of gangs that leave by R, so
            that what is free now is left to others; then, of what is free now; each in the order of the nodes.
Backfill    a gang behind the head that ends by R may take whatever is free. Another one may take on each node what is
            left there at R beside the reserved workers.

Hence at R there is room for the head whatever of this has started, and a plan made later, with the same head, reserves
no later: it may start earlier, when gangs end before their bounds, but those who passed it may cost it that. This is
EASY backfilling (Lifka 1995, "The ANL/IBM SP scheduling system") with bounds in place of estimates. What nobody bounds
is beyond it: nodes that are lost, attempts that take longer to start, jobs of a higher class.

A lane holds jobs of one class of bounds: the bounds up to the next power of 2^(1/4) seconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from service.queue.jobs import Resources
from service.queue.placing import Nodes, Pairs, counted, slots, worker, workers_of

START_SECONDS = 300.0  # from admission to the runner's claim
ENDS_SECONDS = 120.0  # from the bound to the end: the dispatcher's look, a heartbeat, a checkpoint, or a lease's end
CLASSES = 4  # of bounds, from one power of two to the next


def ends(begin: float, seconds: float) -> float:
    """Return when an attempt that was admitted at `begin` and may run for so long has left its gang."""
    return begin + START_SECONDS + seconds + ENDS_SECONDS


def bound_class(seconds: float) -> int:
    """Return the least class whose bound is at least so long."""
    number = max(0, math.ceil(CLASSES * math.log2(max(1.0, seconds))))
    return number if longest(number) >= seconds else number + 1


def longest(number: int) -> float:
    """Return the bound of a class, in seconds."""
    return float(2.0 ** (number / CLASSES))


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A gang that has left its places by `until` at the latest."""

    until: float
    resources: Resources
    places: tuple[int, ...]


class Reservation:
    """What is kept for the head while a plan is made. at: R, seconds since 1970."""

    def __init__(self, head: Resources, at: float, nodes: Nodes, free: list[dict[str, int]], total: Counter[str]):
        self.at = at
        self._bundle, self._workers = worker(head), head.workers
        self._names = {name for name, _ in self._bundle}
        self._left = free
        self._total = total
        for amounts, count in zip(self._left, self._reserved(nodes), strict=True):
            for name, amount in self._bundle:
                amounts[name] = amounts.get(name, 0) - amount * count
        for name, amount in self._bundle:
            self._total[name] -= amount * self._workers

    def _reserved(self, nodes: Nodes) -> list[int]:
        """Return how many of the head's workers are reserved on each node."""
        then = [slots(amounts, self._bundle, self._workers) for amounts in self._left]
        now = [slots(node.free, self._bundle, self._workers) for node in nodes]
        wanted, counts = self._workers, [0] * len(then)
        for most in ([max(0, later - sooner) for later, sooner in zip(then, now, strict=True)], then):
            for index, count in enumerate(most):
                more = min(wanted, count - counts[index])
                if more > 0:
                    counts[index] += more
                    wanted -= more
        return counts

    def beside(self, bundle: Pairs, room: Sequence[int]) -> list[int]:
        """Return the slots of `room`, those that are free now, which are also left at R."""
        bounded = [(name, amount) for name, amount in bundle if name in self._names]
        return [slots(left, bounded, count) for left, count in zip(self._left, room, strict=True)]

    def most(self, bundle: Pairs, workers: int) -> int:
        """Return how many of so many workers are left in total at R, for what is on nodes that are gone counts."""
        return slots(self._total, [(name, amount) for name, amount in bundle if name in self._names], workers)

    def hold(self, resources: Resources, places: tuple[int, ...]) -> None:
        """Take what a gang that may still run at R holds."""
        for index, count in counted(places):
            left = self._left[index]
            for name, amount in workers_of(resources, count):
                left[name] = left.get(name, 0) - amount
                self._total[name] -= amount


def reserve(head: Resources, not_before: float, nodes: Nodes, holds: Sequence[Hold], now: float) -> Reservation | None:
    """Return the reservation by this module's rule; None where the bounds of what runs promise nothing. head: with so
    many workers as have to start."""
    if not holds:
        return None
    free = [dict(node.free) for node in nodes]
    total = Counter(nodes.free)
    bundle = worker(head)
    fit = [slots(amounts, bundle, head.workers) for amounts in free]
    count, at = sum(fit), max(now, not_before)
    ordered = sorted(holds, key=lambda hold: hold.until)
    index = 0
    while count < head.workers or any(total[name] < amount * head.workers for name, amount in bundle):
        if index == len(ordered):
            return None
        hold = ordered[index]
        index += 1
        at = max(at, hold.until)
        for place, workers in counted(hold.places):
            for name, amount in workers_of(hold.resources, workers):
                free[place][name] = free[place].get(name, 0) + amount
                total[name] += amount
            there = slots(free[place], bundle, head.workers)
            count += there - fit[place]
            fit[place] = there
    for hold in ordered[index:]:  # whoever leaves by then makes room for others, too
        if hold.until > at:
            break
        for place, workers in counted(hold.places):
            for name, amount in workers_of(hold.resources, workers):
                free[place][name] = free[place].get(name, 0) + amount
                total[name] += amount
    return Reservation(head, at, nodes, free, total)
