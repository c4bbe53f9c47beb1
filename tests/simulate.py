"""Weeks of a cluster in minutes: the real planner against a virtual clock, beside other policies.

    python -m tests.simulate [--weeks 4] [--nodes 8] [--seed 0] [--seeds 1] [--minute 100] [--store 200]
                             [--only PART ...]

`shares`: three groups of two users whose weights are 1, 2 and 4 want more than the cluster has, for so many weeks:
what each got in every week, beside its weight. `utilisation`: a cluster with a load of 0.95 under the planner, FIFO,
EASY backfilling that knows every time, and what no policy can pass. `preemption`: three classes of priority, a third
of the larger gangs elastic, without preemption, with it, and with it and limits in time together: how long each class
waited, who gave way, and what was lost of their work; every job ends, and every second that a gang was held is
accounted for. `expected`: how often jobs started within the range that they were told, at loads of 0.8 and 0.95, with
shares and quotas, and on traces of the shapes of published ones (`SHAPES`). `day`: 24 hours of so many jobs a
minute, planned once a second. `store`: a short trace through the real queue in SQLite, by a virtual clock; starts and
usage are held to the simulation's. What must hold at every moment (`tests.simulation.World`) is checked at every event.
How far a part is, and how long the rest of it takes, is told on stderr.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from random import Random
from statistics import fmean, median, quantiles
from typing import Required, TypedDict

from service.queue.database import Database
from service.queue.jobs import Capacity
from service.queue.share_records import Bounds
from service.queue.sharing import Principal
from service.queue.store import Store
from service.specs.job import JobSpec
from service.wire import FinishRequest
from tests.expectations import LOOK_SECONDS, Expectations
from tests.policies import clairvoyant, fifo, fluid
from tests.simulated_preemption import Preemption
from tests.simulation import DAY, GPUS_PER_NODE, HOUR, WEEK, Arrival, Began, Rules, World, delivered, trace

PARTS = ["shares", "utilisation", "preemption", "expected", "day", "store"]
WEIGHTS = {"small": 1.0, "middle": 2.0, "large": 4.0}
TELL_SECONDS = 20.0
GROUPS = {f"{group}-{i}": group for group in WEIGHTS for i in range(2)}


def shares(weeks: int, nodes: int, random: Random) -> list[dict[str, float]]:
    """Return for each week by how much each group's part of what was done differs from its weight's.

    Every group wants more than the whole cluster all the time, and the users of a group start weeks apart.
    """
    world = World(nodes, Rules(groups=GROUPS, weights=WEIGHTS))
    arrivals: list[Arrival] = []
    for group in WEIGHTS:
        users = [user for user, of in GROUPS.items() if of == group]
        arrivals += trace(random, users, seconds=weeks * WEEK, gpus=world.gpus, load=1.2)
    arrivals.sort(key=lambda arrival: arrival.at)
    world.run([_named(a, i) for i, a in enumerate(arrivals)], weeks * WEEK)
    parts = []
    for week in range(weeks):
        begin, end = week * WEEK, (week + 1) * WEEK
        of = {group: world.done(begin, end, lambda a, g=group: GROUPS[a.user] == g) for group in WEIGHTS}  # type: ignore[misc]
        total = sum(of.values())
        parts.append({g: of[g] / total - WEIGHTS[g] / sum(WEIGHTS.values()) for g in WEIGHTS})
    return parts


def _named(arrival: Arrival, index: int) -> Arrival:
    return Arrival(at=arrival.at, job_id=f"j{index:07}", user=arrival.user, gpus=arrival.gpus, seconds=arrival.seconds)


def utilisation(
    weeks: int, nodes: int, random: Random, *, load: float = 0.95, named: Sequence[str] = ()
) -> dict[str, tuple[float, list[float]]]:
    """Return for each policy the part of the GPU-seconds that were used, and how long every job waited, in seconds.

    named: those of BOUNDS that the planner is given; none: all.
    """
    until = weeks * WEEK
    gpus = nodes * GPUS_PER_NODE
    arrivals = trace(random, list(GROUPS), seconds=until, gpus=gpus, load=load)
    planned: dict[str, list[Began]] = {}
    for name in named or BOUNDS:
        bounds = BOUNDS[name]
        world = World(nodes)
        world.run(bounded(arrivals, bounds, Random(nodes)), until)
        planned[f"planner, {name}"] = list(world.began.values())
    policies = planned | {
        "FIFO": fifo(arrivals, gpus),
        "EASY, clairvoyant": clairvoyant(arrivals, gpus, until),
    }
    total = gpus * until
    found = {
        name: (delivered(began, 0, until) / total, waits(arrivals, began, until)) for name, began in policies.items()
    }
    return found | {"no policy passes": (fluid(arrivals, gpus, until) / total, [])}


class Telling(TypedDict, total=False):
    """What `expected` takes by name."""

    load: Required[float]
    shared: bool
    shape: Shape


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a published trace: log-normal times, and a mix of gangs, each twice as large as the one before.

    median, most: seconds; most: the longest time. spread: of the logarithms. mix: the parts of all jobs
    """

    median: float
    spread: float
    most: float
    mix: Sequence[float]

    def trace(self, random: Random, *, seconds: float, gpus: int, load: float) -> list[Arrival]:
        """Return a trace of this shape."""
        return trace(
            random, list(GROUPS), seconds=seconds, gpus=gpus, load=load, median=self.median, spread=self.spread,
            most=self.most, mix=self.mix,
        )  # fmt: skip


