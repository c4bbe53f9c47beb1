"""The admission policy, held to what its docstring promises by arithmetic of our own (exact fractions, brute force)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from random import Random

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from service.queue import scheduling
from service.queue.jobs import Capacity, Resources
from service.queue.scheduling import Admission, Queued, Running, fits, impossibility, largest, ordered
from tests import reference_plan

NOW = 1000.0


@dataclass(frozen=True)
class Plan:
    """A plan with the fate of every job in the line."""

    admit: tuple[Admission, ...]
    waiting: dict[str, str]
    impossible: dict[str, str]
    head: str | None


def plan(
    queue: Sequence[Queued],
    running: Sequence[Running],
    capacity: Capacity,
    now: float,
    *,
    most: Capacity | None = None,
) -> Plan:
    made = scheduling.plan(scheduling.lanes(queue), running, capacity, now, most=most)
    begun = {admission.job_id for admission in made.admit}
    left = [job for job in queue if job.job_id not in begun]
    return Plan(
        admit=made.admit,
        waiting={
            job.job_id: scheduling.reason(made.waiting.get(job.resources), job.not_before, now)
            for job in left
            if job.resources not in made.impossible
        },
        impossible={job.job_id: made.impossible[job.resources] for job in left if job.resources in made.impossible},
        head=made.head,
    )


# --- arithmetic of our own ------------------------------------------------------------------------------------------


def exact(amounts: dict[str, float]) -> dict[str, Fraction]:
    return {name: Fraction(str(amount)) for name, amount in amounts.items()}


def bundle(resources: Resources) -> dict[str, Fraction]:
    asked = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker, "memory": resources.memory_per_worker}
    return exact({name: amount for name, amount in asked.items() if amount})


def free(capacity: Capacity, gangs: Iterable[tuple[Resources, Sequence[int]]]) -> list[dict[str, Fraction]]:
    left = [exact(node) for node in capacity.nodes]
    for resources, nodes in gangs:
        for index in nodes:
            for name, amount in bundle(resources).items():
                left[index][name] = left[index].get(name, Fraction(0)) - amount
    return left


def room(left: Sequence[dict[str, Fraction]], resources: Resources) -> bool:
    """Brute force: put one worker after another anywhere it fits. Exact, because a gang's workers are equal."""
    left = [dict(node) for node in left]
    asked = bundle(resources)
    for _ in range(resources.workers):
        found = next((n for n in left if all(n.get(name, 0) >= amount for name, amount in asked.items())), None)
        if found is None:
            return False
        for name, amount in asked.items():
            found[name] -= amount
    return True


# --- clusters, gangs and queues -------------------------------------------------------------------------------------

nodes = st.fixed_dictionaries({"CPU": st.sampled_from([1.0, 2.0, 4.0, 8.0]), "GPU": st.sampled_from([0.0, 1.0, 4.0])})
capacities = st.lists(nodes, min_size=1, max_size=3).map(lambda found: Capacity(nodes=tuple(found)))
gangs = st.builds(
    Resources,
    workers=st.integers(1, 4),
    cpus_per_worker=st.sampled_from([0.1, 0.3, 1.0, 2.0, 3.0]),
    gpus_per_worker=st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0]),
)


@st.composite
def queues(draw: st.DrawFn, prefix: str = "q", max_size: int = 6) -> list[Queued]:
    found = draw(st.lists(st.tuples(gangs, st.sampled_from([0, 0, 0, 5]), st.booleans()), max_size=max_size))
    return [
        Queued(job_id=f"{prefix}{i}", resources=r, priority=p, not_before=NOW + 9 if late and i % 3 == 0 else 0.0)
        for i, (r, p, late) in enumerate(found)
    ]


@st.composite
def situations(draw: st.DrawFn) -> tuple[Capacity, list[Running], list[Queued]]:
    """A cluster on which some gangs have been admitted and some of those have ended: fragmented, as in life."""
    capacity = draw(capacities)
    first = [Queued(job_id=q.job_id, resources=q.resources) for q in draw(queues(prefix="r", max_size=7))]
    by_id = {q.job_id: q.resources for q in first}
    admitted = plan(first, [], capacity, NOW).admit
    running = [Running(job_id=a.job_id, resources=by_id[a.job_id], nodes=a.nodes) for a in admitted]
    running = [gang for gang in running if draw(st.integers(0, 3)) > 0]
    return capacity, running, draw(queues())


