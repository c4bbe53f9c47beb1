"""The planner as it was first written: job by job, through the whole line. The one in use is held to it.

Its rule is that of `service.queue.scheduling`; it costs the length of the line times the number of nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from service.queue.jobs import Capacity, Resources
from service.queue.reservation import ENDS_SECONDS, START_SECONDS
from service.queue.sharing import AHEAD_SECONDS, NOBODY, Principal, Sharing

UNIT = 10_000  # Ray's own granularity
MAX_LOADS = 4096  # sums of running gangs looked at per node; with more, nothing passes the head there

Amounts = dict[str, int]  # resource name -> 1/10000 of its unit


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A job that waits."""

    job_id: str
    resources: Resources
    priority: int = 0
    not_before: float = 0.0  # backoff: seconds since 1970
    owner: str = ""
    seconds: float | None = None
    begun: bool = False


@dataclass(frozen=True, kw_only=True)
class Running:
    """An attempt that holds its gang. `nodes`: the node of each worker, as admission noted it."""

    job_id: str
    resources: Resources
    nodes: tuple[int, ...] = ()
    owner: str = ""
    until: float | None = None


@dataclass(frozen=True, kw_only=True)
class Admission:
    """`nodes`: for each worker the index of its node in `Capacity.nodes`."""

    job_id: str
    nodes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do now. Every queued job is in exactly one of `admit`, `waiting` and `impossible`."""

    admit: tuple[Admission, ...] = ()
    waiting: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # job id -> why
    impossible: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    line: tuple[str, ...] = ()  # all job ids, next first
    quotas: Mapping[str, tuple[Principal, str]] = field(default_factory=lambda: MappingProxyType({}))  # of who waits
    head: str | None = None
    reserved: float | None = None


@dataclass(kw_only=True)
class _Node:
    total: Amounts
    loads: list[Amounts] = field(default_factory=list)  # one entry per gang that holds something here
    free: Amounts = field(default_factory=dict)

    def hold(self, load: Amounts) -> None:
        self.loads.append(load)
        for name, amount in load.items():
            self.free[name] = self.free.get(name, 0) - amount


def plan(
    queue: Iterable[Queued], running: Iterable[Running], capacity: Capacity, now: float, *, most: Capacity | None = None
) -> Plan:
    """Return the plan by this module's rule. `most` is the largest cluster ever seen or configured; None: unknown."""

    @cache  # a long line has few kinds of gangs
    def fate(resources: Resources) -> tuple[str | None, bool]:
        return (impossibility(resources, most) if most is not None else None), fits(resources, capacity)

    nodes = _occupied(capacity, running)
    line = sorted(queue, key=lambda job: (-job.priority, job.job_id))
    admit: list[Admission] = []
    waiting: dict[str, str] = {}
    impossible: dict[str, str] = {}
    head: Queued | None = None
    head_place = 0
    for place, job in enumerate(line, start=1):
        refusal, fits_now = fate(job.resources)
        if refusal is not None:
            impossible[job.job_id] = refusal
            continue
        if not fits_now:
            waiting[job.job_id] = _too_large_now(job.resources, capacity)
            continue
        places = _places(job, nodes, head, head_place, now)
        if isinstance(places, str):
            waiting[job.job_id] = places
            if head is None:
                head, head_place = job, place
            continue
        _hold(nodes, job.resources, places)
        admit.append(Admission(job_id=job.job_id, nodes=places))
    return Plan(
        admit=tuple(admit),
        waiting=MappingProxyType(waiting),
        impossible=MappingProxyType(impossible),
        line=tuple(job.job_id for job in line),
    )