# Both by InternLM/AcmeTrace, data/cluster_summary.csv, in which the authors of the former sum up traces of datacenters
# for deep learning. Where the mix of gangs is not published it is ours: most jobs have one GPU, the average is theirs.
SHAPES = {
    # The 1,580,464 GPU jobs of Helios: mean 6651.681 s, median 206 s, of at most a week here; 3.716 GPUs, median 1. Hu,
    # Sun, Yan, Wen, Zhang, "Characterization and prediction of deep learning workloads in large-scale GPU datacenters",
    # SC '21
    "Helios": Shape(
        median=206.0,
        spread=math.sqrt(2 * math.log(6652 / 206)),
        most=WEEK,
        mix=(0.575, 0.10, 0.10, 0.17, 0.035, 0.02),
    ),
    # The 112,956 jobs of Philly: mean 18006.055 s, median 874 s, longest 4,240,676 s; 1.928 GPUs, median 1, most 128.
    # With this spread the mean of what is cut there is that one. Jeon, Venkataraman, Phanishayee, Qian, Xiao, Yang,
    # "Analysis of large-scale multi-tenant GPU clusters for DNN training workloads", ATC '19
    "Philly": Shape(
        median=874.0,
        spread=2.5098,
        most=4_240_676.0,
        mix=(0.824, 0.05, 0.05, 0.06, 0.0137, 0.0018, 0.0003, 0.0002),
    ),
}
# part of the jobs that are bounded, and the least and the greatest number of times their length that they may take
Bounding = tuple[float, float, float]
BOUNDS: dict[str, Bounding] = {
    "no bounds": (0.0, 1.0, 1.0),
    "exact bounds": (1.0, 1.0, 1.0),
    "bounds of 1-3 times": (1.0, 1.0, 3.0),
    "bounds of 1-10 times": (1.0, 1.0, 10.0),
    "1-3 times, 9 of 10": (0.9, 1.0, 3.0),
    "1-3 times, half": (0.5, 1.0, 3.0),
}


def bounded(
    arrivals: list[Arrival],
    bounds: Bounding,
    random: Random,
    longest: Callable[[Arrival], float] = attrgetter("seconds"),
) -> list[Arrival]:
    """Return the jobs with limits in time. longest: how long an attempt of a job may take."""
    part, least, most = bounds
    return [
        replace(arrival, limit=longest(arrival) * random.uniform(least, most) if random.random() < part else None)
        for arrival in arrivals
    ]


EXPECTED: dict[str, Telling] = {
    "load 0.8": {"load": 0.8},
    "load 0.95": {"load": 0.95},
    "load 0.95, shares": {"load": 0.95, "shared": True},
    "load 0.8, shares, Helios's shape": {"load": 0.8, "shared": True, "shape": SHAPES["Helios"]},
    "load 0.8, shares, Philly's shape": {"load": 0.8, "shared": True, "shape": SHAPES["Philly"]},
}
PREEMPTING: list[tuple[str, bool, Bounding | None]] = [
    ("without", False, None),
    ("with", True, None),
    ("with, bounded", True, BOUNDS["bounds of 1-3 times"]),
]
RUNS = {
    "utilisation": len(BOUNDS),
    "preemption": len(PREEMPTING),
    "expected": len(EXPECTED),
}  # worlds of a part, if not one
CLASSES = {10: 0.1, 5: 0.2, 0: 0.7}  # priority -> part of the bursts