def held(running: Iterable[Running]) -> list[tuple[Resources, Sequence[int]]]:
    return [(gang.resources, gang.nodes) for gang in running]


def started(made: Plan, queue: Sequence[Queued]) -> list[Running]:
    by_id = {job.job_id: job.resources for job in queue}
    return [Running(job_id=a.job_id, resources=by_id[a.job_id], nodes=a.nodes) for a in made.admit]


def in_line(queue: Sequence[Queued]) -> list[Queued]:
    return sorted(queue, key=lambda job: (-job.priority, job.job_id))


def head_of(made: Plan, queue: Sequence[Queued], capacity: Capacity) -> Queued | None:
    empty = free(capacity, [])
    return next((j for j in in_line(queue) if j.job_id in made.waiting and room(empty, j.resources)), None)


# --- properties -----------------------------------------------------------------------------------------------------


@given(situations())
def test_no_node_is_ever_given_more_than_it_has(situation: tuple[Capacity, list[Running], list[Queued]]) -> None:
    capacity, running, queue = situation
    made = plan(queue, running, capacity, NOW)
    for left in free(capacity, held(running) + held(started(made, queue))):
        assert all(amount >= 0 for amount in left.values())


@given(situations())
def test_gangs_start_whole_and_every_job_has_one_fate(situation: tuple[Capacity, list[Running], list[Queued]]) -> None:
    capacity, running, queue = situation
    made = plan(queue, running, capacity, NOW, most=capacity)
    workers = {job.job_id: job.resources.workers for job in queue}
    assert all(len(a.nodes) == workers[a.job_id] for a in made.admit)
    fates = [a.job_id for a in made.admit] + list(made.waiting) + list(made.impossible)
    assert sorted(fates) == sorted(workers)
    assert all(made.waiting.values())
    assert all(made.impossible.values())


@given(situations())
def test_the_line_is_by_priority_then_age_whatever_backs_off(
    situation: tuple[Capacity, list[Running], list[Queued]],
) -> None:
    _, _, queue = situation
    endless = Capacity(nodes=({"CPU": 1000.0, "GPU": 1000.0},))
    expected = [job.job_id for job in in_line(queue) if job.not_before <= NOW]
    assert [a.job_id for a in plan(queue, [], endless, NOW).admit] == expected


@given(situations())
def test_who_is_before_the_head_starts_when_it_fits(situation: tuple[Capacity, list[Running], list[Queued]]) -> None:
    """Nobody waits without need: down to the head, a job starts exactly when there is room for it."""
    capacity, running, queue = situation
    made = plan(queue, running, capacity, NOW)
    begun = {gang.job_id: gang for gang in started(made, queue)}
    taken = held(running)
    for job in in_line(queue):
        if not room(free(capacity, []), job.resources):
            assert job.job_id in made.waiting
            continue
        can = job.not_before <= NOW and room(free(capacity, taken), job.resources)
        assert (job.job_id in begun) == can
        if not can:
            break
        taken += held([begun[job.job_id]])


@given(situations())
@settings(suppress_health_check=[HealthCheck.filter_too_much])  # of the tries, 1 in 7 has somebody who passes
def test_the_head_fits_after_the_same_endings_with_and_without_those_who_passed_it(
    situation: tuple[Capacity, list[Running], list[Queued]],
) -> None:
    capacity, running, queue = situation
    made = plan(queue, running, capacity, NOW)
    head = head_of(made, queue, capacity)
    assume(head is not None)
    assert head is not None
    place = {job.job_id: index for index, job in enumerate(in_line(queue))}
    begun = started(made, queue)
    passed = [gang for gang in begun if place[gang.job_id] > place[head.job_id]]
    others = running + [gang for gang in begun if place[gang.job_id] < place[head.job_id]]
    assume(passed)
    for count in range(len(others) + 1):
        for left in combinations(others, count):
            without = room(free(capacity, held(left)), head.resources)
            assert room(free(capacity, held(left) + held(passed)), head.resources) == without


