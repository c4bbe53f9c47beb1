"""Who starts next: a pure function of the queue, what runs, and what the cluster has.

    plan(lanes, running, capacity, now, most=...) -> Plan(admit, waiting, impossible, head)

Lanes           the jobs of one priority, owner and kind of gang, oldest first, those apart that have begun before. A
                plan reads a lane only as far as its jobs start: room only shrinks while a plan is made, so once a gang
                of a kind does not fit, none of its kind does, and the rest of its lanes is not looked at. A plan costs
                the number of lanes and of the jobs that start, not the length of the line; and what a job waits for is
                a fact of its kind.
The line        priority (higher first), then shares (`sharing`), then age (ids sort by the time of submission). A job
                that is retried keeps its id, so it keeps its place; while it backs off it cannot start, and its place
                is held for it.
Gangs           all workers of a job or none. Each worker fits on one node; a gang's workers are equal, so a gang fits
                exactly when the nodes' free slots add up to its size. Amounts are integers of 1/10000, as in Ray, so no
                rounding error admits what is not there.
Elastic gangs   start with as many workers as fit and their quotas allow, at least the fewest that they name. As the
                head, and where a quota holds jobs back, they count as the fewest.
Where           admission notes on which nodes it put each gang, and counts those nodes as used until the attempt ends.
                Ray places for itself and may choose otherwise; its placement is all-or-nothing too, so a difference
                costs waiting, never half a gang. Gangs whose nodes are gone are put where there is room and, without
                room, still count against the total.
Backfill        The first job in the line that cannot start now, though it would fit into the empty cluster, is the
                **head**. A later job may start before it only on what the head cannot use. Run times are unknown, so
                "cannot" means for every order in which the running gangs may end:

                    for each node n, and each sum L of some of the gangs running on n:
                    slots_head(total_n - L)  ==  slots_head(total_n - L - share_n)

                where slots_head(free) is how many of the head's workers fit into `free` (at most its number of
                workers) and share_n is what the later job would take on n. The head then fits after exactly the same
                endings with the later job as without it: it is not delayed by a second. Jobs between the head and the
                later one have no such guarantee until they are the head themselves.
Bounds          where enough of what runs is bounded in time, the head has a **reservation** instead, the latest time at
                which it starts, and others pass it as far as that stays true: `service.queue.reservation`.
Quotas          a job that a quota holds back (`sharing`) waits, is no head, and lets others pass except those that the
                same quota counts. The head's amounts are kept in its quotas, so that no later job takes those either.
Afterwards      shares and what quotas hold back change from one plan to the next, and the head does not: it goes first
                in its priority until it starts.
Temporarily     a job that fits into the largest cluster that was ever seen, but not into today's, waits, and is no
too large       head: nothing that ends here could start it, so nothing is held for it.
Impossible      a job that would not fit into the empty largest cluster ever seen (or configured): `impossible`, with
                the reason. Without such knowledge nothing is impossible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from types import MappingProxyType

from service.queue.jobs import Capacity, Resources
from service.queue.placing import UNIT, Empty, Nodes, Room, worker
from service.queue.reservation import Hold, Reservation, bound_class, ends, longest, reserve
from service.queue.sharing import NOBODY, HeldBack, Ledger, Sharing, UsedUp
from service.queue.turns import Lane, Line, Queued

NEXT_LOOK = "waits for the dispatcher's next look"


@dataclass(frozen=True, kw_only=True)
class Running:
    """An attempt that holds its gang. `nodes`: the node of each worker, as admission noted it."""

    job_id: str
    resources: Resources
    nodes: tuple[int, ...] = ()
    owner: str = ""
    until: float | None = None  # when it has left at the latest, seconds since 1970; none: nobody knows


@dataclass(frozen=True, kw_only=True)
class Admission:
    """`nodes`: for each worker the index of its node in `Capacity.nodes`."""

    job_id: str
    nodes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do now. A queued job that is not in `admit` waits, or is impossible, for the reason of its kind."""

    admit: tuple[Admission, ...] = ()
    waiting: Mapping[Resources, str] = field(default_factory=lambda: MappingProxyType({}))  # kind -> why
    impossible: Mapping[Resources, str] = field(default_factory=lambda: MappingProxyType({}))
    head: str | None = None  # the job that nobody may delay
    reserved: float | None = None  # when it starts at the latest, seconds since 1970; none: nobody knows
    held: Mapping[str, HeldBack | UsedUp] = field(
        default_factory=lambda: MappingProxyType({})
    )  # lane -> the quota it waits for