def shared_plan(
    queue: Iterable[Queued],
    running: Iterable[Running],
    capacity: Capacity,
    now: float,
    *,
    sharing: Sharing = NOBODY,
    first: Lane | None = None,
) -> Plan:
    """Return the plan with shares, quotas and bounds: after each job the scores are summed afresh and all others sorted
    again.

    first: the lane that goes first in its priority, once.
    """
    running = list(running)
    held = [_Held(gang.until, gang.resources, gang.nodes) for gang in running if _housed(gang, capacity)]
    reserved: _Reserved | None = None
    nodes = _occupied(capacity, running)
    holding = [(gang.owner, gang.resources) for gang in running]  # grows by what is admitted
    kept = list(holding)  # and by the head
    left: list[Queued] = list(queue)
    lanes_left: set[Lane] = set()
    kinds_waiting: set[tuple[Resources, float | None]] = set()
    blocked: set[tuple[Principal, str]] = set()
    admit: list[Admission] = []
    quotas: dict[str, tuple[Principal, str]] = {}
    line: list[str] = []
    head: Queued | None = None

    def score(group: str, user: str | None) -> float:
        """By weight, of a group or of a user in it."""
        usage = sum(s for (g, u), s in sorted(sharing.usage.items()) if g == group and user in (None, u))
        amounts = (
            round(r.total().get(sharing.unit, 0.0) * UNIT)
            for owner, r in holding
            if sharing.group(owner) == group and user in (None, owner)
        )
        weight = sharing.weights.get(group, 1.0) if user is None else 1.0
        return (usage + AHEAD_SECONDS * (sum(amounts) / UNIT)) / weight

    def key(job: Queued) -> tuple[object, ...]:
        group = sharing.group(job.owner)
        shares = (score(group, None), score(group, job.owner) if group else 0.0) if sharing.weights else ()
        return (-job.priority, lane(job) != first, shares, job.job_id)

    def lane(job: Queued) -> Lane:
        return job.priority, job.owner, job.resources, bound(job), job.begun

    def until(job: Queued) -> float | None:
        longest = bound(job)
        return None if longest is None else now + START_SECONDS + longest + ENDS_SECONDS

    def over(job: Queued) -> tuple[Principal, str] | None:
        asks = _units(job.resources.total())
        whose = (Principal(kind="user", name=job.owner), Principal(kind="group", name=sharing.group(job.owner)))
        for principal in () if job.begun else whose:
            if principal in sharing.used_up:
                return principal, "storage"
        for (principal, name), most in sharing.limits(job.owner).items():
            counted = [
                _units(r.total()).get(name, 0) for owner, r in kept if (principal, name) in sharing.limits(owner)
            ]
            amount = asks.get(name, 0)
            if amount and (sum(counted) + amount > most or (principal, name) in blocked):
                if amount <= most:
                    blocked.add((principal, name))
                return principal, name
        return None

    while left:
        job = min(left, key=key)
        left.remove(job)
        line.append(job.job_id)
        if lane(job) == first:
            first = None
        if lane(job) in lanes_left or not fits(job.resources, capacity):
            continue
        if (quota := over(job)) is not None:
            quotas[job.job_id] = quota
            lanes_left.add(lane(job))
            continue
        places = _places(job, nodes, head, 0, now) if reserved is None else reserved.places(job, until(job), now, held)
        if not isinstance(places, str):
            _hold(nodes, job.resources, places)
            held.append(_Held(until(job), job.resources, places))
            holding.append((job.owner, job.resources))
            kept.append((job.owner, job.resources))
            admit.append(Admission(job_id=job.job_id, nodes=places))
            continue
        if job.not_before <= now:
            kinds_waiting.add((job.resources, bound(job)))
        if (job.resources, bound(job)) in kinds_waiting:  # else it backs off, and its lane goes on
            lanes_left.add(lane(job))
        if head is None:
            head = job
            reserved = _reserved(job, nodes, held, now)
            kept.append((job.owner, job.resources))
    return Plan(
        admit=tuple(admit),
        line=tuple(line),
        quotas=MappingProxyType(quotas),
        head=None if head is None else head.job_id,
        reserved=None if reserved is None else reserved.at,
    )


