"""What a plan costs beside the planner that looks at every job, and what a long line costs whoever reads one job.

    python -m tests.benchmarks.admission [--waiting 10000 50000] [--reference 10000] [--line 100000]

The cluster has 125 nodes of 8 GPUs, 64 CPUs and 512 GiB; the gangs have 1 to 32 workers of 1 GPU each, drawn evenly.
`cold`: the plan for an empty cluster. `after an end`: one of the running gangs, drawn by chance, has ended; the median
of 5. Each includes sorting the queue into lanes. Both planners are given the same and their plans are compared.
`shared`: the same with 40 users in 8 groups and in none, a third of them under quotas, without the other planner. The
second table is of the store: the queue is in the database, and `admit`, `job` (of jobs drawn from the line, and of the
last one, whose place takes longest to count) and `jobs` (the newest 100) are whole calls; medians. `look`: when what
waits is expected to start, found out and written down, as every 10 s.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from statistics import median
from typing import Any

import sqlalchemy as sa

from service.queue import line, scheduling
from service.queue.jobs import Capacity, Resources, canonical
from service.queue.scheduling import Queued, Running
from service.queue.schema import jobs
from service.queue.sharing import NOBODY, Principal, Sharing
from service.queue.store import Store
from tests import reference_plan
from tests.benchmarks.queue_throughput import SPEC, databases

CLUSTER = Capacity(nodes=tuple({"CPU": 64.0, "GPU": 8.0, "memory": 2.0**39} for _ in range(125)))
KINDS = [Resources(workers=workers, gpus_per_worker=1, cpus_per_worker=4) for workers in range(1, 33)]
ENDS = 5
INSERTS = 1000  # rows at a time
Made = list[tuple[str, tuple[int, ...]]]


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


def now_planned(queue: Sequence[Queued], running: Sequence[Running], rules: Sharing = NOBODY) -> Made:
    made = scheduling.plan(scheduling.lanes(queue), running, CLUSTER, 0.0, most=CLUSTER, sharing=rules)
    return [(admission.job_id, admission.nodes) for admission in made.admit]


def once_planned(queue: Sequence[Queued], running: Sequence[Running]) -> Made:
    made = reference_plan.plan(queue, running, CLUSTER, 0.0, most=CLUSTER)
    return [(admission.job_id, admission.nodes) for admission in made.admit]


def plans(waiting: int, *, reference: bool, random: Random) -> None:
    queue = [Queued(job_id=f"j{i:07}", resources=random.choice(KINDS)) for i in range(waiting)]
    cold, made = seconds(lambda: now_planned(queue, []))
    row("cold", waiting, cold, *compared(reference, queue, [], made))
    gang = {job.job_id: job.resources for job in queue}
    running = [Running(job_id=job_id, resources=gang[job_id], nodes=nodes) for job_id, nodes in made]
    begun = {job_id for job_id, _ in made}
    queue = [job for job in queue if job.job_id not in begun]
    ends = []
    for _ in range(ENDS):
        left = list(running)
        left.pop(random.randrange(len(left)))
        taken, made = seconds(partial(now_planned, queue, left))
        ends.append((taken, left, made))
    taken, left, made = sorted(ends, key=lambda end: end[0])[ENDS // 2]
    row("after an end", waiting, taken, *compared(reference, queue, left, made))


def shared_plans(waiting: int, random: Random) -> None:
    """Print what the plan costs where shares and quotas rule it."""
    rules = shared_rules(random)
    users = [f"user{i:02}" for i in range(40)]
    queue = [
        Queued(job_id=f"j{i:07}", resources=random.choice(KINDS), owner=random.choice(users)) for i in range(waiting)
    ]
    cold, made = seconds(lambda: now_planned(queue, [], rules))
    row("shared, cold", waiting, cold, "-", "-")
    jobs_by_id = {job.job_id: job for job in queue}
    running = [
        Running(job_id=i, resources=jobs_by_id[i].resources, nodes=nodes, owner=jobs_by_id[i].owner)
        for i, nodes in made
    ]
    begun = {job_id for job_id, _ in made}
    queue = [job for job in queue if job.job_id not in begun]
    ends = []
    for _ in range(ENDS):
        left = list(running)
        left.pop(random.randrange(len(left)))
        ends.append(seconds(partial(now_planned, queue, left, rules))[0])
    row("shared, an end", waiting, median(ends), "-", "-")


def shared_rules(random: Random) -> Sharing:
    groups = {f"user{i:02}": f"group{i % 8}" for i in range(35)}
    principals = [Principal(kind="user", name=f"user{i:02}") for i in range(0, 40, 3)]
    return Sharing(
        groups=groups,
        weights={f"group{i}": 1.0 + i for i in range(8)},
        usage={(groups.get(f"user{i:02}", ""), f"user{i:02}"): random.random() * 1e7 for i in range(40)},
        quotas={principal: {"GPU": 40.0} for principal in principals},
    )


def compared(wanted: bool, queue: Sequence[Queued], running: Sequence[Running], made: Made) -> tuple[str, str]:
    """Return the other planner's seconds, and the ratio to be filled in; "-" where it was not asked."""
    if not wanted:
        return "-", "-"
    taken, reference = seconds(lambda: once_planned(queue, running))
    assert reference == made, "the two planners differ"
    return f"{taken:.3f}", f"{taken}"