def reason(waiting: str | None, not_before: float, now: float) -> str:
    """Return why a job in the line waits: naming no job, which may be another user's. waiting: its kind's reason."""
    if not_before > now:
        return f"starts again in {not_before - now:.0f} s, after a failed attempt; its place in the line is kept"
    return waiting or NEXT_LOOK


def lanes(queue: Iterable[Queued]) -> list[Lane]:
    """Return the queue in lanes."""
    numbers: dict[Resources, int] = {}  # of the kinds of gangs
    known: dict[int, int] = {}  # the same by identity: a long line has few kinds, and most share their record
    sorted_queue: dict[tuple[int, str, int, int | None, bool], list[Queued]] = {}
    for job in sorted(queue, key=attrgetter("job_id")):
        number = known.get(id(job.resources))
        if number is None:
            number = known[id(job.resources)] = numbers.setdefault(job.resources, len(numbers))
        bound = None if job.seconds is None else bound_class(job.seconds)
        key = (job.priority, job.owner, number, bound, job.begun)
        if (same := sorted_queue.get(key)) is not None:
            same.append(job)
        else:
            sorted_queue[key] = [job]
    gangs = [(resources, str(resources)) for resources in numbers]
    return [
        Lane(
            resources=gangs[number][0],
            priority=priority,
            owner=owner,
            jobs=iter(jobs),
            name=f"{priority} {owner} {gangs[number][1]}{'' if bound is None else f' {bound}'}{' begun' * begun}",
            seconds=None if bound is None else longest(bound),
            begun=begun,
        )
        for (priority, owner, number, bound, begun), jobs in sorted_queue.items()
    ]


def plan(
    lanes: Iterable[Lane],
    running: Iterable[Running],
    capacity: Capacity,
    now: float,
    *,
    most: Capacity | None = None,
    sharing: Sharing = NOBODY,
    first: str | None = None,
) -> Plan:
    """Return the plan by this module's rule. `most` is the largest cluster ever seen or configured; None: unknown.

    first: the lane of the head of the plan before, where shares or quotas could put others before it: it stays the head
    until it starts.
    """
    running = list(running)
    kinds = _Kinds(capacity, running, most, now)
    ledger = Ledger(sharing)
    for gang in running:
        ledger.keep(gang.owner, gang.resources)
        ledger.charge(gang.owner, gang.resources)
    admit: list[Admission] = []
    held: dict[str, HeldBack | UsedUp] = {}
    line = Line(lanes, ledger, first)
    for lane, job in line:
        kind = kinds[lane]
        by_quota = ledger.held_back(lane.owner, kind.least, begun=lane.begun) if kind.possible else None
        if by_quota is not None:
            held[lane.name] = by_quota
            continue
        if not kind.waits and job.not_before <= now:
            places = kind.places(kinds.head, kinds.reservation, ledger.most(lane.owner, job.resources))
            if places is not None:
                sized = job.resources.sized(len(places))
                kinds.start(kind, sized, places)
                ledger.keep(lane.owner, sized)
                ledger.charge(lane.owner, sized)
                admit.append(Admission(job_id=job.job_id, nodes=places))
        if kinds.head is None and kind.possible and (kind.waits or job.not_before > now):
            kinds.wait_for(job, kind.least)
            ledger.keep(lane.owner, kind.least)
        if not kind.waits:
            line.go_on()
    head = kinds.head
    return Plan(
        admit=tuple(admit),
        waiting=MappingProxyType(kinds.waiting()),
        impossible=MappingProxyType(kinds.impossible()),
        head=None if head is None else head.job_id,
        reserved=None if kinds.reservation is None else kinds.reservation.at,
        held=MappingProxyType(held),
    )


class _Gang:
    """One kind of gang in this plan, whatever bounds its jobs: what it takes to start, and where there is room."""

    def __init__(self, resources: Resources, nodes: Nodes, today: Empty, most: Empty | None) -> None:
        self.least = resources.sized(resources.fewest)
        self.impossible = most is not None and not most.fits(resources)
        self.fits_today = today.fits(resources)
        self.possible = not self.impossible and self.fits_today  # something that ends here could start it
        self.room = Room(nodes, resources) if self.possible else None

    def fits_now(self) -> bool:
        """Return whether there is room for one more gang that has to wait all the same."""
        if self.room is None:
            return False
        self.room.refresh()
        return self.room.fits()