def classes(
    weeks: float,
    nodes: int,
    random: Random,
    *,
    load: float = 0.9,
    preempts: bool = True,
    rules: Rules | None = None,
    bounds: Bounding | None = None,
) -> World:
    """Return a world in which jobs of three classes have come for so many weeks, and all have ended.

    bounds: how attempts are bounded in time; None: not at all.
    """
    preemption = Preemption()
    world = World(nodes, rules, preemption=preemption if preempts else None)
    until = weeks * WEEK
    some = [
        (priority, arrival)
        for priority, part in CLASSES.items()
        for arrival in trace(random, list(GROUPS), seconds=until, gpus=world.gpus, load=load * part)
    ]
    some.sort(key=lambda each: each[1].at)
    arrivals = [
        replace(
            arrival,
            job_id=f"j{index:07}",
            priority=priority,
            fewest=arrival.gpus // 4 if arrival.gpus >= 4 and index % 3 == 0 else None,
        )
        for index, (priority, arrival) in enumerate(some)
    ]
    if bounds is not None:
        arrivals = bounded(arrivals, bounds, Random(nodes), preemption.longest)
    world.run(arrivals, until + 100 * WEEK)
    assert len({held.arrival.job_id for held in world.over if held.leaves is None}) == len(arrivals), "nobody starves"
    return world


def waits(arrivals: list[Arrival], began: list[Began], until: float) -> list[float]:
    """Return how long the jobs waited that came in time; until the end where they never began."""
    at = {gang.arrival.job_id: gang.at for gang in began}
    return [min(until, at.get(arrival.job_id, until)) - arrival.at for arrival in arrivals if arrival.at < until]


def expected(
    weeks: float, nodes: int, random: Random, *, load: float, shared: bool = False, shape: Shape | None = None
) -> tuple[World, Expectations]:
    """Return a world after so many weeks, and what its jobs were told of their starts. shared: with groups and a quota.
    shape: of the trace."""
    quotas = {Principal(kind="user", name="large-0"): 8.0}
    world = World(nodes, Rules(groups=GROUPS, weights=WEIGHTS, quotas=quotas) if shared else Rules())
    until = weeks * WEEK
    arrivals = (
        shape.trace(random, seconds=until, gpus=world.gpus, load=load)
        if shape is not None
        else trace(random, list(GROUPS), seconds=until, gpus=world.gpus, load=load)
    )
    expectations = Expectations(random=random)
    world.run(arrivals, until, watch=lambda: expectations.look(world))
    return world, expectations


def a_day(per_minute: int, nodes: int, random: Random) -> tuple[World, int]:
    """Return the world after a day of so many jobs a minute, under shares and quotas, planned once a second."""
    quotas = {Principal(kind="user", name=user): nodes * 4.0 for user in GROUPS}
    world = World(nodes, Rules(groups=GROUPS, weights=WEIGHTS, quotas=quotas))
    users, count = list(GROUPS), per_minute * 24 * 60
    each = 0.9 * world.gpus * DAY / count  # seconds of a GPU for each job
    times = sorted(random.random() * DAY for _ in range(count))
    arrivals = []
    for index, at in enumerate(times):
        gpus = random.choices((1, 2, 4, 8), (8, 4, 2, 1))[0]
        length = max(1.0, each / gpus * random.lognormvariate(-0.5, 1.0))
        arrivals.append(Arrival(at=at, job_id=f"j{index:07}", user=random.choice(users), gpus=gpus, seconds=length))
    world.run(arrivals, 2 * DAY, tick=1.0)
    return world, count


def through_the_store(count: int, nodes: int, random: Random) -> tuple[int, float, float]:
    """Run a trace through the real queue, by a virtual clock; return how many jobs ran and the largest differences
    between it and the simulation: of starts, in seconds, and of usage, as a part of it."""
    from tests.contract.queue_checks import check_database, spec

    quotas = {Principal(kind="user", name="large-0"): 8.0}
    world = World(nodes, Rules(groups=GROUPS, weights=WEIGHTS, quotas=quotas))
    arrivals = trace(random, list(GROUPS), seconds=2 * DAY, gpus=world.gpus, load=1.0)[:count]
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/queue.db"
        store = Store(url)
        store.migrate()
        clock = _Clock(store._database)
        for group, weight in WEIGHTS.items():
            store.shares.set_group(group, weight)
        for user, group in GROUPS.items():
            store.shares.add_member(group, user)
        store.shares.set_quota("user", "large-0", Bounds(gpus=8))
        store.observe_cluster(Capacity(nodes=world.capacity.nodes), address="ray", ok=True)
        began = _play(store, clock, arrivals, spec)
        world.run(arrivals, max(a.at for a in arrivals) + 90 * DAY)
        world.now = clock.now
        kept = {(g.name, u.user): u.gpu_seconds for g in store.shares.groups() for u in g.usage}
        simulated = world.usage()
        store.close()
        check_database(url)
    apart = max(abs(began[i] - world.began[arrival.job_id].at) for i, arrival in enumerate(arrivals))
    return len(began), apart, max(abs(kept[account] - used) / used for account, used in simulated.items())