def row(what: str, waiting: int, taken: float, reference: str, total: str) -> None:
    ratio = "-" if total == "-" else f"{float(total) / taken:.0f}"
    print(f"{what:14}{waiting:>9}{taken:>10.4f}{reference:>15}{ratio:>7}", flush=True)


def stores(waiting: int, random: Random) -> None:
    with databases() as found:
        for name, url in found:
            store = Store(url)
            store.migrate()
            fill(store, waiting, random)
            store.observe_cluster(CLUSTER, address="bench", ok=True)
            cold, made = seconds(store.admit)
            assert made
            again = median(seconds(store.admit)[0] for _ in range(ENDS))
            look, _ = seconds(store.expected.look)
            some = [f"j-{random.randrange(waiting // 10, waiting - 1):013}" for _ in range(4 * ENDS)]
            one = median(seconds(partial(store.job, job_id))[0] for job_id in some)
            last = median(seconds(partial(store.job, f"j-{waiting - 2:013}"))[0] for _ in some)
            page = median(seconds(store.jobs)[0] for _ in range(ENDS))
            print(
                f"{name:12}{waiting:>9}{cold:>15.4f}{again:>15.4f}{look:>10.4f}{one:>10.4f}{last:>10.4f}{page:>10.4f}",
                flush=True,
            )
            store.close()


def fill(store: Store, waiting: int, random: Random) -> None:
    """Put jobs into the line, by copies of one that was submitted."""
    job_id = store.submit(SPEC, owner="bench").id
    with store._database.write() as connection:
        first = dict(connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().one())
        for start in range(0, waiting - 1, INSERTS):
            rows = []
            for index in range(start, min(start + INSERTS, waiting - 1)):
                resources = random.choice(KINDS).model_dump(mode="json")
                lane = line.lane_of(first["priority"], first["owner"], canonical(resources))
                rows.append(first | {"id": f"j-{index:013}", "resources": resources, "lane": lane})
            connection.execute(sa.insert(jobs), rows)
    with store._database._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE" if store._database.sqlite else "VACUUM ANALYZE vaesvc_jobs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument(
        "--reference", type=int, default=10_000, help="the longest line that the other planner is given"
    )
    parser.add_argument("--line", type=int, default=100_000, help="jobs that wait in the database")
    arguments = parser.parse_args()
    print(f"{'plan':14}{'waiting':>9}{'seconds':>10}{'reference (s)':>15}{'ratio':>7}")
    for waiting in arguments.waiting:
        plans(waiting, reference=waiting <= arguments.reference, random=Random(waiting))
        shared_plans(waiting, Random(waiting))
    print(f"\n{'store':12}{'waiting':>9}{'admit cold (s)':>15}{'admit next (s)':>15}", end="")
    print(f"{'look (s)':>10}{'job (s)':>10}{'last (s)':>10}{'jobs (s)':>10}")
    stores(arguments.line, Random(0))


if __name__ == "__main__":
    main()