@given(situations(), st.randoms(use_true_random=False))
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_the_head_starts_at_the_same_moment_in_a_world_without_those_behind_it(
    situation: tuple[Capacity, list[Running], list[Queued]], random: object
) -> None:
    """Two worlds, the same order of endings; in one of them nobody is behind the head. Who passes never ends."""
    capacity, running, queue = situation
    queue = [Queued(job_id=j.job_id, resources=j.resources, priority=j.priority) for j in queue]
    head = head_of(plan(queue, running, capacity, NOW), queue, capacity)
    assume(head is not None)
    assert head is not None
    line = in_line(queue)
    until_head = line[: line.index(head) + 1]
    order = [gang.job_id for gang in running]
    random.shuffle(order)  # type: ignore[attr-defined]

    def start_of_head(queue: list[Queued]) -> int:
        now_running, waiting = list(running), list(queue)
        for ended in range(len(order) + 1):
            made = plan(waiting, now_running, capacity, NOW)
            now_running += started(made, waiting)
            if any(gang.job_id == head.job_id for gang in now_running):
                return ended
            waiting = [job for job in waiting if job.job_id in made.waiting]
            if ended < len(order):
                now_running = [gang for gang in now_running if gang.job_id != order[ended]]
        return -1  # those that started before it in the line never end here, and keep it out in both worlds

    assert start_of_head(line) == start_of_head(until_head)


def every_waiting_reason(made: Plan) -> bool:
    return all(reason != scheduling.NEXT_LOOK for reason in made.waiting.values())


@given(situations(), st.sampled_from([None, "today", "more"]))
def test_the_plan_is_that_of_the_planner_that_looks_at_every_job(
    situation: tuple[Capacity, list[Running], list[Queued]], known: str | None
) -> None:
    capacity, running, queue = situation
    more = Capacity(nodes=(*capacity.nodes, {"CPU": 8.0, "GPU": 4.0}))
    most = {None: None, "today": capacity, "more": more}[known]
    made = plan(queue, running, capacity, NOW, most=most)
    reference = reference_plan.plan(queue, running, capacity, NOW, most=most)
    assert [(a.job_id, a.nodes) for a in made.admit] == [(a.job_id, a.nodes) for a in reference.admit]
    assert made.impossible == dict(reference.impossible)
    assert made.waiting.keys() == reference.waiting.keys()
    head = head_of(made, queue, capacity)
    assert made.head == (None if head is None else head.job_id)
    assert every_waiting_reason(made)
    late = {job.job_id for job in queue if job.not_before > NOW}
    for job_id, why in reference.waiting.items():
        assert made.waiting[job_id].startswith("starts again") == (job_id in late)
        if job_id not in late:  # what is free is told as it is at the end of the plan
            assert (made.waiting[job_id] == why) or not why.startswith("asks for")


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_it_is_that_also_on_many_nodes_that_are_alike(seed: int) -> None:
    """Room that is remembered, and nodes that share what was counted: rounds of ends and starts."""
    random = Random(seed)
    capacity = Capacity(nodes=tuple({"CPU": 16.0, "GPU": random.choice([0.0, 4.0, 8.0])} for _ in range(12)))
    kinds = [
        Resources(workers=random.randint(1, 9), gpus_per_worker=random.choice([0, 0.5, 1, 2]), cpus_per_worker=cores)
        for cores in (1, 2, 3)
        for _ in range(3)
    ]
    line = [
        Queued(job_id=f"j{i:03}", resources=random.choice(kinds), priority=random.choice([0, 0, 1])) for i in range(60)
    ]
    now_running: list[Running] = []
    for _ in range(4):
        made = plan(line, now_running, capacity, NOW)
        reference = reference_plan.plan(line, now_running, capacity, NOW)
        assert [(a.job_id, a.nodes) for a in made.admit] == [(a.job_id, a.nodes) for a in reference.admit]
        now_running += started(made, line)
        now_running = [gang for gang in now_running if random.random() < 0.7]
        line = [job for job in line if job.job_id in made.waiting]


