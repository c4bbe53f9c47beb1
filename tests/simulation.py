"""The real planner on a virtual clock and cluster: traces, a world that checks itself at every event, other policies.

All gangs ask for whole GPUs, so that where a worker is put decides nothing and other policies are short: `fifo` starts
jobs in their order and nobody passes; `clairvoyant` knows how long everything takes and lets pass whatever ends before
the first that waits could start (EASY backfilling with perfect estimates); `fluid` splits gangs at will, and is what no
policy can pass. The planner knows no times: where every GPU is as good as another it lets nobody pass either.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from service.queue import scheduling
from service.queue.jobs import Capacity, Resources
from service.queue.sharing import Principal, Sharing, decay, used
from service.queue.turns import Lane, Queued

HOUR, DAY, WEEK = 3600.0, 86_400.0, 7 * 86_400.0
SIZES = (1, 2, 4, 8, 16, 32)
HALVING = tuple(2.0**-index for index in range(len(SIZES)))  # each gang half as frequent as the one before
GPUS_PER_NODE = 8


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A job of a trace. gpus: one for each worker; seconds: how long it runs."""

    at: float
    job_id: str
    user: str
    gpus: int
    seconds: float
    priority: int = 0

    @property
    def resources(self) -> Resources:
        return gang(self.gpus)


def gang(gpus: int) -> Resources:
    return Resources(workers=gpus, cpus_per_worker=1, gpus_per_worker=1)


GANGS = {size: gang(size) for size in SIZES}


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
    sizes = [size for size in SIZES if size <= gpus // 2]
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
    """A job that runs or has run."""

    arrival: Arrival
    at: float
    nodes: tuple[int, ...]

    @property
    def end(self) -> float:
        return self.at + self.arrival.seconds


class World:
    """A cluster, a line and what runs. `run` plans after every event; every plan is checked."""

    def __init__(self, nodes: int, rules: Rules | None = None) -> None:
        self.gpus = nodes * GPUS_PER_NODE
        self.capacity = Capacity(nodes=tuple({"CPU": 64.0, "GPU": float(GPUS_PER_NODE)} for _ in range(nodes)))
        self.rules = rules or Rules()
        self.now = 0.0
        self.began: dict[str, Began] = {}
        self.plans = 0
        self._lanes: dict[tuple[int, str, int], deque[Arrival]] = {}
        self._running: dict[str, Began] = {}
        self._ends: list[tuple[float, str]] = []
        self._charged: dict[tuple[str, str], tuple[float, float]] = {}  # usage, and when it was that
        self._head: str | None = None
        self._promised = 0.0  # when the head starts at the latest
        self._waiting: dict[str, Arrival] = {}
        self.over: list[Began] = []  # in the order of their ends

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
                self._end(heapq.heappop(self._ends)[1])
            while coming and coming[0].at <= self.now:
                self._arrive(coming.popleft())
            self._plan()
            if watch is not None:
                watch()
        self.now = until

    def _arrive(self, arrival: Arrival) -> None:
        self._lanes.setdefault((arrival.priority, arrival.user, arrival.gpus), deque()).append(arrival)
        self._waiting[arrival.job_id] = arrival

    def _end(self, job_id: str) -> None:
        ended = self._running.pop(job_id)
        self.over.append(ended)
        account = (self.rules.groups.get(ended.arrival.user, ""), ended.arrival.user)
        before, at = self._charged.get(account, (0.0, self.now))
        more = ended.arrival.gpus * used(ended.at, ended.end, self.now)
        self._charged[account] = before * decay(self.now - at) + more, self.now

    def usage(self) -> dict[tuple[str, str], float]:
        """Return everybody's GPU-seconds as they count now."""
        totals = {account: seconds * decay(self.now - at) for account, (seconds, at) in self._charged.items()}
        for gang in self._running.values():
            account = (self.rules.groups.get(gang.arrival.user, ""), gang.arrival.user)
            held = gang.arrival.gpus * used(gang.at, self.now, self.now)
            totals[account] = totals.get(account, 0.0) + held
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
            [
                scheduling.Running(
                    job_id=job_id, resources=GANGS[gang.arrival.gpus], nodes=gang.nodes, owner=gang.arrival.user
                )
                for job_id, gang in self._running.items()
            ],
            self.capacity,
            self.now,
            most=self.capacity,
            sharing=self.sharing(),
            first=self.head_lane,
        )
        for admission in made.admit:
            self._start(admission.job_id, admission.nodes)
        self._check(made)

    def lanes(self) -> list[Lane]:
        """Return the line."""
        return [self._lane(key, jobs) for key, jobs in self._lanes.items() if jobs]

    @property
    def running(self) -> Mapping[str, Began]:
        return self._running

    @property
    def head_lane(self) -> str | None:
        """Return the lane of the head of the last plan, where others could go before it."""
        ruled = self.rules.weights or self.rules.quotas
        head = self._waiting.get(self._head) if self._head is not None and ruled else None
        return None if head is None else _name(head.priority, head.user, head.gpus)

    def _lane(self, key: tuple[int, str, int], jobs: deque[Arrival]) -> Lane:
        priority, user, gpus = key
        return Lane(
            resources=GANGS[gpus], priority=priority, owner=user, name=_name(*key), jobs=self._queued(jobs, priority)
        )

    def _queued(self, jobs: deque[Arrival], priority: int) -> Iterator[Queued]:
        for job in jobs:
            yield Queued(job_id=job.job_id, resources=GANGS[job.gpus], priority=priority, owner=job.user)

    def _start(self, job_id: str, nodes: tuple[int, ...]) -> None:
        arrival = self._waiting.pop(job_id)
        lane = self._lanes[arrival.priority, arrival.user, arrival.gpus]
        assert lane.popleft() is arrival, "a lane starts in its order"
        assert job_id not in self.began, "a job starts once"
        assert len(nodes) == arrival.gpus, "a gang starts whole"
        began = Began(arrival=arrival, at=self.now, nodes=nodes)
        self.began[job_id] = self._running[job_id] = began
        heapq.heappush(self._ends, (began.end, job_id))
        if job_id == self._head:
            assert self.now <= self._promised, "the head started when it had to at the latest"
            self._head = None

    def _check(self, made: scheduling.Plan) -> None:
        """Check what must hold at every moment."""
        taken = Counter(index for gang in self._running.values() for index in gang.nodes)
        assert all(count <= GPUS_PER_NODE for count in taken.values()), "no node is given more than it has"
        for whose, most in self.rules.quotas.items():
            held = sum(
                gang.arrival.gpus
                for gang in self._running.values()
                if whose.name in (gang.arrival.user, self.rules.groups.get(gang.arrival.user))
            )
            assert held <= most, f"{whose} holds {held} of {most} GPUs"
        if self._head is not None and self._head in self._waiting:
            assert made.head == self._head, "the head stays the head until it starts"
            assert self.now <= self._promised, "the head starts when what ran then has ended, at the latest"
        if made.head is not None and made.head != self._head:
            self._head, self._promised = made.head, max(gang.end for gang in self._running.values())
        if made.head is None:
            self._head = None
            assert not self._waiting or made.held, "somebody waits, and nobody is the head"

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def done(self, begin: float, end: float, of: Callable[[Arrival], bool] = lambda _: True) -> float:
        """Return the GPU-seconds that these jobs held in that time."""
        return delivered(self.began.values(), begin, end, of)


