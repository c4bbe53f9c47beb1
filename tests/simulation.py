"""The real planner on a virtual clock and cluster: traces, and a world that checks itself at every event.

All gangs ask for whole GPUs, so that where a worker is put decides nothing and other policies are short
(`tests.policies`). Where the planner knows no bounds of times and every GPU is as good as another, nobody passes the
head. `tests.simulated_preemption` says what an attempt costs that gives way, and counts it.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain
from random import Random
from typing import TYPE_CHECKING, ClassVar

from service.queue import reservation, scheduling
from service.queue.jobs import Capacity, Resources
from service.queue.sharing import Principal, Sharing, decay, used
from service.queue.turns import Lane, Queued

if TYPE_CHECKING:
    from tests.simulated_preemption import Preemption

HOUR, DAY, WEEK = 3600.0, 86_400.0, 7 * 86_400.0
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
HALVING = tuple(2.0**-index for index in range(6))  # each gang half as frequent as the one before, of up to 32
GPUS_PER_NODE = 8
TELL_PLANS = 500  # from one word of how far a run is to the next


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A job of a trace. gpus: one for each worker; seconds: how long it runs with all of them; fewest: of an elastic
    gang the workers that are enough to start; limit: seconds after which an attempt is ended, at least as long as one
    takes."""

    at: float
    job_id: str
    user: str
    gpus: int
    seconds: float
    priority: int = 0
    fewest: int | None = None
    limit: float | None = None

    @property
    def resources(self) -> Resources:
        return gang(self.gpus, self.fewest)

    @cached_property
    def queued(self) -> Queued:
        return Queued(job_id=self.job_id, resources=self.resources, priority=self.priority, owner=self.user)


@cache
def gang(gpus: int, fewest: int | None) -> Resources:
    return Resources(workers=gpus, min_workers=fewest, cpus_per_worker=1, gpus_per_worker=1)


GANGS = {size: gang(size, None) for size in SIZES}