class _Kind:
    """One kind of gang in this plan, all with one bound. Room only shrinks, so once one of its gangs has to wait, all
    others do. until: when one that starts now has left at the latest."""

    def __init__(self, gang: _Gang, until: float | None) -> None:
        self.until = until
        self.least = gang.least
        self.possible = gang.possible
        self.impossible = gang.impossible
        self.waits = not gang.possible
        self._room = gang.room

    def places(self, head: Queued | None, reservation: Reservation | None, most: int) -> tuple[int, ...] | None:
        """Return the node of each worker, of at most so many; None when the gang cannot start now, nor any other of its
        kind."""
        room = self._room
        if room is None:
            return None
        room.refresh()
        if room.fits():
            if head is None or (reservation is not None and self.leaves_by(reservation.at)):
                free = room.slots
            elif reservation is None:
                free = room.beside(head.resources.sized(head.resources.fewest))
            else:
                bundle = worker(room.resources)
                free = reservation.beside(bundle, room.slots)
                most = min(most, reservation.most(bundle, room.resources.workers))
            workers = min(sum(free), room.most(), most)
            if workers >= room.resources.fewest:
                return room.choose(free, workers)
        self.waits = True
        return None

    def leaves_by(self, at: float) -> bool:
        """Return whether one that starts now has left by then."""
        return self.until is not None and self.until <= at


class _Kinds:
    """The kinds of gangs that were met while a plan is made, and the nodes that they are put on."""

    def __init__(self, capacity: Capacity, running: Sequence[Running], most: Capacity | None, now: float) -> None:
        self.nodes = _occupied(capacity, running)
        self.head: Queued | None = None
        self.reservation: Reservation | None = None
        self._now = now
        self._holds = [
            Hold(until=gang.until, resources=gang.resources, places=gang.nodes)
            for gang in running
            if gang.until is not None and _housed(gang, len(self.nodes))
        ]
        self._capacity = capacity
        self._today = Empty(capacity)
        self._most = most
        self._most_empty = Empty(most) if most is not None else None
        self._gangs: dict[Resources, _Gang] = {}
        self._kinds: dict[tuple[Resources, float | None], _Kind] = {}

    def __getitem__(self, lane: Lane) -> _Kind:
        key = lane.resources, lane.seconds
        kind = self._kinds.get(key)
        if kind is None:
            until = None if lane.seconds is None else ends(self._now, lane.seconds)
            gang = self._gangs.get(lane.resources)
            if gang is None:
                gang = _Gang(lane.resources, self.nodes, self._today, self._most_empty)
                self._gangs[lane.resources] = gang
            kind = self._kinds[key] = _Kind(gang, until)
        return kind

    def start(self, kind: _Kind, gang: Resources, places: tuple[int, ...]) -> None:
        """Give the gang its places."""
        self.nodes.hold(gang, places)
        if self.head is None and kind.until is not None:
            self._holds.append(Hold(until=kind.until, resources=gang, places=places))
        if self.reservation is not None and not kind.leaves_by(self.reservation.at):
            self.reservation.hold(gang, places)

    def wait_for(self, head: Queued, least: Resources) -> None:
        """Let this job be the head."""
        self.head = head
        self.reservation = reserve(least, head.not_before, self.nodes, self._holds, self._now)

    def waiting(self) -> dict[Resources, str]:
        """Return why each kind waits of which a gang cannot start, as things are at the end of the plan."""
        free = _free(self.nodes)
        wait = {resources for (resources, _), kind in self._kinds.items() if kind.waits and not kind.impossible}
        return {
            resources: self._why(resources, gang, free) for resources, gang in self._gangs.items() if resources in wait
        }

    def _why(self, resources: Resources, gang: _Gang, free: str) -> str:
        if not gang.fits_today:
            return _too_large_now(resources, self._capacity)
        if gang.fits_now():
            return "would fit now, but could delay the first job of the line that waits for room"
        return f"needs {_gang(resources)}; free now: {free}. It waits for running jobs to end"

    def impossible(self) -> dict[Resources, str]:
        """Return why each kind is impossible that is."""
        if self._most is None:
            return {}
        reasons = {
            resources: impossibility(resources, self._most)
            for resources, gang in self._gangs.items()
            if gang.impossible
        }
        return {kind: reason for kind, reason in reasons.items() if reason is not None}


