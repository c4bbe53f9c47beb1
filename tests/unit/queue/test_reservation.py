"""Backfill by bounds: the reference's plan, and a head that starts when it was promised to, whatever ends earlier."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from service.queue import scheduling
from service.queue.jobs import Capacity, Resources
from service.queue.reservation import ENDS_SECONDS, START_SECONDS, bound_class, ends, longest
from service.queue.scheduling import Plan, Queued, Running
from service.queue.sharing import NOBODY, Sharing
from tests import reference_plan
from tests.unit.queue.test_sharing import NOW, Situation, situations, started

bounds = st.none() | st.integers(1, 40).map(lambda hundreds: 100.0 * hundreds)
untils = st.none() | st.integers(1, 50).map(lambda hundreds: NOW + 100.0 * hundreds)


@st.composite
def bounded(draw: st.DrawFn) -> Situation:
    """A situation in which most is bounded in time; some gangs are on nodes that are gone."""
    capacity, running, queue, rules, _ = draw(situations())
    running = [replace(gang, until=draw(untils)) for gang in running]
    if draw(st.integers(0, 5)) == 0:
        running = [replace(gang, nodes=()) if draw(st.booleans()) else gang for gang in running]
    queue = [replace(job, seconds=draw(bounds)) for job in queue]
    return capacity, running, queue, rules, draw(st.sampled_from([None, *queue]))


@st.composite
def of_gpus(draw: st.DrawFn) -> tuple[Capacity, list[Running], list[Queued]]:
    """A cluster of GPUs that is nearly full, and a line that begins with a large gang."""
    capacity = Capacity(nodes=ONE.nodes * draw(st.integers(1, 3)))
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=8))
    before = [Queued(job_id=f"r{index}", resources=gpu(size)) for index, size in enumerate(sizes)]
    running = started(scheduling.plan(scheduling.lanes(before), [], capacity, NOW), before)
    running = [replace(gang, until=draw(untils)) for gang in running if draw(st.integers(0, 3)) > 0]
    large = draw(st.integers(2, 4 * len(capacity.nodes)))
    others = draw(st.lists(st.tuples(st.integers(1, 3), bounds), min_size=2, max_size=6))
    line = [
        Queued(job_id=f"q{index}", resources=gpu(n), seconds=s) for index, (n, s) in enumerate([(large, None), *others])
    ]
    return capacity, running, line


def gpu(workers: int) -> Resources:
    return Resources(workers=workers, gpus_per_worker=1)


ONE = Capacity(nodes=({"CPU": 8.0, "GPU": 4.0},))


@st.composite
def whole(draw: st.DrawFn) -> Situation:
    """The same of whole GPUs, where bounds decide more often."""
    capacity, running, line = draw(of_gpus())
    return capacity, running, line, NOBODY, None


def plan(queue: list[Queued], running: list[Running], capacity: Capacity, now: float, rules: Sharing = NOBODY) -> Plan:
    return scheduling.plan(scheduling.lanes(queue), running, capacity, now, sharing=rules)


@given(st.one_of(bounded(), whole()))
@settings(max_examples=300, deadline=None)
def test_the_plan_is_that_of_the_reference_with_bounds_shares_and_quotas(situation: Situation) -> None:
    capacity, running, queue, rules, last = situation
    first = None if last is None else scheduling.lanes([last])[0].name
    made = scheduling.plan(scheduling.lanes(queue), running, capacity, NOW, sharing=rules, first=first)
    lane = None if last is None else (last.priority, last.owner, last.resources, reference_plan.bound(last), last.begun)
    slow = reference_plan.shared_plan(queue, running, capacity, NOW, sharing=rules, first=lane)
    assert [(a.job_id, a.nodes) for a in made.admit] == [(a.job_id, a.nodes) for a in slow.admit]
    assert (made.head, made.reserved) == (slow.head, slow.reserved)


@given(st.one_of(of_gpus(), of_gpus(), bounded()), st.data())
@settings(max_examples=150, deadline=None)
def test_the_head_starts_by_its_reservation_whatever_ends_earlier_and_whoever_comes_behind(
    situation: tuple[Any, ...], data: st.DataObject
) -> None:
    """What is bounded ends by its bound, at moments drawn by chance; what is not, never. At each a new plan is made."""
    capacity, running, queue, *_ = situation
    queue = [replace(job, owner="", priority=0, not_before=0.0) for job in queue]
    now, made = NOW, plan(queue, running, capacity, NOW)
    assume(made.reserved is not None)
    head, promised = made.head, made.reserved
    assert promised is not None
    jobs = {job.job_id: job for job in queue}
    sizes = data.draw(st.lists(st.tuples(st.integers(1, 4), bounds), max_size=4))
    arrivals = [Queued(job_id=f"z{i}", resources=gpu(n), seconds=seconds) for i, (n, seconds) in enumerate(sizes)]
    while True:
        for gang in started(made, queue):
            seconds = jobs[gang.job_id].seconds
            running.append(replace(gang, until=None if seconds is None else ends(now, seconds)))
            queue = [job for job in queue if job.job_id != gang.job_id]
        if all(job.job_id != head for job in queue):
            break
        assert made.head == head
        assert made.reserved is not None
        assert made.reserved <= promised, "a later plan reserves no later"
        promised = made.reserved
        assert now < promised, "it starts by its reservation"
        leaving = sorted((gang.until, gang.job_id) for gang in running if gang.until is not None)
        until, job_id = leaving[0] if data.draw(st.booleans()) else data.draw(st.sampled_from(leaving))
        next_now = min(until, leaving[0][0])
        now = max(now, next_now if data.draw(st.booleans()) else now + (next_now - now) / 2)
        gone = {gang.job_id for gang in running if gang.until is not None and gang.until <= now} | {job_id}
        running = [gang for gang in running if gang.job_id not in gone]
        if arrivals and data.draw(st.booleans()):
            queue.append(arrivals.pop())
            jobs[queue[-1].job_id] = queue[-1]
        made = plan(queue, running, capacity, now)


@given(st.floats(0.01, 1e9))
@example(1.0)
@example(2.0**0.25)
def test_a_class_has_a_bound_that_is_no_shorter_and_seldom_much_longer(seconds: float) -> None:
    bound = longest(bound_class(seconds))
    assert bound >= seconds
    assert bound <= max(1.0, seconds * 2.0**0.25 * (1 + 1e-12))


def test_who_ends_before_the_head_could_start_goes_first_and_who_might_not_waits() -> None:
    running = [Running(job_id="r", resources=gpu(3), nodes=(0, 0, 0), until=NOW + 4000.0)]
    head = Queued(job_id="a", resources=gpu(4))
    short, long, endless = (
        Queued(job_id=name, resources=gpu(1), seconds=seconds)
        for name, seconds in (("b", 3000.0), ("c", 4000.0), ("d", None))
    )
    made = plan([head, long, endless], running, ONE, NOW)
    assert (made.admit, made.head, made.reserved) == ((), "a", NOW + 4000.0)
    assert [a.job_id for a in plan([head, long, endless, short], running, ONE, NOW).admit] == ["b"]
    nobody_knows = [replace(running[0], until=None)]
    assert plan([head, short], nobody_knows, ONE, NOW).admit == ()
    assert plan([head, short], nobody_knows, ONE, NOW).reserved is None


def test_what_the_head_leaves_over_at_its_reservation_is_for_anybody() -> None:
    two = Capacity(nodes=ONE.nodes * 2)
    running = [Running(job_id="r", resources=gpu(4), nodes=(0,) * 4, until=NOW + 4000.0)]
    running += [Running(job_id="s", resources=gpu(3), nodes=(1,) * 3)]
    head, endless = Queued(job_id="a", resources=gpu(3)), Queued(job_id="d", resources=gpu(1))
    made = plan([head, endless], running, two, NOW)
    assert [(a.job_id, a.nodes) for a in made.admit] == [("d", (1,))]  # of four that are free then the head needs three
    assert plan([replace(head, resources=gpu(5)), endless], running, two, NOW).admit == ()
    two_left = [running[0], replace(running[1], resources=gpu(2), nodes=(1, 1))]
    line = [replace(head, resources=gpu(5)), endless, replace(endless, job_id="e")]
    assert [a.job_id for a in plan(line, two_left, two, NOW).admit] == ["d"]  # six are free then: one is left over


def test_the_bound_counts_with_the_time_to_start_and_to_end() -> None:
    assert ends(10.0, 60.0) == 70.0 + START_SECONDS + ENDS_SECONDS