# --- bounds ---------------------------------------------------------------------------------------------------------

Lane = tuple[int, str, Resources, float | None, bool]  # priority, owner, gang, bound, has begun before


def bound(job: Queued) -> float | None:
    """The bound of a job's class: the next power of 2^(1/4) seconds."""
    if job.seconds is None:
        return None
    power = 0
    while 2.0 ** (power / 4) < job.seconds:
        power += 1
    return float(2.0 ** (power / 4))


@dataclass(frozen=True)
class _Held:
    until: float | None
    resources: Resources
    nodes: Sequence[int]


def _housed(gang: Running, capacity: Capacity) -> bool:
    return len(gang.nodes) == gang.resources.workers and all(0 <= n < len(capacity.nodes) for n in gang.nodes)


def _given_back(nodes: Sequence[_Node], held: Sequence[_Held], at: float) -> list[Amounts]:
    """What is free on each node when all that are bounded by then have left, and nobody else."""
    free = [dict(node.free) for node in nodes]
    for gang in held:
        if gang.until is not None and gang.until <= at:
            for index in gang.nodes:
                for name, amount in _units(gang.resources.bundle()).items():
                    free[index][name] = free[index].get(name, 0) + amount
    return free


def _fits_in(free: Sequence[Amounts], resources: Resources) -> bool:
    bundle = _units(resources.bundle())
    in_slots = sum(_slots(amounts, bundle, resources.workers) for amounts in free) >= resources.workers
    return in_slots and all(
        sum(amounts.get(name, 0) for amounts in free) >= amount * resources.workers for name, amount in bundle.items()
    )