def fits(resources: Resources, capacity: Capacity) -> bool:
    """Return whether the gang would fit into `capacity` with nothing else running."""
    return Empty(capacity).fits(resources)


def impossibility(resources: Resources, most: Capacity) -> str | None:
    """Return why no cluster that was ever seen could run this gang; None: one could."""
    slots = Empty(most).slots(resources)
    if slots >= resources.fewest:
        return None
    return (
        f"asks for {_gang(resources)}, each on one node; the largest cluster seen has {_cluster(most)}, which holds "
        f"{slots} of these workers at most. Ask for fewer workers or less per worker, or add nodes"
    )


def largest(known: Capacity | None, seen: Capacity) -> Capacity:
    """Return the smallest cluster that can hold whatever `known` or `seen` can: node by node, the larger of each
    amount.

    Nodes are paired in order of size, so a node that comes back with a little less memory is not a second node.
    """
    ours, theirs = (ordered(c).nodes if c else () for c in (known, seen))
    merged = []
    for index in range(max(len(ours), len(theirs))):
        our_node, their_node = (nodes[index] if index < len(nodes) else {} for nodes in (ours, theirs))
        merged.append(
            {name: max(our_node.get(name, 0.0), their_node.get(name, 0.0)) for name in sorted({*our_node, *their_node})}
        )
    return ordered(Capacity(nodes=tuple(merged)))


def ordered(capacity: Capacity) -> Capacity:
    """Return the same nodes, largest first: an order that does not depend on the one in which Ray lists them."""
    names = ("GPU", "CPU", "memory")
    nodes = sorted(capacity.nodes, key=lambda n: ([-n.get(name, 0.0) for name in names], sorted(n.items())))
    return Capacity(nodes=tuple(nodes))


def _housed(gang: Running, nodes: int) -> bool:
    """Return whether the gang's nodes are there."""
    return len(gang.nodes) == gang.resources.workers and all(0 <= index < nodes for index in gang.nodes)


def _occupied(capacity: Capacity, running: Iterable[Running]) -> Nodes:
    """Return the nodes with what runs on them."""
    nodes = Nodes(capacity)
    if not len(nodes):
        return nodes
    homeless = []
    for gang in sorted(running, key=lambda gang: gang.job_id):
        if _housed(gang, len(nodes)):
            nodes.hold(gang.resources, gang.nodes)
        else:
            homeless.append(gang)
    for gang in homeless:
        nodes.hold(gang.resources, nodes.somewhere(gang.resources))
    return nodes


# --- words ----------------------------------------------------------------------------------------------------------


def _amounts(amounts: Mapping[str, float]) -> str:
    shown = [
        f"{amount / 2**30:.3g} GiB of memory" if name == "memory" else f"{amount:.6g} {name}"
        for name, amount in amounts.items()
    ]
    return ", ".join(shown) or "nothing"


def _gang(resources: Resources) -> str:
    fewest = "" if resources.fewest == resources.workers else f"{resources.fewest} to "
    return f"{fewest}{resources.workers} x ({_amounts(resources.bundle())})"


def _cluster(capacity: Capacity) -> str:
    kinds: dict[str, int] = {}
    for node in capacity.nodes:
        text = _amounts({name: node[name] for name in ("CPU", "GPU", "memory") if node.get(name)})
        kinds[text] = kinds.get(text, 0) + 1
    return "; ".join(f"{count} node{'s' if count > 1 else ''} of {text}" for text, count in kinds.items()) or "no nodes"


def _free(nodes: Nodes) -> str:
    names = [name for name in ("CPU", "GPU", "memory") if any(node.total.get(name) for node in nodes)]
    return _amounts({name: max(0, nodes.free[name]) / UNIT for name in names})


def _too_large_now(resources: Resources, capacity: Capacity) -> str:
    if not capacity.nodes:
        return "the cluster has no nodes at present"
    return f"asks for {_gang(resources)}; the cluster has only {_cluster(capacity)} at present"
