"""Elastic gangs: how many workers the planner starts, who shrinks and who grows, held to the planner itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.queue import scheduling
from service.queue.elasticity import growing, shrinking
from service.queue.jobs import Capacity, Resources
from service.queue.preemption import Holding
from service.queue.sharing import Principal, Sharing
from service.queue.turns import Queued
from tests.unit.queue.test_preemption import CAPACITIES

NOW = 1000.0
bundles = st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.0, 0.5, 1.0]))


def gang(most: int, fewest: int | None = None, cpus: float = 1.0, gpus: float = 0.0) -> Resources:
    return Resources(workers=most, min_workers=fewest, cpus_per_worker=cpus, gpus_per_worker=gpus)


@st.composite
def gangs(draw: st.DrawFn) -> Resources:
    most, (cpus, gpus) = draw(st.integers(1, 5)), draw(bundles)
    return gang(most, draw(st.one_of(st.none(), st.integers(1, most))), cpus, gpus)


def started(
    queue: Sequence[Queued], running: Sequence[Holding], capacity: Capacity, sharing: Sharing | None = None
) -> dict[str, tuple[int, ...]]:
    rules = {} if sharing is None else {"sharing": sharing}
    made = scheduling.plan(scheduling.lanes(queue), running, capacity, NOW, **rules)
    return {admission.job_id: admission.nodes for admission in made.admit}


@st.composite
def situations(draw: st.DrawFn) -> tuple[Capacity, list[Holding]]:
    capacity = draw(st.sampled_from(CAPACITIES))
    wanted = [Queued(job_id=f"r{i}", resources=each) for i, each in enumerate(draw(st.lists(gangs(), max_size=6)))]
    holding = []
    for job_id, nodes in started(wanted, [], capacity).items():
        job = wanted[int(job_id[1:])].resources
        holding.append(
            Holding(
                job_id=job_id,
                resources=job.sized(len(nodes)),
                job=job,
                nodes=nodes,
                priority=draw(st.sampled_from([-5, 0])),
                since=draw(st.sampled_from([1.0, 2.0])),
                preemptible=draw(st.integers(0, 5)) > 0,
            )
        )
    return capacity, [each for each in holding if draw(st.integers(0, 4)) > 0]


@settings(max_examples=120)
@given(situations(), gangs())
def test_a_gang_starts_with_as_many_workers_as_there_is_room_for(
    situation: tuple[Capacity, list[Holding]], job: Resources
) -> None:
    capacity, holding = situation
    sizes = [
        size
        for size in range(job.fewest, job.workers + 1)
        if started([Queued(job_id="q", resources=job.sized(size))], holding, capacity)
    ]
    nodes = started([Queued(job_id="q", resources=job)], holding, capacity).get("q", ())
    assert len(nodes) == max(sizes, default=0)


@settings(max_examples=120)
@given(situations(), gangs(), st.lists(gangs(), max_size=3))
def test_as_the_head_an_elastic_gang_is_one_of_its_fewest_workers(
    situation: tuple[Capacity, list[Holding]], head: Resources, others: list[Resources]
) -> None:
    """So what may pass it is what may pass that one, of which the planner's own tests tell that it is not delayed."""
    capacity, holding = situation
    later = [Queued(job_id=f"q{index}", resources=each) for index, each in enumerate(others)]
    elastic = started([Queued(job_id="h", resources=head, priority=1), *later], holding, capacity)
    fewest = Queued(job_id="h", resources=head.sized(head.fewest), priority=1)
    if "h" not in elastic:
        assert elastic == started([fewest, *later], holding, capacity)


def test_quotas_bound_how_many_workers_start() -> None:
    capacity = Capacity(nodes=({"CPU": 16.0},))
    ann = Principal(kind="user", name="ann")
    rules = Sharing(quotas={ann: {"CPU": 5.0}})
    queue = [Queued(job_id=f"q{index}", resources=gang(4, 2), owner="ann") for index in range(2)]
    assert {job_id: len(nodes) for job_id, nodes in started(queue, [], capacity, rules).items()} == {"q0": 4}
    running = [Holding(job_id="r", resources=gang(2), nodes=(0, 0), owner="ann")]
    assert {job_id: len(nodes) for job_id, nodes in started(queue, running, capacity, rules).items()} == {"q0": 3}