@given(situations(), st.randoms(use_true_random=False))
def test_the_same_situation_in_any_order_gives_the_same_plan(
    situation: tuple[Capacity, list[Running], list[Queued]], random: object
) -> None:
    capacity, running, queue = situation
    before = plan(queue, running, capacity, NOW, most=capacity)
    shuffled, shuffled_running = list(queue), list(running)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    random.shuffle(shuffled_running)  # type: ignore[attr-defined]
    assert plan(shuffled, shuffled_running, capacity, NOW, most=capacity) == before


@given(capacities, gangs)
def test_impossible_is_exactly_what_the_empty_largest_cluster_cannot_hold(most: Capacity, gang: Resources) -> None:
    possible = room(free(most, []), gang)
    assert fits(gang, most) == possible
    made = plan([Queued(job_id="a", resources=gang)], [], Capacity(), NOW, most=most)
    assert ("a" in made.impossible) == (not possible)
    assert ("a" in made.waiting) == possible


@given(capacities, capacities, gangs)
def test_what_any_cluster_seen_could_hold_stays_possible(one: Capacity, other: Capacity, gang: Resources) -> None:
    most = largest(largest(None, one), other)
    assert len(most.nodes) == max(len(one.nodes), len(other.nodes))
    if fits(gang, one) or fits(gang, other):
        assert impossibility(gang, most) is None
    assert largest(None, one) == largest(ordered(one), one)


# --- examples -------------------------------------------------------------------------------------------------------


def cpus(amount: float, workers: int = 1) -> Resources:
    return Resources(workers=workers, cpus_per_worker=amount)


def one_node(cpu: float, gpu: float = 0.0) -> Capacity:
    return Capacity(nodes=({"CPU": cpu, "GPU": gpu},))


def test_a_smaller_job_passes_on_what_the_head_leaves_over_and_not_on_more() -> None:
    running = [Running(job_id="r", resources=cpus(3), nodes=(0,))]
    head = Queued(job_id="a", resources=cpus(6))
    made = plan([head, Queued(job_id="b", resources=cpus(2))], running, one_node(8), NOW)
    assert [a.job_id for a in made.admit] == ["b"]  # 6 + 2 = 8: the head fits beside it when r ends
    made = plan([head, Queued(job_id="b", resources=cpus(3))], running, one_node(8), NOW)
    assert made.admit == ()
    assert "could delay the first job of the line" in made.waiting["b"]
    assert "needs 1 x (6 CPU); free now: 5 CPU" in made.waiting["a"]


def test_a_job_that_leaves_room_in_total_may_still_not_pass_when_one_ending_would_have_been_enough() -> None:
    # 2 x 8 CPUs. If r1 ends first the head starts at once, unless somebody has taken a part of that node.
    capacity = Capacity(nodes=({"CPU": 8.0}, {"CPU": 8.0}))
    running = [
        Running(job_id="r1", resources=cpus(1), nodes=(0,)),
        Running(job_id="r2", resources=cpus(8), nodes=(1,)),
    ]
    made = plan([Queued(job_id="a", resources=cpus(8)), Queued(job_id="b", resources=cpus(4))], running, capacity, NOW)
    assert made.admit == ()


def test_a_job_without_gpus_passes_a_head_that_waits_for_gpus() -> None:
    running = [Running(job_id="r", resources=Resources(gpus_per_worker=1, cpus_per_worker=1), nodes=(0,))]
    head = Queued(job_id="a", resources=Resources(gpus_per_worker=1, cpus_per_worker=2))
    queue = [head, *(Queued(job_id=f"b{i}", resources=cpus(3.5)) for i in range(2))]
    made = plan(queue, running, one_node(8, gpu=1), NOW)
    # both fit now, but the second would leave the head 1 of its 2 CPUs when r ends
    assert [a.job_id for a in made.admit] == ["b0"]


def test_a_job_that_backs_off_keeps_its_place() -> None:
    queue = [Queued(job_id="a", resources=cpus(2), not_before=NOW + 7), Queued(job_id="b", resources=cpus(2))]
    made = plan(queue, [], one_node(2), NOW)
    assert made.admit == ()
    assert "starts again in 7 s" in made.waiting["a"]
    made = plan(queue, [], one_node(2), NOW + 7)
    assert [a.job_id for a in made.admit] == ["a"]