class _Clock:
    """The store's clock, which the simulation turns."""

    def __init__(self, database: Database) -> None:
        self.now = 0.0
        database.now = lambda connection: self.now  # type: ignore[method-assign]


def _play(store: Store, clock: _Clock, arrivals: list[Arrival], spec: Callable[..., JobSpec]) -> dict[int, float]:
    """Let the jobs come, start and end in the store; everything must end. Returns when each began, by its number."""
    coming = list(enumerate(arrivals))
    ends: list[tuple[float, str]] = []
    numbers: dict[str, int] = {}
    running: dict[str, int] = {}
    began: dict[int, float] = {}
    while coming or ends:
        clock.now = min(coming[0][1].at if coming else float("inf"), min(ends)[0] if ends else float("inf"))
        for end in [end for end in ends if end[0] <= clock.now]:
            ends.remove(end)
            job_id = end[1]
            store.finish(job_id, running.pop(job_id), FinishRequest(runner_id="r", outcome="succeeded"))
        while coming and coming[0][1].at <= clock.now:
            number, arrival = coming.pop(0)
            asked = {"workers": arrival.gpus, "gpus_per_worker": 1, "cpus_per_worker": 1}
            numbers[store.submit(spec(**asked), owner=arrival.user).id] = number
        for attempt in store.admit():
            store.claim(attempt.job_id, attempt.number, "r")
            running[attempt.job_id] = attempt.number
            number = numbers[attempt.job_id]
            began[number] = clock.now
            ends.append((clock.now + arrivals[number].seconds, attempt.job_id))
    assert len(began) == len(arrivals), "everything ran"
    return began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=8, help="of 8 GPUs each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds of `expected`, from --seed on")
    parser.add_argument("--minute", type=int, default=100, help="jobs a minute of the day; 0: left out")
    parser.add_argument("--store", type=int, default=200, help="jobs through the real queue; 0: left out")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts alone")
    given = parser.parse_args()
    printed: dict[str, Callable[[], None]] = {
        "shares": lambda: print_shares(given.weeks, given.nodes, given.seed),
        "utilisation": lambda: print_utilisation(given.weeks, given.nodes, given.seed + 1),
        "preemption": lambda: print_classes(given.weeks, given.nodes, given.seed + 5),
        "expected": lambda: print_expected(given.weeks, given.nodes, given.seed + 4, given.seeds),
        "day": lambda: print_day(given.minute, given.nodes, given.seed + 2) if given.minute else None,
        "store": lambda: print_store(given.store, given.nodes, given.seed + 3) if given.store else None,
    }
    started = time.perf_counter()
    for part in PARTS:
        if part in given.only:
            begin, used = time.perf_counter(), time.process_time()
            World.told = Progress(part, RUNS.get(part, 1) * (given.seeds if part == "expected" else 1))
            printed[part]()
            print(
                f"  {part}: {time.perf_counter() - begin:.0f} s, {time.process_time() - used:.0f} of a processor",
                end="",
            )
            print(f"; all so far {time.perf_counter() - started:.0f} and {time.process_time():.0f} s", flush=True)


class Progress:
    """Tells on stderr every TELL_SECONDS how far a part is and how long the rest of it takes, at the speed until now.

    runs: of how many worlds after each other the part is.
    """

    def __init__(self, part: str, runs: int) -> None:
        self._part, self._runs = part, runs
        self._over, self._last = 0, 0.0
        self._begin = self._told = time.perf_counter()

    def __call__(self, passed: float) -> None:
        if passed < self._last:  # the next world
            self._over += 1
        self._last = passed
        now = time.perf_counter()
        if now < self._told + TELL_SECONDS:
            return
        self._told = now
        done = min(1.0, (self._over + passed) / self._runs)
        left = (now - self._begin) * (1.0 / done - 1.0) if done else math.inf
        print(f"  {self._part}: {100 * done:.0f}%, {left:.0f} s left", file=sys.stderr, flush=True)


def print_shares(weeks: int, nodes: int, seed: int) -> None:
    print("shares: part of a week's GPU-seconds less the weight's, in percent")
    for week, parts in enumerate(shares(weeks, nodes, Random(seed)), start=1):
        print(f"  week {week}  " + "  ".join(f"{group} {100 * part:+.2f}" for group, part in parts.items()), flush=True)


