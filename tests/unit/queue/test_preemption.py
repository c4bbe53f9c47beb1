"""Who gives way to the head: held to the rule in the module's docstring by brute force, and by the planner itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.queue import preemption, scheduling
from service.queue.jobs import Capacity, Resources
from service.queue.preemption import Holding, victims
from service.queue.turns import Queued

NOW = 1000.0
CAPACITIES = [
    Capacity(nodes=tuple({"CPU": 8.0, "GPU": gpus} for gpus in nodes))
    for nodes in ((4.0,), (2.0, 2.0), (4.0, 2.0, 0.0))
]
gangs = st.builds(
    Resources,
    workers=st.integers(1, 3),
    cpus_per_worker=st.sampled_from([0.5, 1.0, 3.0]),
    gpus_per_worker=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Capacity, list[Holding], Resources, int]:
    """A cluster on which the planner has put some gangs, of which some have ended, and a head with its priority."""
    capacity = draw(st.sampled_from(CAPACITIES))
    wanted = draw(st.lists(gangs, min_size=1, max_size=9))
    queue = [Queued(job_id=f"r{index}", resources=resources) for index, resources in enumerate(wanted)]
    holding = [
        Holding(
            job_id=admission.job_id,
            resources=queue[int(admission.job_id[1:])].resources,
            nodes=admission.nodes,
            priority=draw(st.sampled_from([-5, 0, 0, 5])),
            since=draw(st.sampled_from([1.0, 2.0, 3.0])),
            preemptible=draw(st.integers(0, 5)) > 0,
            leaving=draw(st.integers(0, 5)) == 0,
        )
        for admission in scheduling.plan(scheduling.lanes(queue), [], capacity, NOW).admit
        if draw(st.integers(0, 4)) > 0
    ]
    return capacity, holding, draw(gangs), draw(st.sampled_from([0, 5]))


def starts(capacity: Capacity, running: Sequence[Holding], head: Resources) -> bool:
    """Whether the planner starts the head beside what runs."""
    queue = scheduling.lanes([Queued(job_id="head", resources=head)])
    return bool(scheduling.plan(queue, running, capacity, NOW).admit)


def order(gang: Holding) -> tuple[int, float, str]:
    return gang.priority, -gang.since, gang.job_id


@settings(max_examples=150)
@given(situations())
def test_the_fewest_then_the_lowest_then_the_youngest_give_way_and_only_where_that_helps(
    situation: tuple[Capacity, list[Holding], Resources, int],
) -> None:
    capacity, holding, head, priority = situation
    staying = [gang for gang in holding if not gang.leaving]
    chosen = victims(head, priority, holding, capacity)
    if starts(capacity, staying, head):
        assert chosen == ()
        return
    lower = sorted((gang for gang in staying if gang.preemptible and gang.priority < priority), key=order)
    assert set(chosen) <= {gang.job_id for gang in lower}, "never an equal, nor one that may stay"
    enough = [
        tuple(lower.index(gang) for gang in some)
        for size in range(1, len(lower) + 1)
        for some in combinations(lower, size)
        if starts(capacity, [gang for gang in staying if gang not in some], head)
    ]
    if not enough:
        assert chosen == ()
        return
    best = min(enough, key=lambda indices: (len(indices), indices[::-1]))
    assert len(chosen) == len(best)
    assert chosen == tuple(lower[index].job_id for index in best)


@settings(max_examples=60)
@given(situations())
def test_where_there_are_too_many_sets_nobody_is_superfluous_and_the_head_starts(
    situation: tuple[Capacity, list[Holding], Resources, int],
) -> None:
    capacity, holding, head, priority = situation
    exact = victims(head, priority, holding, capacity)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preemption, "MOST_SETS", 0)
        chosen = victims(head, priority, holding, capacity)
    assert bool(chosen) == bool(exact)
    staying = [gang for gang in holding if not gang.leaving]
    if chosen:
        assert starts(capacity, [gang for gang in staying if gang.job_id not in chosen], head)
    for kept in chosen:
        rest = [gang for gang in staying if gang.job_id not in chosen or gang.job_id == kept]
        assert not starts(capacity, rest, head)


def running(job_id: str, workers: int, nodes: tuple[int, ...], **more: float) -> Holding:
    gang = Resources(workers=workers, cpus_per_worker=1, gpus_per_worker=1)
    return Holding(job_id=job_id, resources=gang, nodes=nodes, **more)  # type: ignore[arg-type]


def test_one_large_gang_gives_way_before_several_small_ones_and_the_young_before_the_old() -> None:
    capacity = Capacity(nodes=({"CPU": 8.0, "GPU": 8.0},))
    old, young = running("old", 2, (0, 0), since=1.0), running("young", 2, (0, 0), since=2.0)
    small = [running(f"small{i}", 1, (0,), since=3.0) for i in range(4)]
    two = Resources(workers=2, cpus_per_worker=1, gpus_per_worker=1)
    assert victims(two, 1, [old, young, *small], capacity) == ("young",)
    assert victims(two, 0, [old, young, *small], capacity) == ()  # equals
    asked = Holding(**{**young.__dict__, "leaving": True})
    assert victims(two, 1, [old, asked, *small], capacity) == ()  # room is being made already
    four = Resources(workers=4, cpus_per_worker=1, gpus_per_worker=1)
    assert victims(four, 1, [old, asked, *small], capacity) == ("old",)  # it needs two more
    gone = running("gone", 2, (3, 3))
    assert victims(Resources(workers=9, gpus_per_worker=1), 1, [old, young, *small, gone], capacity) == ()


def test_a_thousand_small_gangs_cost_little() -> None:
    """Counted, not timed: how often the head's slots on a node are counted again."""
    capacity = Capacity(nodes=tuple({"CPU": 64.0, "GPU": 8.0} for _ in range(125)))
    holding = [running(f"j{i}", 1, (i // 8,), since=float(i)) for i in range(1000)]
    whole = Resources(workers=4, cpus_per_worker=8, gpus_per_worker=8)
    counted = 0
    count = preemption.slots

    def counting(*arguments: object) -> int:
        nonlocal counted
        counted += 1
        return count(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preemption, "slots", counting)
        chosen = victims(whole, 1, holding, capacity)
    assert sorted(int(job_id[1:]) for job_id in chosen) == list(range(1000 - 32, 1000))  # four nodes, the youngest
    assert counted < 50_000