@dataclass
class _Reserved:
    """When the head starts at the latest, and how many of its workers are kept room for on each node."""

    head: Queued
    at: float
    counts: list[int]
    nodes: Sequence[_Node]

    def places(self, job: Queued, until: float | None, now: float, held: Sequence[_Held]) -> tuple[int, ...] | str:
        """As `_places`: one that has left by then may be anywhere, another one beside what is kept then."""
        if until is not None and until <= self.at:
            return _places(job, self.nodes, None, 0, now)
        own, theirs = _units(job.resources.bundle()), _units(self.head.resources.bundle())
        then = _given_back(self.nodes, held, self.at)
        kept = [{name: amount * count for name, amount in theirs.items()} for count in self.counts]
        over = [
            {name: free.get(name, 0) - keep[name] for name in theirs} for free, keep in zip(then, kept, strict=True)
        ]

        def allowed(index: int, most: int) -> int:
            while most and any(over[index][name] < most * amount for name, amount in own.items() if name in theirs):
                most -= 1
            return most

        places = _places(job, self.nodes, None, 0, now)
        if isinstance(places, str):
            return places
        free = [_slots(node.free, own, job.resources.workers) for node in self.nodes]
        room = [allowed(index, count) for index, count in enumerate(free)]
        total = min(
            (sum(each[name] for each in over) // amount for name, amount in own.items() if name in theirs and amount),
            default=job.resources.workers,
        )
        if min(sum(room), total) < job.resources.workers:
            return "could delay the head beyond its reservation"
        return _chosen(self.nodes, own, room, job.resources.workers)


def _reserved(head: Queued, nodes: Sequence[_Node], held: Sequence[_Held], now: float) -> _Reserved | None:
    bounded = [gang for gang in held if gang.until is not None]
    if not bounded:
        return None
    earliest = max(now, head.not_before)
    for end in sorted({now, *(gang.until for gang in bounded if gang.until is not None)}):
        if _fits_in(_given_back(nodes, held, end), head.resources):
            at = max(earliest, end)
            break
    else:
        return None
    bundle, workers = _units(head.resources.bundle()), head.resources.workers
    then = [_slots(free, bundle, workers) for free in _given_back(nodes, held, at)]
    now_free = [_slots(node.free, bundle, workers) for node in nodes]
    order = [index for index, count in enumerate(then) for _ in range(max(0, count - now_free[index]))]
    order += [index for index, count in enumerate(then) for _ in range(min(count, now_free[index]))]
    return _Reserved(head, at, [order[:workers].count(index) for index in range(len(nodes))], nodes)


def fits(resources: Resources, capacity: Capacity) -> bool:
    """Return whether the gang would fit into `capacity` with nothing else running."""
    bundle = _units(resources.bundle())
    free = (_slots(_units(node), bundle, resources.workers) for node in capacity.nodes)
    return sum(free) >= resources.workers


def impossibility(resources: Resources, most: Capacity) -> str | None:
    """Return why no cluster that was ever seen could run this gang; None: one could."""
    if fits(resources, most):
        return None
    bundle = _units(resources.bundle())
    slots = sum(_slots(_units(node), bundle, resources.workers) for node in most.nodes)
    return (
        f"asks for {_gang(resources)}, each on one node; the largest cluster seen has {_cluster(most)}, which holds "
        f"{slots} of these workers at most. Ask for fewer workers or less per worker, or add nodes"
    )


# --- placing --------------------------------------------------------------------------------------------------------


def _units(amounts: Mapping[str, float]) -> Amounts:
    return {name: round(amount * UNIT) for name, amount in amounts.items()}


def _slots(free: Mapping[str, int], bundle: Amounts, at_most: int) -> int:
    """Return how many bundles fit into `free`, at most `at_most`."""
    each = (free.get(name, 0) // amount for name, amount in bundle.items() if amount > 0)
    return max(0, min(min(each, default=at_most), at_most))


def _times(bundle: Amounts, count: int) -> Amounts:
    return {name: amount * count for name, amount in bundle.items()}


def _hold(nodes: Sequence[_Node], resources: Resources, places: Sequence[int]) -> None:
    bundle = _units(resources.bundle())
    for index in sorted(set(places)):
        nodes[index].hold(_times(bundle, places.count(index)))


def _occupied(capacity: Capacity, running: Iterable[Running]) -> list[_Node]:
    """Return the nodes with what runs on them."""
    nodes = []
    for node in capacity.nodes:
        total = _units(node)
        nodes.append(_Node(total=total, free=dict(total)))
    if not nodes:
        return nodes
    homeless = []
    for gang in sorted(running, key=lambda gang: gang.job_id):
        if len(gang.nodes) == gang.resources.workers and all(0 <= index < len(nodes) for index in gang.nodes):
            _hold(nodes, gang.resources, gang.nodes)
        else:
            homeless.append(gang)
    for gang in homeless:
        _hold(nodes, gang.resources, _somewhere(nodes, gang.resources))
    return nodes


def _somewhere(nodes: Sequence[_Node], resources: Resources) -> tuple[int, ...]:
    """Return nodes with room; a bundle that finds none counts against the first, whose free amounts go below zero."""
    bundle = _units(resources.bundle())
    room = [_slots(node.free, bundle, resources.workers) for node in nodes]
    places = [index for index, count in enumerate(room) for _ in range(count)][: resources.workers]
    return (*places, *([0] * (resources.workers - len(places))))


def _places(
    job: Queued, nodes: Sequence[_Node], head: Queued | None, head_place: int, now: float
) -> tuple[int, ...] | str:
    """Return the node of each worker, or why the gang cannot start now: naming no job, which may be another user's."""
    if job.not_before > now:
        return f"starts again in {job.not_before - now:.0f} s, after a failed attempt; its place in the line is kept"
    resources = job.resources
    bundle = _units(resources.bundle())
    room = [_slots(node.free, bundle, resources.workers) for node in nodes]
    if sum(room) < resources.workers or not _total_allows(nodes, bundle, resources.workers):
        return f"needs {_gang(resources)}; free now: {_free(nodes)}. It waits for running jobs to end"
    if head is not None:
        room = [_room_beside(head, node, bundle, count) for node, count in zip(nodes, room, strict=True)]
        if sum(room) < resources.workers:
            return f"would fit now, but could delay the job at place {head_place} of the line"
    return _chosen(nodes, bundle, room, resources.workers)


def _total_allows(nodes: Sequence[_Node], bundle: Amounts, workers: int) -> bool:
    """Return whether the gang fits in total: what runs on nodes that are gone counts until its attempt is over."""
    return all(sum(n.free.get(name, 0) for n in nodes) >= amount * workers for name, amount in bundle.items())


def _chosen(nodes: Sequence[_Node], bundle: Amounts, room: Sequence[int], workers: int) -> tuple[int, ...]:
    """Return as few nodes as possible, the tightest that hold the whole gang; none with a GPU if none is asked for."""

    def order(index: int) -> tuple[int, bool, int, int]:
        unused = sum(1 for name, amount in nodes[index].total.items() if amount > 0 and name not in bundle)
        whole = room[index] >= workers
        return unused, not whole, room[index] if whole else -room[index], index

    slots = [index for index in sorted(range(len(nodes)), key=order) for _ in range(room[index])]
    return tuple(sorted(slots[:workers]))


def _room_beside(head: Queued, node: _Node, bundle: Amounts, at_most: int) -> int:
    """Return how many of the bundles `node` can take without ever costing the head a slot there, at most `at_most`."""
    theirs = _units(head.resources.bundle())
    workers = head.resources.workers
    sums = _subset_sums(node.loads, tuple(theirs))
    if sums is None:
        return 0
    for load in sums:
        left = {name: node.total.get(name, 0) - amount for name, amount in zip(theirs, load, strict=True)}
        slots = _slots(left, theirs, workers)
        spare = {name: left[name] - slots * theirs[name] for name in theirs if name in bundle and slots > 0}
        # no slot to lose where there is none; else what the head's slots leave over can be taken
        if spare:
            at_most = _slots(spare, {name: bundle[name] for name in spare}, at_most)
    return at_most


def _subset_sums(loads: Sequence[Amounts], names: tuple[str, ...]) -> set[tuple[int, ...]] | None:
    """Return every sum of some of the loads, in the resources `names`; None when there are too many to look at."""
    sums = {tuple(0 for _ in names)}
    for load in loads:
        amounts = [load.get(name, 0) for name in names]
        sums |= {tuple(a + b for a, b in zip(done, amounts, strict=True)) for done in sums}
        if len(sums) > MAX_LOADS:
            return None
    return sums


# --- words ----------------------------------------------------------------------------------------------------------


def _amounts(amounts: Mapping[str, float]) -> str:
    shown = [
        f"{amount / 2**30:.3g} GiB of memory" if name == "memory" else f"{amount:.6g} {name}"
        for name, amount in amounts.items()
    ]
    return ", ".join(shown) or "nothing"


def _gang(resources: Resources) -> str:
    return f"{resources.workers} x ({_amounts(resources.bundle())})"


def _cluster(capacity: Capacity) -> str:
    kinds: dict[str, int] = {}
    for node in capacity.nodes:
        text = _amounts({name: node[name] for name in ("CPU", "GPU", "memory") if node.get(name)})
        kinds[text] = kinds.get(text, 0) + 1
    return "; ".join(f"{count} node{'s' if count > 1 else ''} of {text}" for text, count in kinds.items()) or "no nodes"


def _free(nodes: Sequence[_Node]) -> str:
    names = [name for name in ("CPU", "GPU", "memory") if any(node.total.get(name) for node in nodes)]
    return _amounts({name: max(0, sum(node.free.get(name, 0) for node in nodes)) / UNIT for name in names})


def _too_large_now(resources: Resources, capacity: Capacity) -> str:
    if not capacity.nodes:
        return "the cluster has no nodes at present"
    return f"asks for {_gang(resources)}; the cluster has only {_cluster(capacity)} at present"