def _name(priority: int, user: str, gpus: int) -> str:
    return f"{priority} {user} {gpus}"


def delivered(
    began: Iterable[Began],
    begin: float,
    end: float,
    of: Callable[[Arrival], bool] = lambda _: True,
) -> float:
    """Return the GPU-seconds of the jobs between the two times."""
    return sum(
        gang.arrival.gpus * max(0.0, min(end, gang.end) - max(begin, gang.at)) for gang in began if of(gang.arrival)
    )


# --- other policies -------------------------------------------------------------------------------------------------


def fifo(arrivals: Sequence[Arrival], gpus: int) -> list[Began]:
    """Return when everything starts where nobody passes anybody."""
    began: list[Began] = []
    ends: list[tuple[float, int]] = []
    free, now = gpus, 0.0
    for arrival in arrivals:
        now = max(now, arrival.at)
        while ends and (ends[0][0] <= now or free < arrival.gpus):
            end, count = heapq.heappop(ends)
            now, free = max(now, end), free + count
        free -= arrival.gpus
        began.append(Began(arrival=arrival, at=now, nodes=()))
        heapq.heappush(ends, (now + arrival.seconds, arrival.gpus))
    return began


def clairvoyant(arrivals: Sequence[Arrival], gpus: int, until: float) -> list[Began]:
    """Return when everything starts under EASY backfilling that knows every time: until then."""
    began: list[Began] = []
    coming, free = deque(arrivals), gpus
    line: list[Arrival] = []
    ends: list[tuple[float, int]] = []

    def start(job: Arrival, now: float) -> None:
        began.append(Began(arrival=job, at=now, nodes=()))
        heapq.heappush(ends, (now + job.seconds, job.gpus))

    while coming or ends:
        now = min(coming[0].at if coming else until, ends[0][0] if ends else until)
        if now >= until:
            break
        while ends and ends[0][0] <= now:
            free += heapq.heappop(ends)[1]
        while coming and coming[0].at <= now:
            line.append(coming.popleft())
        while line and line[0].gpus <= free:
            free -= line[0].gpus
            start(line.pop(0), now)
        if not line or not free:
            continue
        shadow, room = now, free  # when the first one can start, and what it leaves over then
        for end, count in sorted(ends):
            shadow, room = end, room + count
            if room >= line[0].gpus:
                break
        spare = room - line[0].gpus
        for job in list(line[1:]):
            if job.gpus <= free and (now + job.seconds <= shadow or job.gpus <= spare):
                spare -= 0 if now + job.seconds <= shadow else job.gpus
                free -= job.gpus
                line.remove(job)
                start(job, now)
            if not free:
                break
    return began


def fluid(arrivals: Sequence[Arrival], gpus: int, until: float) -> float:
    """Return the GPU-seconds by then of a cluster on which any job could use every GPU: nothing is ever idle beside
    something that waits."""
    rest = 0.0
    work = 0.0
    now = 0.0
    for arrival in [*arrivals, Arrival(at=until, job_id="", user="", gpus=1, seconds=0.0)]:
        at = min(arrival.at, until)
        step = min(rest, gpus * (at - now))
        rest, work, now = rest - step, work + step, at
        rest += arrival.gpus * arrival.seconds
    return work
