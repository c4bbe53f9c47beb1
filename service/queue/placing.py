"""Where gangs fit: exact arithmetic on nodes, in integers of 1/10000 of a resource, as in Ray.

A gang's workers are equal, so on one node only their number counts: its **slots**. Free slots are kept for each kind of
gang and counted again only on the nodes that changed; what a node could take beside the head of the line
(`scheduling`) is a function of what runs on it, remembered for nodes that are alike and from one plan to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from service.queue.jobs import Capacity, Resources

UNIT = 10_000  # Ray's own granularity
MAX_LOADS = 4096  # sums of running gangs looked at per node; with more, nothing passes the head there

Amounts = dict[str, int]  # resource name -> 1/10000 of its unit
Pairs = tuple[tuple[str, int], ...]  # the same, to be compared and hashed: sorted by name


def units(amounts: Mapping[str, float]) -> Amounts:
    """Return the amounts in integers of 1/10000."""
    return {name: round(amount * UNIT) for name, amount in amounts.items()}


def slots(free: Mapping[str, int], bundle: Iterable[tuple[str, int]], at_most: int) -> int:
    """Return how many bundles fit into `free`, at most `at_most`."""
    for name, amount in bundle:
        if amount > 0 and (count := free.get(name, 0) // amount) < at_most:
            at_most = count
    return at_most if at_most > 0 else 0


def pairs(amounts: Mapping[str, int]) -> Pairs:
    """Return the amounts as something that can be hashed."""
    return tuple(sorted(amounts.items()))


@lru_cache(maxsize=4096)
def worker(resources: Resources) -> Pairs:
    """Return what one worker of the gang takes."""
    return pairs(units(resources.bundle()))


@lru_cache(maxsize=4096)
def gang(resources: Resources) -> Mapping[str, int]:
    """Return what all of the gang's workers take."""
    return MappingProxyType(units(resources.total()))