def test_higher_priority_goes_first_then_the_older() -> None:
    queue = [
        Queued(job_id="old", resources=cpus(1)),
        Queued(job_id="new", resources=cpus(1)),
        Queued(job_id="urgent", resources=cpus(1), priority=3),
    ]
    assert [a.job_id for a in plan(queue, [], one_node(1), NOW).admit] == ["urgent"]
    assert [a.job_id for a in plan(queue, [], one_node(2), NOW).admit] == ["urgent", "new"]


def test_every_worker_must_fit_on_a_node() -> None:
    capacity = Capacity(nodes=({"CPU": 2.0}, {"CPU": 2.0}))
    made = plan([Queued(job_id="a", resources=cpus(4))], [], capacity, NOW, most=capacity)
    assert "2 nodes of 2 CPU" in made.impossible["a"]
    made = plan([Queued(job_id="b", resources=cpus(1, workers=3))], [], capacity, NOW, most=capacity)
    assert made.admit[0].nodes == (0, 0, 1)
    made = plan([Queued(job_id="c", resources=cpus(1.5, workers=3))], [], capacity, NOW, most=capacity)
    assert "holds 2 of these workers" in made.impossible["c"]


@pytest.mark.parametrize("left", [Capacity(), one_node(1)], ids=["head restarts", "a node is gone"])
def test_a_smaller_cluster_makes_jobs_wait_and_holds_nothing_for_them(left: Capacity) -> None:
    most = one_node(8)
    queue = [Queued(job_id="a", resources=cpus(4)), Queued(job_id="b", resources=cpus(1))]
    made = plan(queue, [], left, NOW, most=most)
    assert made.impossible == {}
    assert "at present" in made.waiting["a"]
    assert [a.job_id for a in made.admit] == (["b"] if left.nodes else [])


def test_gangs_on_nodes_that_are_gone_still_count() -> None:
    running = [Running(job_id="r", resources=cpus(2), nodes=(1,))]
    made = plan([Queued(job_id="a", resources=cpus(1))], running, one_node(2), NOW)
    assert made.admit == ()
    running = [Running(job_id="r", resources=cpus(4, workers=2), nodes=(0, 1))]
    assert plan([Queued(job_id="a", resources=cpus(1))], running, one_node(4), NOW).admit == ()


@example(10)
@given(st.integers(1, 30))
def test_tenths_of_a_gpu_add_up(count: int) -> None:
    """0.1 + 0.2 > 0.3 in floating point; the plan counts in integers."""
    queue = [
        Queued(job_id=f"j{i:02}", resources=Resources(gpus_per_worker=0.1, cpus_per_worker=0.1)) for i in range(count)
    ]
    assert len(plan(queue, [], one_node(3, gpu=1), NOW).admit) == min(count, 10)


def test_a_gang_without_gpus_leaves_the_node_with_gpus_alone() -> None:
    capacity = Capacity(nodes=({"CPU": 8.0, "GPU": 8.0}, {"CPU": 4.0}))
    made = plan([Queued(job_id="a", resources=cpus(1, workers=2))], [], capacity, NOW)
    assert made.admit[0].nodes == (1, 1)


class Counted(Iterator[Queued]):
    """A lane's jobs, and how many of them were asked for."""

    def __init__(self, resources: Resources) -> None:
        self.resources, self.asked = resources, 0

    def __next__(self) -> Queued:
        self.asked += 1
        return Queued(job_id=f"j{self.asked:06}-{self.resources.workers:02}", resources=self.resources)


def test_a_plan_reads_no_further_than_what_starts() -> None:
    """What it costs is the number of kinds and of starts, however long the line is: here it never ends."""
    capacity = Capacity(nodes=tuple({"CPU": 64.0, "GPU": 8.0} for _ in range(16)))
    endless = [Counted(Resources(workers=count, gpus_per_worker=1)) for count in range(1, 33)]
    made = scheduling.plan(
        [scheduling.Lane(resources=jobs.resources, priority=0, jobs=jobs) for jobs in endless], [], capacity, NOW
    )
    assert 96 < sum(len(a.nodes) for a in made.admit) <= 16 * 8
    assert sum(jobs.asked for jobs in endless) <= len(made.admit) + len(endless)
    assert len(made.waiting) == len(endless)
