"""Shares and quotas: the plan is that of a slow reference, quotas hold, and the head keeps what it was promised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.queue import scheduling, sharing
from service.queue.jobs import Capacity, Resources
from service.queue.scheduling import Plan, Queued, Running
from service.queue.sharing import HALF_LIFE_SECONDS, Principal, Sharing, used
from tests import reference_plan

NOW = 1000.0
USERS = ("ann", "bob", "cyd", "dan")
GROUPS = {"ann": "red", "bob": "red", "cyd": "blue"}

capacities = st.lists(
    st.fixed_dictionaries({"CPU": st.sampled_from([2.0, 4.0, 8.0]), "GPU": st.sampled_from([2.0, 4.0])}),
    min_size=1,
    max_size=3,
).map(lambda nodes: Capacity(nodes=tuple(nodes)))
gangs = st.builds(
    Resources,
    workers=st.integers(1, 3),
    cpus_per_worker=st.sampled_from([0.5, 1.0, 2.0]),
    gpus_per_worker=st.sampled_from([0.0, 1.0, 1.0]),
)
amounts = st.dictionaries(st.sampled_from(["GPU", "CPU"]), st.sampled_from([0.0, 1.0, 2.0, 3.0, 6.0]), min_size=1)
seconds = st.sampled_from([0.0, 0.0, 1.0, 3600.0, 1e6])


@st.composite
def sharings(draw: st.DrawFn) -> Sharing:
    principals = [Principal(kind="user", name=user) for user in USERS]
    principals += [Principal(kind="group", name=group) for group in ("red", "blue")]
    grouped = draw(st.booleans())
    pairs = [(GROUPS.get(user, ""), user) for user in USERS]
    return Sharing(
        groups=GROUPS if grouped else {},
        weights={"red": draw(st.sampled_from([1.0, 2.0])), "blue": 1.0} if grouped else {},
        usage={pair: draw(seconds) for pair in pairs} if grouped else {},
        quotas={whose: draw(amounts) for whose in principals if draw(st.booleans())},
        every_user=draw(amounts) if draw(st.booleans()) else {},
        unit=draw(st.sampled_from(["GPU", "CPU"])),
        used_up={whose: "full" for whose in principals if draw(st.integers(0, 9)) == 0},
    )


@st.composite
def lines(draw: st.DrawFn, prefix: str = "q", max_size: int = 10) -> list[Queued]:
    kinds = draw(st.lists(gangs, min_size=1, max_size=3))
    numbers = st.integers(0, 7)
    each = st.tuples(st.sampled_from(kinds), st.sampled_from([0, 0, 0, 5]), st.sampled_from(USERS), numbers, numbers)
    return [
        Queued(
            job_id=f"{prefix}{i}",
            resources=r,
            priority=p,
            owner=who,
            not_before=NOW + 9 if late == 0 else 0.0,
            begun=begun == 0,
        )
        for i, (r, p, who, late, begun) in enumerate(draw(st.lists(each, min_size=max_size // 2, max_size=max_size)))
    ]


@st.composite
def situations(draw: st.DrawFn) -> tuple[Capacity, list[Running], list[Queued], Sharing, Queued | None]:
    capacity, rules = draw(capacities), draw(sharings())
    before = draw(lines(prefix="r", max_size=5))
    running = started(scheduling.plan(scheduling.lanes(before), [], capacity, NOW + 99, sharing=rules), before)
    running = [gang for gang in running if draw(st.booleans())]
    queue = draw(lines())
    return capacity, running, queue, rules, draw(st.sampled_from([None, *queue]))


Situation = tuple[Capacity, list[Running], list[Queued], Sharing, Queued | None]


def started(made: Plan, queue: Sequence[Queued]) -> list[Running]:
    jobs = {job.job_id: job for job in queue}
    return [
        Running(job_id=a.job_id, resources=jobs[a.job_id].resources, nodes=a.nodes, owner=jobs[a.job_id].owner)
        for a in made.admit
    ]


def plan(situation: Situation, queue: Sequence[Queued] | None = None) -> Plan:
    capacity, running, line, rules, last = situation
    first = None if last is None else scheduling.lanes([last])[0].name
    lanes = scheduling.lanes(line if queue is None else queue)
    return scheduling.plan(lanes, running, capacity, NOW, sharing=rules, first=first)


def held_by(rules: Sharing, gangs: Sequence[Running], whose: Principal, name: str) -> float:
    return sum(
        gang.resources.total().get(name, 0.0)
        for gang in gangs
        if (whose.name == gang.owner if whose.kind == "user" else whose.name == rules.groups.get(gang.owner))
    )


def bounds(rules: Sharing, owner: str) -> list[tuple[Principal, str, float]]:
    own, group = Principal(kind="user", name=owner), Principal(kind="group", name=rules.groups.get(owner, ""))
    quotas = [(own, rules.quotas.get(own, rules.every_user)), (group, rules.quotas.get(group, {}))]
    return [(whose, name, most) for whose, quota in quotas for name, most in quota.items()]


@given(situations())
@settings(max_examples=300, deadline=None)
def test_the_plan_is_that_of_the_reference_with_shares_and_quotas(situation: Situation) -> None:
    capacity, running, queue, rules, last = situation
    made = plan(situation)
    first = None if last is None else (last.priority, last.owner, last.resources, None, last.begun)
    slow = reference_plan.shared_plan(queue, running, capacity, NOW, sharing=rules, first=first)
    assert [(a.job_id, a.nodes) for a in made.admit] == [(a.job_id, a.nodes) for a in slow.admit]
    assert made.head == slow.head
    lanes = {job.job_id: scheduling.lanes([job])[0].name for job in queue}
    assert {lane: (why.principal, why.resource) for lane, why in made.held.items()} == {
        lanes[job_id]: quota for job_id, quota in slow.quotas.items()
    }


@given(situations())
def test_nobody_is_given_more_than_their_quota(situation: Situation) -> None:
    _, running, queue, rules, _ = situation
    new = started(plan(situation), queue)
    for gang in new:
        for whose, name, most in bounds(rules, gang.owner):
            asks = gang.resources.total().get(name, 0.0)
            assert not asks or held_by(rules, [*running, *new], whose, name) <= most + 1e-9


@given(situations())
def test_who_passes_the_head_takes_nothing_of_its_quotas(situation: Situation) -> None:
    """Whatever ends in whatever order, the head fits into its quotas with those who passed it as without them."""
    _, running, queue, rules, _ = situation
    made = plan(situation)
    if made.head is None:
        return
    head = next(job for job in queue if job.job_id == made.head)
    new = started(made, queue)
    limits = bounds(rules, head.owner)
    for count in range(len(running) + 1):
        for left in combinations(running, count):
            for whose, name, most in limits:
                asks = head.resources.total().get(name, 0.0)
                assert not asks or held_by(rules, [*left, *new], whose, name) + asks <= most + 1e-9


@given(situations())
def test_the_head_of_the_plan_before_is_the_first_of_its_priority(situation: Situation) -> None:
    """Shares change from plan to plan; what was promised to the head does not."""
    capacity, running, queue, rules, _ = situation
    made = plan((capacity, running, queue, rules, None))
    if made.head is None:
        return
    head = next(job for job in queue if job.job_id == made.head)
    begun = {admission.job_id for admission in made.admit}
    left = [job for job in queue if job.job_id not in begun]
    now_running = [*running, *started(made, queue)]
    poor = Sharing(  # its group has used more than anybody meanwhile
        groups=rules.groups,
        weights=rules.weights,
        usage={pair: 1e12 if pair[0] == rules.group(head.owner) else 0.0 for pair in rules.usage},
        quotas=rules.quotas,
        every_user=rules.every_user,
        used_up=rules.used_up,
    )
    again = plan((capacity, now_running, left, poor, head))
    assert again.head == head.job_id


def gpu(count: int = 1) -> Resources:
    return Resources(workers=count, gpus_per_worker=1, cpus_per_worker=1)


def test_what_is_given_counts_at_once() -> None:
    """Eight free GPUs of a cluster go by weight, not all to the group that is a second behind."""
    capacity = Capacity(nodes=({"CPU": 8.0, "GPU": 8.0},))
    queue = [Queued(job_id=f"a{i:02}", resources=gpu(), owner="ann") for i in range(20)]
    queue += [Queued(job_id=f"b{i:02}", resources=gpu(), owner="cyd") for i in range(20)]
    rules = Sharing(groups=GROUPS, weights={"red": 3.0, "blue": 1.0}, usage={("blue", "cyd"): 1.0})
    made = scheduling.plan(scheduling.lanes(queue), [], capacity, NOW, sharing=rules)
    assert sorted(a.job_id[0] for a in made.admit) == ["a"] * 6 + ["b"] * 2


def test_without_groups_the_line_is_by_age_whatever_was_used() -> None:
    queue = [Queued(job_id=f"j{i}", resources=gpu(), owner="ann" if i < 3 else "bob") for i in range(6)]
    rules = Sharing(usage={("", "ann"): 1e9})
    made = scheduling.plan(scheduling.lanes(queue), [], Capacity(nodes=({"CPU": 4.0, "GPU": 4.0},)), NOW, sharing=rules)
    assert [a.job_id for a in made.admit] == ["j0", "j1", "j2", "j3"]


def test_the_first_that_a_quota_holds_back_is_not_passed_there_and_nothing_else_waits_for_it() -> None:
    capacity = Capacity(nodes=({"CPU": 16.0, "GPU": 8.0},))
    running = [Running(job_id="r", resources=gpu(3), nodes=(0, 0, 0), owner="ann")]
    queue = [
        Queued(job_id="a", resources=gpu(2), owner="ann"),
        Queued(job_id="b", resources=gpu(1), owner="ann"),  # would fit into the quota, and keep a out of it
        Queued(job_id="c", resources=Resources(cpus_per_worker=1), owner="ann"),  # no GPU: the quota does not count it
        Queued(job_id="d", resources=gpu(5), owner="bob"),
        Queued(job_id="e", resources=gpu(9), owner="ann"),
    ]
    rules = Sharing(quotas={Principal(kind="user", name="ann"): {"GPU": 4.0}})
    most = Capacity(nodes=(*capacity.nodes, *capacity.nodes))
    made = scheduling.plan(scheduling.lanes(queue), running, capacity, NOW, most=most, sharing=rules)
    assert [a.job_id for a in made.admit] == ["c", "d"]
    assert made.head is None
    (why,) = {str(reason) for lane, reason in made.held.items() if "workers=2" in lane}
    assert why == (
        "asks for 2 GPUs; the quota of user ann is 4 GPUs at a time, and 3 are held or kept for earlier jobs of it. It "
        "starts when some of these have ended; or an administrator can raise it: vaesvc quota set user ann --gpus N"
    )


def test_a_job_beyond_its_quota_keeps_nobody_waiting() -> None:
    capacity = Capacity(nodes=({"CPU": 16.0, "GPU": 8.0},))
    queue = [Queued(job_id=name, resources=gpu(count), owner="ann") for name, count in (("a", 6), ("b", 3))]
    rules = Sharing(every_user={"GPU": 4.0})
    made = scheduling.plan(scheduling.lanes(queue), [], capacity, NOW, sharing=rules)
    assert [a.job_id for a in made.admit] == ["b"]
    assert [(why.never, "cannot start. Ask for less" in str(why)) for why in made.held.values()] == [(True, True)]


@given(st.floats(0, 4e6), st.floats(0, 4e6), st.floats(0, 4e6))
def test_usage_is_the_integral_of_what_was_held(begin: float, length: float, since: float) -> None:
    end, now = begin + length, begin + length + since
    steps = 2000
    width = length / steps
    integral = sum(2 ** (-(now - (begin + (i + 0.5) * width)) / HALF_LIFE_SECONDS) * width for i in range(steps))
    assert used(begin, end, now) == pytest.approx(integral, rel=1e-6, abs=1e-6)
    half = (begin + end) / 2
    assert used(begin, half, now) + used(half, end, now) == pytest.approx(used(begin, end, now), rel=1e-9, abs=1e-3)
    assert sharing.decay(since) * used(begin, end, end) == pytest.approx(used(begin, end, now), rel=1e-9, abs=1e-3)


def test_after_a_half_life_half_is_left() -> None:
    assert used(0, 1, 1 + HALF_LIFE_SECONDS) == pytest.approx(used(0, 1, 1) / 2)
    assert math.isclose(used(0, 1, 1), 1, rel_tol=1e-6)