@lru_cache(maxsize=4096)
def counted(places: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return the nodes of these workers with how many are on each, in the order of the nodes."""
    return tuple(sorted(Counter(places).items()))


@lru_cache(maxsize=4096)
def workers_of(resources: Resources, count: int) -> Pairs:
    """Return what so many workers of the gang take."""
    return tuple((name, amount * count) for name, amount in worker(resources))


class Empty:
    """A cluster with nothing on it: equal nodes are counted once."""

    def __init__(self, capacity: Capacity) -> None:
        self._kinds = [(units(kind), count) for kind, count in capacity.kinds]

    def slots(self, resources: Resources) -> int:
        """Return how many of the gang's workers fit in all, each node counted up to a whole gang."""
        return sum(count * slots(node, worker(resources), resources.workers) for node, count in self._kinds)

    def fits(self, resources: Resources) -> bool:
        """Return whether the whole gang fits, or as much of it as has to."""
        return self.slots(resources) >= resources.fewest


@dataclass(kw_only=True)
class Node:
    """A node's total, what the gangs on it hold (one entry each), and what is left: below zero where nodes are gone."""

    total: Amounts
    loads: list[Pairs] = field(default_factory=list)
    free: Amounts = field(default_factory=dict)


class Nodes:
    """The cluster's nodes with what runs on them."""

    def __init__(self, capacity: Capacity) -> None:
        self.nodes = [Node(total=total, free=dict(total)) for total in map(units, capacity.nodes)]
        self.free: Counter[str] = Counter()  # in total
        for node in self.nodes:
            self.free.update(node.free)
        self.changed: list[int] = []  # the nodes that were given something, in this order

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def hold(self, resources: Resources, places: tuple[int, ...]) -> None:
        """Give the gang's workers what they take on these nodes: one entry for each worker."""
        in_total = self.free
        for index, count in counted(places):
            node = self.nodes[index]
            load = workers_of(resources, count)
            node.loads.append(load)
            free = node.free
            for name, amount in load:
                free[name] = free.get(name, 0) - amount
                in_total[name] -= amount
            self.changed.append(index)

    def somewhere(self, resources: Resources) -> tuple[int, ...]:
        """Return nodes with room; a worker that finds none counts against the first, which then has less than none."""
        room = (slots(node.free, worker(resources), resources.workers) for node in self.nodes)
        places = [index for index, count in enumerate(room) for _ in range(count)][: resources.workers]
        return (*places, *([0] * (resources.workers - len(places))))


class Room:
    """The free slots of one kind of gang, node by node, counted again only where something changed."""

    def __init__(self, nodes: Nodes, resources: Resources) -> None:
        self.resources = resources
        self._nodes = nodes
        self._bundle = worker(resources)
        self._looked = len(nodes.changed)
        self._head: Resources | None = None
        self.slots = [slots(node.free, self._bundle, resources.workers) for node in nodes]
        self._sum = sum(self.slots)

    def refresh(self) -> None:
        """Count again on the nodes that were given something since."""
        changed = self._nodes.changed
        for index in set(changed[self._looked :]):
            count = slots(self._nodes.nodes[index].free, self._bundle, self.resources.workers)
            self._sum += count - self.slots[index]
            self.slots[index] = count
        self._looked = len(changed)

    def most(self) -> int:
        """Return how many of the gang's workers fit: in slots, and in total, for what runs on nodes that are gone
        counts."""
        return min(self._sum, slots(self._nodes.free, self._bundle, self.resources.workers))

    def fits(self) -> bool:
        """Return whether the gang fits now, or as much of it as has to."""
        return self.most() >= self.resources.fewest

    def beside(self, head: Resources) -> list[int]:
        """Return the slots that can be taken without ever costing the head one of its own."""
        return [
            beside(head, pairs(node.total), tuple(sorted(node.loads)), self._bundle, count) if count else 0
            for node, count in zip(self._nodes, self.slots, strict=True)
        ]

    def choose(self, room: Sequence[int], workers: int) -> tuple[int, ...]:
        """Return as few nodes as possible for so many of the workers, the tightest that hold them all; none with a GPU
        if none is asked for.

        room: the slots that may be taken on each node; together at least as many.
        """
        asked = {name for name, _ in self._bundle}

        def order(index: int) -> tuple[int, bool, int, int]:
            total = self._nodes.nodes[index].total
            unused = sum(1 for name, amount in total.items() if amount > 0 and name not in asked)
            whole = room[index] >= workers
            return unused, not whole, room[index] if whole else -room[index], index

        chosen: list[int] = []
        for index in sorted((index for index, count in enumerate(room) if count), key=order):
            chosen += [index] * min(room[index], workers - len(chosen))
            if len(chosen) == workers:
                break
        return tuple(sorted(chosen))


def beside(head: Resources, total: Pairs, loads: tuple[Pairs, ...], bundle: Pairs, at_most: int) -> int:
    """Return how many of the bundles a node can take without ever costing the head a slot there, at most `at_most`."""
    spares = _spares(worker(head), head.workers, total, loads)
    if spares is None:
        return 0
    for spare in spares:
        left = dict(spare)
        at_most = slots(left, [(name, amount) for name, amount in bundle if name in left], at_most)
    return at_most


@lru_cache(maxsize=20_000)
def _spares(theirs: Pairs, workers: int, total: Pairs, loads: tuple[Pairs, ...]) -> tuple[Pairs, ...] | None:
    """Return what the head's slots leave over on a node, for every order in which what runs there may end.

    Only the least such amounts: one that is larger in every resource allows what the smaller one allows. None when
    there are too many orders to look at.
    """
    names = [name for name, _ in theirs]
    sums = _subset_sums(loads, names)
    if sums is None:
        return None
    amounts = dict(total)
    least: set[tuple[int, ...]] = set()
    for load in sums:
        left = [amounts.get(name, 0) - taken for name, taken in zip(names, load, strict=True)]
        count = slots(dict(zip(names, left, strict=True)), theirs, workers)
        if count > 0:  # there is no slot to lose where there is none
            least.add(tuple(amount - count * each for amount, (_, each) in zip(left, theirs, strict=True)))
    return tuple(tuple(zip(names, spare, strict=True)) for spare in _minimal(least))


def _minimal(vectors: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the vectors that are not at least as large as another one in every place, in sorted order."""
    minimal: list[tuple[int, ...]] = []
    for vector in sorted(vectors):  # whatever is smaller everywhere sorts before it
        if not any(all(a <= b for a, b in zip(other, vector, strict=True)) for other in minimal):
            minimal.append(vector)
    return minimal


def _subset_sums(loads: Sequence[Pairs], names: Sequence[str]) -> set[tuple[int, ...]] | None:
    """Return every sum of some of the loads, in the resources `names`; None when there are too many to look at."""
    sums = {tuple(0 for _ in names)}
    for load in loads:
        taken = dict(load)
        amounts = [taken.get(name, 0) for name in names]
        sums |= {tuple(a + b for a, b in zip(done, amounts, strict=True)) for done in sums}
        if len(sums) > MAX_LOADS:
            return None
    return sums