def print_utilisation(weeks: int, nodes: int, seed: int) -> None:
    print(f"utilisation, load 0.95, {weeks} weeks: used [%], and waiting [min]: median, 95%, longest")
    for name, (part, waited) in utilisation(weeks, nodes, Random(seed)).items():
        times = (
            f"{median(waited) / 60:9.1f}{quantiles(waited, n=20)[18] / 60:10.1f}{max(waited) / 60:10.1f}"
            if waited
            else ""
        )
        print(f"  {name:30}{100 * part:6.2f}{times}", flush=True)


def print_classes(weeks: int, nodes: int, seed: int) -> None:
    print(f"preemption, load 0.9, {weeks} weeks: by class waiting for the first start [min]: median, 95%, longest; and")
    print("  preempted: jobs, times in all, most times of one, longest from the first time to the end [h]")
    for name, preempts, bounds in PREEMPTING:
        world = classes(weeks, nodes, Random(seed), preempts=preempts, bounds=bounds)
        accounts = world.preemption.accounts if world.preemption is not None else {}
        for priority in sorted(CLASSES, reverse=True):
            jobs = [began for began in world.began.values() if began.arrival.priority == priority]
            waited = [(began.at - began.arrival.at) / 60 for began in jobs]
            print(f"  {name:13}{priority:3}{len(jobs):7} jobs", end="")
            print(f"{median(waited):9.1f}{quantiles(waited, n=20)[18]:9.1f}{max(waited):9.1f}", end="")
            mine = [accounts[began.arrival.job_id] for began in jobs if began.arrival.job_id in accounts]
            gave = [account for account in mine if account.first_preempted is not None]
            took = [(account.ended or 0.0) - (account.first_preempted or 0.0) for account in gave]
            most = max((account.preempted for account in gave), default=0)
            times = sum(account.preempted for account in gave)
            print(f"{len(gave):9}{times:7}{most:5}{max(took, default=0.0) / HOUR:8.1f}", flush=True)
        if world.preemption is not None:
            held = sum(account.held for account in accounts.values())
            parts = {
                name: 100 * sum(getattr(account, name) for account in accounts.values()) / held
                for name in ("lost", "starts", "idle")
            }
            print("  of what was held [%]: " + ", ".join(f"{name} {part:.3f}" for name, part in parts.items()), end="")
            resized = sum(account.resized for account in accounts.values())
            print(f"; killed after their grace {world.preemption.killed}, resized {resized}", flush=True)


def print_expected(weeks: int, nodes: int, first_seed: int, seeds: int) -> None:
    print(f"expected starts, {weeks} weeks, a look every {LOOK_SECONDS / 60:.0f} min:", end=" ")
    print("in the range told first; in one told at any time; and its end, and its length [min], medians")
    for name, made in EXPECTED.items():
        hits: list[list[float]] = []
        for seed in range(first_seed, first_seed + seeds):
            world, expectations = expected(weeks, nodes, Random(seed), **made)
            both = expectations.within(world)
            hits.append([100 * fmean(bool(each.within) for each in some) for some in both])
            held = [f"{hit:6.1f}% of {len(some):6}" for hit, some in zip(hits[-1], both, strict=True)]
            late, length = (
                median(values) / 60
                for values in zip(*((o.told[1], o.told[1] - o.told[0]) for o in both[1]), strict=True)
            )
            print(f"  {name:36}{held[0]}{held[1]:>20}{late:9.1f}{length:9.1f}", flush=True)
        if seeds > 1:
            columns = list(zip(*hits, strict=True))
            of = ", ".join(f"{min(column):.1f} and {median(column):.1f}%" for column in columns)
            print(f"    least and median of {seeds} seeds: {of}", flush=True)


def print_day(minute: int, nodes: int, seed: int) -> None:
    start = time.perf_counter()
    world, count = a_day(minute, nodes, Random(seed))
    longest = max(began.at - began.arrival.at for began in world.began.values())
    print(f"a day of {minute} jobs a minute: {len(world.began)} of {count} began, {world.plans} plans, ", end="")
    print(f"longest wait {longest / HOUR:.1f} h, in {time.perf_counter() - start:.0f} s", flush=True)


def print_store(jobs: int, nodes: int, seed: int) -> None:
    ran, apart, difference = through_the_store(jobs, nodes, Random(seed))
    print(f"store: {ran} jobs ran; beside the simulation starts differ by {apart:.1e} s at most, ", end="")
    print(f"usage by {difference:.1e} of it", flush=True)


if __name__ == "__main__":
    main()
