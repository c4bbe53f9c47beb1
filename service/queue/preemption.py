"""Who gives way to the head of the line: a pure function of what runs, beside the planner.

    victims(head, priority, holding, capacity) -> the attempts that are to checkpoint and go back into the line

Whom        attempts of jobs of a lower priority that may be preempted: never equals, and for nobody but the head of the
            plan, which quotas and shares have let become the head.
Only then   nobody is asked where the head fits without it (attempts that are leaving count as gone), or where it would
            not fit after all of these had left.
How few     the fewest attempts whose room the head needs. Of sets as small: the one whose last member comes first in
            this order, then whose last but one does, and so on:

                the lowest priority first, then the youngest attempt, by its admission

            Sets are looked at by size while there are at most MOST_SETS of them. Beyond, a small set is found by
            leaving out, of the first that suffice and of the largest that suffice, whoever can be left out: nobody in
            it is superfluous, though another set might be smaller.

Where an attempt is, is what admission noted (`scheduling`): attempts whose nodes are gone are asked nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import comb

from service.queue.jobs import Capacity, Resources
from service.queue.placing import Nodes, counted, slots, worker, workers_of
from service.queue.scheduling import Running

MOST_SETS = 5000


@dataclass(frozen=True, kw_only=True)
class Holding(Running):
    """An attempt that holds its gang. since: its admission, seconds since 1970; leaving: it ends soon, as was asked.
    job: the job's gang, of which `resources` is what it has."""

    priority: int = 0
    since: float = 0.0
    preemptible: bool = True
    leaving: bool = False
    job: Resources | None = None  # none: the same


def victims(head: Resources, priority: int, holding: Iterable[Holding], capacity: Capacity) -> tuple[str, ...]:
    """Return the jobs whose attempts give way to the head by this module's rule, in its order; none where nobody has to
    or where it would not help."""
    staying = [gang for gang in holding if not gang.leaving]
    room = Clearing(head.sized(head.fewest), staying, capacity)
    if room.fits:
        return ()
    lower = [gang for gang in staying if gang.preemptible and gang.priority < priority and room.helps(gang)]
    lower.sort(key=first_to_leave)
    with room.without(lower):
        if not room.fits:
            return ()
    return tuple(lower[index].job_id for index in _fewest(room, lower))


def first_to_leave(gang: Holding) -> tuple[int, float, str]:
    """Return what sorts attempts of the lowest priority first, and of these the youngest."""
    return gang.priority, -gang.since, gang.job_id


class Clearing:
    """The slots that the head has on the nodes, while gangs are taken from them and put back."""

    def __init__(self, head: Resources, staying: Sequence[Running], capacity: Capacity) -> None:
        self._workers, self._bundle = head.workers, worker(head)
        nodes = Nodes(capacity)
        self._places: dict[str, tuple[int, ...]] = {}
        homeless = []
        for gang in sorted(staying, key=lambda gang: gang.job_id):
            if len(gang.nodes) == gang.resources.workers and all(0 <= index < len(nodes) for index in gang.nodes):
                nodes.hold(gang.resources, gang.nodes)
                self._places[gang.job_id] = gang.nodes
            else:
                homeless.append(gang)
        for gang in homeless if len(nodes) else ():
            nodes.hold(gang.resources, nodes.somewhere(gang.resources))
        self._free = [dict(node.free) for node in nodes]
        self._total = Counter(nodes.free)
        self._slots = [slots(free, self._bundle, self._workers) for free in self._free]
        self._sum = sum(self._slots)

    @property
    def fits(self) -> bool:
        """Return whether the head fits now: in slots, and in total, for what is on nodes that are gone counts."""
        return self._sum >= self._workers and all(
            self._total[name] >= amount * self._workers for name, amount in self._bundle
        )

    def helps(self, gang: Running) -> bool:
        """Return whether the gang is on nodes that are there, and holds anything of what the head asks for."""
        held = {name for name, amount in worker(gang.resources) if amount > 0}
        return gang.job_id in self._places and any(name in held for name, amount in self._bundle if amount > 0)

    def take(self, gang: Running, sign: int = 1) -> None:
        """Take the gang from its nodes; sign -1: put it back."""
        for index, count in counted(self._places[gang.job_id]):
            free = self._free[index]
            for name, amount in workers_of(gang.resources, count):
                free[name] = free.get(name, 0) + sign * amount
                self._total[name] += sign * amount
            count_now = slots(free, self._bundle, self._workers)
            self._sum += count_now - self._slots[index]
            self._slots[index] = count_now

    def without(self, gangs: Sequence[Running]) -> _Without:
        """Return a context in which these gangs are not there."""
        return _Without(self, gangs)


class _Without:
    def __init__(self, clearing: Clearing, gangs: Sequence[Running]) -> None:
        self._clearing, self._gangs = clearing, gangs

    def __enter__(self) -> None:
        for gang in self._gangs:
            self._clearing.take(gang)

    def __exit__(self, *_: object) -> None:
        for gang in self._gangs:
            self._clearing.take(gang, -1)


def _fewest(room: Clearing, lower: Sequence[Holding]) -> tuple[int, ...]:
    """Return the set by the rule, as indices: all of `lower` together are enough."""
    looked = 0
    for size in range(1, len(lower) + 1):
        looked += comb(len(lower), size)
        if looked > MOST_SETS:
            break
        for chosen in sets(len(lower), size):
            with room.without([lower[index] for index in chosen]):
                if room.fits:
                    return chosen
    by_size = sorted(range(len(lower)), key=lambda index: (_amount(lower[index]), index))
    enough = [_needed(room, lower, order) for order in (range(len(lower)), by_size)]
    return min(enough, key=lambda chosen: (len(chosen), chosen[::-1]))


def sets(count: int, size: int) -> Iterator[tuple[int, ...]]:
    """Yield the sets of so many of `count` indices: those first whose last member comes first, and so on."""
    if size == 0:
        yield ()
        return
    for last in range(size - 1, count):
        for before in sets(last, size - 1):
            yield (*before, last)


def _amount(gang: Running) -> tuple[float, ...]:
    """Return what sorts the largest gang first."""
    total = gang.resources.total()
    return tuple(-total.get(name, 0.0) for name in ("GPU", "CPU", "memory"))


def _needed(room: Clearing, lower: Sequence[Holding], order: Iterable[int]) -> tuple[int, ...]:
    """Return the first in this order that suffice, without those of them that can be left out."""
    chosen: list[int] = []
    for index in order:
        if room.fits:
            break
        room.take(lower[index])
        chosen.append(index)
    for index in sorted(chosen, reverse=True):
        room.take(lower[index], -1)
        if room.fits:
            chosen.remove(index)
        else:
            room.take(lower[index])
    for index in chosen:
        room.take(lower[index], -1)
    return tuple(sorted(chosen))
