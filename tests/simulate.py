"""Weeks of a cluster in minutes: the real planner against a virtual clock, beside other policies.

    python -m tests.simulate [--weeks 4] [--nodes 8] [--seed 0] [--minute 100] [--store 200] [--only PART ...]

`shares`: three groups of two users whose weights are 1, 2 and 4 want more than the cluster has, for so many weeks: what
each got in every week, beside its weight. `utilisation`: a cluster with a load of 0.95 under the planner, FIFO, EASY
backfilling that knows every time, and what no policy can pass. `expected`: how often jobs started within the range that
they were told, at loads of 0.8 and 0.95, with shares and quotas, and on a trace of the shape of a published one
(`published`). `day`: 24 hours of so many jobs a minute, planned once a second. `store`: a short trace through the real
queue in SQLite, by a virtual clock; starts and usage are held to the simulation's. What must hold at every moment
(`tests.simulation.World`) is checked at every event.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from random import Random
from statistics import fmean, median, quantiles

from service.queue.database import Database
from service.queue.jobs import Capacity
from service.queue.share_records import Bounds
from service.queue.sharing import Principal
from service.queue.store import Store
from service.specs.job import JobSpec
from service.wire import FinishRequest
from tests.expectations import LOOK_SECONDS, Expectations
from tests.simulation import DAY, HOUR, WEEK, Arrival, Began, Rules, World, clairvoyant, delivered, fifo, fluid, trace

PARTS = ["shares", "utilisation", "expected", "day", "store"]
WEIGHTS = {"small": 1.0, "middle": 2.0, "large": 4.0}
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


def utilisation(weeks: int, nodes: int, random: Random, *, load: float = 0.95) -> dict[str, tuple[float, list[float]]]:
    """Return for each policy the part of the GPU-seconds that were used, and how long every job waited, in seconds."""
    world = World(nodes)
    until = weeks * WEEK
    arrivals = trace(random, list(GROUPS), seconds=until, gpus=world.gpus, load=load)
    world.run(arrivals, until)
    policies = {
        "the planner": list(world.began.values()),
        "FIFO": fifo(arrivals, world.gpus),
        "EASY, clairvoyant": clairvoyant(arrivals, world.gpus, until),
    }
    total = world.gpus * until
    found = {
        name: (delivered(began, 0, until) / total, waits(arrivals, began, until)) for name, began in policies.items()
    }
    return found | {"no policy passes": (fluid(arrivals, world.gpus, until) / total, [])}


def waits(arrivals: list[Arrival], began: list[Began], until: float) -> list[float]:
    """Return how long the jobs waited that came in time; until the end where they never began."""
    at = {gang.arrival.job_id: gang.at for gang in began}
    return [min(until, at.get(arrival.job_id, until)) - arrival.at for arrival in arrivals if arrival.at < until]


def published(random: Random, *, seconds: float, gpus: int, load: float) -> list[Arrival]:
    """Return a trace shaped as that of a datacenter for deep learning.

    Hu, Sun, Yan, Wen, Zhang (2021), "Characterization and prediction of deep learning workloads in large-scale GPU
    datacenters", SC '21, gives for GPU jobs a median of 206 s, a mean of 6,652 s and 3.72 GPUs on average, most jobs
    with one. Here times are log-normal with that median and mean, of at most a week; the mix of gangs has that average.
    """
    spread = math.sqrt(2 * math.log(6652 / 206))
    mix = (0.575, 0.10, 0.10, 0.17, 0.035, 0.02)
    return trace(
        random, list(GROUPS), seconds=seconds, gpus=gpus, load=load, median=206.0, spread=spread, most=WEEK, mix=mix
    )


def expected(
    weeks: float, nodes: int, random: Random, *, load: float, shared: bool = False, shaped: bool = False
) -> tuple[World, Expectations]:
    """Return a world after so many weeks, and what its jobs were told of their starts. shared: with groups and a quota.
    shaped: by a trace of the shape of a published one."""
    quotas = {Principal(kind="user", name="large-0"): 8.0}
    world = World(nodes, Rules(groups=GROUPS, weights=WEIGHTS, quotas=quotas) if shared else Rules())
    until = weeks * WEEK
    arrivals = (
        published(random, seconds=until, gpus=world.gpus, load=load)
        if shaped
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
    parser.add_argument("--minute", type=int, default=100, help="jobs a minute of the day; 0: left out")
    parser.add_argument("--store", type=int, default=200, help="jobs through the real queue; 0: left out")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts alone")
    given = parser.parse_args()
    begin = time.perf_counter()
    if "shares" in given.only:
        print_shares(given.weeks, given.nodes, given.seed)
    if "utilisation" in given.only:
        print_utilisation(given.weeks, given.nodes, given.seed + 1)
    if "expected" in given.only:
        print_expected(given.weeks, given.nodes, given.seed + 4)
    if given.minute and "day" in given.only:
        print_day(given.minute, given.nodes, given.seed + 2)
    if given.store and "store" in given.only:
        print_store(given.store, given.nodes, given.seed + 3)
    print(f"{time.perf_counter() - begin:.0f} s in all")


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
        print(f"  {name:20}{100 * part:6.2f}{times}", flush=True)


def print_expected(weeks: int, nodes: int, seed: int) -> None:
    print(f"expected starts, {weeks} weeks, a look every {LOOK_SECONDS / 60:.0f} min:", end=" ")
    print("in the range told first; in one told at any time; and its end, and its length [min], medians")
    for load, shared, shaped in ((0.8, False, False), (0.95, False, False), (0.95, True, False), (0.8, True, True)):
        world, expectations = expected(weeks, nodes, Random(seed), load=load, shared=shared, shaped=shaped)
        first, later = expectations.within(world)
        held = [f"{100 * fmean(bool(each.within) for each in some):6.1f}% of {len(some):6}" for some in (first, later)]
        late, length = (
            median(values) / 60 for values in zip(*((o.told[1], o.told[1] - o.told[0]) for o in later), strict=True)
        )
        name = f"load {load}{', shares' if shared else ''}{', published shape' if shaped else ''}"
        print(f"  {name:36}{held[0]}{held[1]:>20}{late:9.1f}{length:9.1f}", flush=True)


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