def trace(
    random: Random,
    users: Sequence[str],
    *,
    seconds: float,
    gpus: int,
    load: float,
    median: float = 600.0,
    spread: float = 1.5,
    most: float = 2 * DAY,
    mix: Sequence[float] = HALVING,
) -> list[Arrival]:
    """Return jobs that arrive at random over so long, `load` times what the cluster can do.

    Gangs are powers of two, `mix` says how frequent; times are log-normal, so a few jobs take most of the time: the
    mean is exp(spread^2 / 2) medians. Users submit in bursts, sweeps of one gang.
    """
    sizes = [size for size, _ in zip(SIZES, mix, strict=False) if size <= gpus // 2]
    weights = mix[: len(sizes)]
    arrivals: list[Arrival] = []
    offered, wanted = 0.0, load * gpus * seconds
    while offered < wanted:
        user, begin = random.choice(users), random.random() * seconds
        (size,) = random.choices(sizes, weights)
        for _ in range(1 + int(random.expovariate(0.5))):
            length = min(most, max(10.0, median * random.lognormvariate(0.0, spread)))
            begin += random.expovariate(1 / 60.0)
            arrivals.append(Arrival(at=begin, job_id="", user=user, gpus=size, seconds=length))
            offered += size * length
    ordered = sorted(arrivals, key=lambda arrival: arrival.at)
    return [
        Arrival(at=a.at, job_id=f"j{i:07}", user=a.user, gpus=a.gpus, seconds=a.seconds) for i, a in enumerate(ordered)
    ]


@dataclass(kw_only=True)
class Rules:
    """Groups with weights, and quotas of GPUs."""

    groups: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    quotas: Mapping[Principal, float] = field(default_factory=dict)


@dataclass(kw_only=True)
class Began:
    """An attempt that holds its gang or has held it. nodes: of its workers, where that matters; holds: seconds, unless
    it gives way; leaves: when it does; stop: when it is killed at the latest, if it was asked to."""

    arrival: Arrival
    at: float
    holds: float
    nodes: tuple[int, ...] = ()
    leaves: float | None = None
    stop: float | None = None

    @property
    def leaving(self) -> bool:
        """Return whether it was asked to give way."""
        return self.stop is not None

    def leave(self, at: float | None, stop: float) -> None:
        """Give way, as it was asked to. at: when; None: it ends before it could."""
        self.leaves, self.stop = at, stop
        self.__dict__.pop("planned", None)

    @property
    def end(self) -> float:
        return self.at + self.holds if self.leaves is None else self.leaves

    @property
    def workers(self) -> int:
        return len(self.nodes) or self.arrival.gpus

    @property
    def until(self) -> float | None:
        """Return when it has left at the latest, as far as the planner knows."""
        bounds = [] if self.arrival.limit is None else [reservation.ends(self.at, self.arrival.limit)]
        if self.stop is not None:
            bounds.append(self.stop + reservation.ENDS_SECONDS)
        return min(bounds, default=None)

    @property
    def resources(self) -> Resources:
        return gang(self.workers, None)

    @cached_property
    def planned(self) -> scheduling.Running:
        """Return what the planner is told of it."""
        return scheduling.Running(
            job_id=self.arrival.job_id,
            resources=self.resources,
            nodes=self.nodes,
            owner=self.arrival.user,
            until=self.until,
        )


LaneKey = tuple[int, str, Resources, int | None]


class World:
    """A cluster, a line and what runs. `run` plans after every event; every plan is checked.

    told: called now and then with the part of the time of a run that has passed.
    """

    told: ClassVar[Callable[[float], None] | None] = None

    def __init__(self, nodes: int, rules: Rules | None = None, preemption: Preemption | None = None) -> None:
        self.gpus = nodes * GPUS_PER_NODE
        self.capacity = Capacity(nodes=tuple({"CPU": 64.0, "GPU": float(GPUS_PER_NODE)} for _ in range(nodes)))
        self.rules = rules or Rules()
        self.preemption = preemption
        self.now = 0.0
        self.began: dict[str, Began] = {}  # of each job its first attempt
        self.over: list[Began] = []  # attempts, in the order of their ends
        self.plans = 0
        self._lanes: dict[LaneKey, deque[Queued]] = {}
        self._running: dict[str, Began] = {}
        self._ends: list[tuple[float, str]] = []
        self._charged: dict[tuple[str, str], tuple[float, float]] = {}  # usage, and when it was that
        self._head: str | None = None
        self._promised = 0.0  # when the head starts at the latest
        self._reserved: float | None = None  # the same, as the planner said
        self.passed = 0  # jobs that began before an older one of their class that waited for room
        self._waiting: dict[str, Arrival] = {}

    def run(
        self, arrivals: Sequence[Arrival], until: float, *, tick: float = 0.0, watch: Callable[[], None] | None = None
    ) -> None:
        """Let the jobs come, start and end. tick: seconds of which the events are planned together. watch: called after
        each plan."""
        coming = deque(arrivals)
        while coming or self._ends:
            now = min(coming[0].at if coming else until, self._ends[0][0] if self._ends else until)
            if now >= until:
                break
            self.now = now if not tick else (int(now / tick) + 1) * tick
            while self._ends and self._ends[0][0] <= self.now:
                end, job_id = heapq.heappop(self._ends)
                gang_now = self._running.get(job_id)
                if gang_now is not None and gang_now.end == end:  # else it was asked to give way since
                    self._end(job_id)
            while coming and coming[0].at <= self.now:
                self._arrive(coming.popleft())
            self._plan()
            if watch is not None:
                watch()
            if World.told is not None and self.plans % TELL_PLANS == 0:
                World.told(min(1.0, self.now / until))
        self.now = until

    def _arrive(self, arrival: Arrival) -> None:
        """Put a job into the line, at the place of its age."""
        lane = self._lanes.setdefault(_key(arrival), deque())
        if lane and lane[-1].job_id > arrival.job_id:
            insort(lane, arrival.queued, key=lambda job: job.job_id)
        else:
            lane.append(arrival.queued)
        self._waiting[arrival.job_id] = arrival

    def _end(self, job_id: str) -> None:
        ended = self._running.pop(job_id)
        self.over.append(ended)
        account = (self.rules.groups.get(ended.arrival.user, ""), ended.arrival.user)
        before, at = self._charged.get(account, (0.0, self.now))
        more = ended.workers * used(ended.at, ended.end, self.now)
        self._charged[account] = before * decay(self.now - at) + more, self.now
        if self.preemption is not None:
            self.preemption.ended(ended)
        if ended.leaves is not None:
            self._arrive(ended.arrival)
            head = self._waiting.get(self._head) if self._head is not None else None
            if head is not None and _place(ended.arrival) < _place(head):
                self._head = self._reserved = None  # who goes back to an older place may be the head now

    def usage(self) -> dict[tuple[str, str], float]:
        """Return everybody's GPU-seconds as they count now."""
        totals = {account: seconds * decay(self.now - at) for account, (seconds, at) in self._charged.items()}
        for held in self._running.values():
            account = (self.rules.groups.get(held.arrival.user, ""), held.arrival.user)
            totals[account] = totals.get(account, 0.0) + held.workers * used(held.at, self.now, self.now)
        return totals

    def sharing(self) -> Sharing:
        return Sharing(
            groups=self.rules.groups,
            weights=self.rules.weights,
            usage=self.usage() if self.rules.weights else {},
            quotas={whose: {"GPU": most} for whose, most in self.rules.quotas.items()},
        )

    def _plan(self) -> None:
        self.plans += 1
        made = scheduling.plan(
            self.lanes(),
            [held.planned for held in self._running.values()],
            self.capacity,
            self.now,
            most=self.capacity,
            sharing=self.sharing(),
            first=self.head_lane,
        )
        for admission in made.admit:
            self._start(admission.job_id, admission.nodes, made)
        self._check(made)
        if self.preemption is not None:
            head = self._waiting.get(made.head) if made.head is not None else None
            asked = self.preemption.ask(head, self._running, self.capacity, self.now)
            for held in asked:
                heapq.heappush(self._ends, (held.end, held.arrival.job_id))
            if head is not None and asked:
                leaving = [held.end for held in self._running.values() if held.leaving]
                self._promised = min(self._promised, max([*leaving, *(held.end for held in asked)]))

    def lanes(self) -> list[Lane]:
        """Return the line."""
        return [self._lane(key, jobs) for key, jobs in self._lanes.items()]

    @property
    def running(self) -> Mapping[str, Began]:
        return self._running

    @property
    def head_lane(self) -> str | None:
        """Return the lane of the head of the last plan, where others could go before it."""
        ruled = self.rules.weights or self.rules.quotas
        head = self._waiting.get(self._head) if self._head is not None and ruled else None
        return None if head is None else _name(*_key(head))

    def _lane(self, key: LaneKey, jobs: deque[Queued]) -> Lane:
        priority, user, resources, bound = key
        return Lane(
            resources=resources,
            priority=priority,
            owner=user,
            name=_name(*key),
            jobs=iter(jobs),
            seconds=None if bound is None else reservation.longest(bound),
        )

    def _start(self, job_id: str, nodes: tuple[int, ...], made: scheduling.Plan) -> None:
        arrival = self._waiting.pop(job_id)
        key = _key(arrival)
        assert self._lanes[key].popleft() is arrival.queued, "a lane starts in its order"
        if not self._lanes[key]:
            del self._lanes[key]
        assert job_id not in self._running, "a job has one attempt at a time"
        assert (arrival.fewest or arrival.gpus) <= len(nodes) <= arrival.gpus, "a gang starts whole"
        holds = arrival.seconds
        if self.preemption is not None:
            holds = self.preemption.begins(arrival, len(nodes))
        else:
            assert job_id not in self.began, "a job starts once"
        began = Began(arrival=arrival, at=self.now, nodes=nodes, holds=holds)
        self.began.setdefault(job_id, began)
        self._running[job_id] = began
        heapq.heappush(self._ends, (began.end, job_id))
        waits = self._waiting.get(made.head) if made.head is not None else None
        if waits is not None and not (self.rules.weights or self.rules.quotas) and _place(arrival) > _place(waits):
            assert made.reserved is not None, "nobody passes a head without a reservation"
            self.passed += 1
        if job_id == self._head:
            assert self.now <= self._promised, "the head started when it had to at the latest"
            self._head = self._reserved = None
        before = self._waiting.get(self._head) if self._head is not None else None
        if before is not None and arrival.priority > before.priority:
            self._head = self._reserved = None  # a higher class goes first, whatever a lower one was promised

    def _check(self, made: scheduling.Plan) -> None:
        """Check what must hold at every moment."""
        taken = Counter(chain.from_iterable(held.nodes for held in self._running.values()))
        assert all(count <= GPUS_PER_NODE for count in taken.values()), "no node is given more than it has"
        for whose, most in self.rules.quotas.items():
            gpus = sum(
                held.workers
                for held in self._running.values()
                if whose.name in (held.arrival.user, self.rules.groups.get(held.arrival.user))
            )
            assert gpus <= most, f"{whose} holds {gpus} of {most} GPUs"
        head = self._waiting.get(self._head) if self._head is not None else None
        if head is not None and made.head != self._head:
            above = self._waiting.get(made.head) if made.head is not None else None
            assert above is not None, "the head stays the head until it starts"
            assert above.priority > head.priority, "the head stays the head, but for a higher class"
        elif head is not None:
            assert self.now <= self._promised, "the head starts by its reservation, or when what ran then has ended"
            if self._reserved is not None:
                assert made.reserved is not None, "a reservation stays"
                assert made.reserved <= self._reserved, "a reservation is not put off"
        if made.head is not None and made.head != self._head:
            self._head, self._promised = made.head, max(held.end for held in self._running.values())
            self._reserved = None
        if made.head is not None and made.reserved is not None:
            # who passes may outlast what ran then; what holds from here on is the reservation
            self._promised = made.reserved if self._reserved is None else min(self._promised, made.reserved)
            self._reserved = made.reserved
        if made.head is None:
            self._head = self._reserved = None
            assert not self._waiting or made.held, "somebody waits, and nobody is the head"

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def done(self, begin: float, end: float, of: Callable[[Arrival], bool] = lambda _: True) -> float:
        """Return the GPU-seconds that these jobs held in that time."""
        return delivered(chain(self.over, self._running.values()), begin, end, of)


def _key(arrival: Arrival) -> LaneKey:
    bound = None if arrival.limit is None else reservation.bound_class(arrival.limit)
    return arrival.priority, arrival.user, arrival.resources, bound


def _place(arrival: Arrival) -> tuple[int, str]:
    """Return what sorts the line by class and age."""
    return -arrival.priority, arrival.job_id


@cache
def _name(priority: int, user: str, resources: Resources, bound: int | None) -> str:
    return f"{priority} {user} {resources.workers} {resources.fewest} {bound}"


def delivered(
    began: Iterable[Began],
    begin: float,
    end: float,
    of: Callable[[Arrival], bool] = lambda _: True,
) -> float:
    """Return the GPU-seconds of the jobs between the two times."""
    return sum(held.workers * max(0.0, min(end, held.end) - max(begin, held.at)) for held in began if of(held.arrival))