@settings(max_examples=120)
@given(situations(), gangs())
def test_those_that_shrink_let_the_head_start_and_all_go_on(
    situation: tuple[Capacity, list[Holding]], head: Resources
) -> None:
    capacity, holding = situation
    chosen = shrinking(head, 0, holding, capacity)
    first = Queued(job_id="", resources=head, priority=5)
    if started([first], holding, capacity):
        assert chosen == ()
    some = [each for each in holding if each.job_id in chosen]
    for each in some:
        assert each.preemptible
        assert each.priority < 0
        assert each.resources.workers > each.job.fewest  # type: ignore[union-attr]
    if chosen:
        rest = [each for each in holding if each not in some]
        again = [Queued(job_id=each.job_id, resources=each.job, priority=-5) for each in some]  # type: ignore[arg-type]
        assert set(started([first, *again], rest, capacity)) == {"", *chosen}


@settings(max_examples=80)
@given(situations())
def test_who_grows_gets_more_than_it_has_where_nobody_else_loses(situation: tuple[Capacity, list[Holding]]) -> None:
    capacity, holding = situation
    could = {
        each.job_id
        for each in holding
        for other in ([one for one in holding if one is not each],)
        for nodes in started([Queued(job_id="q", resources=each.job or each.resources)], other, capacity).values()
        if len(nodes) > each.resources.workers
    }
    chosen = growing(holding, capacity)
    assert (chosen is None) == (not could)
    if chosen is not None:
        order = sorted((each for each in holding if each.job_id in could), key=lambda g: (-g.priority, g.since))
        assert chosen in could
        assert [g.priority for g in holding if g.job_id == chosen] == [order[0].priority]
        leaving = [Holding(**{**each.__dict__, "leaving": True}) for each in holding[:1]]
        assert growing([*leaving, *holding[1:]], capacity) is None


def test_a_quota_bounds_who_grows() -> None:
    """Else it would be asked again and again, for nothing."""
    capacity = Capacity(nodes=({"CPU": 8.0},))
    elastic = Holding(job_id="e", resources=gang(2), job=gang(4, 1), nodes=(0, 0), owner="ann")
    fixed = Holding(job_id="f", resources=gang(2), nodes=(0, 0), owner="ann")
    assert growing([elastic, fixed], capacity) == "e"
    for cpus, chosen in ((4.0, None), (5.0, "e")):
        quota = {Principal(kind="user", name="ann"): {"CPU": cpus}}
        assert growing([elastic, fixed], capacity, Sharing(quotas=quota)) == chosen


def test_one_that_shrinks_spares_another_that_would_be_preempted() -> None:
    capacity = Capacity(nodes=({"CPU": 6.0},))
    elastic = Holding(job_id="elastic", resources=gang(4), job=gang(4, 1), nodes=(0, 0, 0, 0), since=1.0)
    young = Holding(job_id="young", resources=gang(2), nodes=(0, 0), since=2.0)
    assert shrinking(gang(2), 1, [elastic, young], capacity) == ("elastic",)
    assert shrinking(gang(4), 1, [elastic, young], capacity) == ()  # it could not go on beside
    assert shrinking(gang(2), 0, [elastic, young], capacity) == ()  # an equal


def test_in_a_large_cluster_the_youngest_shrinks_where_it_can_go_on() -> None:
    """The planner gives the first that goes on as much as it may have: several that shrink would not all go on."""
    capacity = Capacity(nodes=tuple({"CPU": 8.0} for _ in range(125)))
    job = gang(8, 4)
    holding = [
        Holding(job_id=f"j{i:03}", resources=job.sized(8), job=job, nodes=(i,) * 8, since=float(i)) for i in range(125)
    ]
    assert shrinking(gang(4), 1, holding, capacity) == ("j124",)
    assert shrinking(gang(16), 1, holding, capacity) == ()
    assert shrinking(Resources(workers=1, cpus_per_worker=8), 1, holding, capacity) == ()


def test_how_elastic_gangs_are_written() -> None:
    whole = Resources.model_validate({"workers": {"min": 2, "max": 4}})
    assert (whole.workers, whole.min_workers, whole.fewest) == (4, 2, 2)
    assert Resources.model_validate(whole.model_dump()) == whole
    assert (whole.sized(3).workers, whole.sized(3).min_workers) == (3, None)
    assert gang(3).sized(3) == gang(3)
    for wrong, said in (
        ({"workers": {"min": 4, "max": 2}}, "min_workers: 4 is more than the 2 workers"),
        ({"workers": {"min": 4}}, "a range with both its ends"),
        ({"workers": {"min": 1, "max": 2}, "min_workers": 1}, "names it already"),
        ({"workers": {"min": 0, "max": 2}}, "greater than or equal to 1"),
    ):
        with pytest.raises(ValidationError, match=said):
            Resources.model_validate(wrong)
