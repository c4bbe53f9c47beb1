"""Days of a virtual cluster: shares by weight, quotas, and a head that starts in time. Invariants at every event.

`python -m tests.simulate` runs weeks of it.
"""

from __future__ import annotations

from random import Random
from statistics import fmean, median

import pytest

from service.queue.sharing import Principal
from tests.policies import fifo
from tests.simulate import (
    BOUNDS,
    CLASSES,
    GROUPS,
    SHAPES,
    WEIGHTS,
    a_day,
    classes,
    expected,
    shares,
    through_the_store,
    utilisation,
)
from tests.simulation import DAY, HOUR, WEEK, Arrival, Rules, World, trace

SHARES = Rules(groups=GROUPS, weights=WEIGHTS)


def test_a_weeks_shares_are_within_two_percent_of_the_weights() -> None:
    (parts,) = shares(1, 2, Random(1))
    assert {group: part for group, part in parts.items() if abs(part) > 0.02} == {}


def test_every_job_of_a_day_begins_under_shares_and_quotas() -> None:
    world, count = a_day(1, 2, Random(2))
    assert len(world.began) == count
    assert world.plans > count


def test_no_policy_passes_the_bound_and_without_shares_the_planner_is_first_come_first_served() -> None:
    policies = utilisation(1, 1, Random(3), named=["no bounds", "exact bounds"])
    bound = policies.pop("no policy passes")[0]
    assert 0.5 < bound <= 1.0
    assert {name for name, (part, _) in policies.items() if part > bound + 1e-9} == set()
    assert policies["planner, no bounds"][0] == pytest.approx(policies["FIFO"][0])
    assert policies["EASY, clairvoyant"][0] >= policies["FIFO"][0]
    assert policies["planner, exact bounds"][0] > policies["FIFO"][0] + 0.01
    waited = {name: fmean(waits) for name, (_, waits) in policies.items()}
    assert waited["planner, exact bounds"] < waited["planner, no bounds"]


def test_the_real_queue_starts_the_same_jobs_at_the_same_moments() -> None:
    ran, apart, difference = through_the_store(25, 2, Random(4))
    assert ran == 25
    assert apart < 1e-6
    assert difference < 1e-9


def test_a_large_gang_of_a_small_group_starts_beside_a_flood_of_small_ones() -> None:
    """Nobody starves: shares change all the time, and who is first stays first."""
    world = World(2, Rules(groups=GROUPS, weights=WEIGHTS, quotas={Principal(kind="user", name="large-0"): 8.0}))
    flood = trace(Random(5), ["large-0", "large-1", "middle-0"], seconds=2 * DAY, gpus=8, load=3.0)
    whale = Arrival(at=HOUR, job_id="j0000000-whale", user="small-0", gpus=16, seconds=HOUR)
    arrivals = sorted([*flood, whale], key=lambda arrival: arrival.at)
    world.run(arrivals, 2 * DAY)
    assert whale.job_id in world.began
    assert world.waiting > 0


@pytest.mark.parametrize("rules", [None, SHARES], ids=["by age", "by shares"])
@pytest.mark.parametrize("bounds", ["bounds of 1-3 times", "1-3 times, half"])
def test_with_bounds_and_preemption_together_the_head_starts_in_time_and_everything_adds_up(
    rules: Rules | None, bounds: str
) -> None:
    """Checked at every event: nobody passes into the room that is made, and a reservation is never put off."""
    world = classes(0.2, 2, Random(3), rules=rules, bounds=BOUNDS[bounds])
    assert world.preemption is not None
    assert sum(account.preempted for account in world.preemption.accounts.values()) > 10
    assert rules is not None or world.passed > 10


@pytest.mark.parametrize("rules", [None, SHARES], ids=["by age", "by shares"])
def test_higher_classes_wait_less_where_they_preempt_and_everything_ends_and_adds_up(rules: Rules | None) -> None:
    """`World` and `Preemption` check every event: who is asked, when they leave, when the head starts, what is lost."""
    with_it, without = (classes(0.3, 2, Random(1), preempts=preempts, rules=rules) for preempts in (True, False))
    assert with_it.preemption is not None
    accounts = with_it.preemption.accounts.values()
    assert min(sum(a.preempted for a in accounts), sum(a.resized for a in accounts), with_it.preemption.killed) > 0
    assert sum(account.lost for account in accounts) < 0.03 * sum(account.held for account in accounts)
    waits = [
        fmean(began.at - began.arrival.at for began in world.began.values() if began.arrival.priority == max(CLASSES))
        for world in (with_it, without)
    ]
    assert waits[0] < waits[1] / 2


def test_jobs_start_within_the_ranges_that_they_were_told() -> None:
    """Four times of five and more, by far: half a week of one node, from a start at which nothing is known."""
    world, expectations = expected(0.5, 1, Random(7), load=0.9, shared=True)
    first, later = expectations.within(world)
    assert len(first) > 100
    for outcomes in (first, later):
        assert sum(bool(outcome.within) for outcome in outcomes) / len(outcomes) >= 0.75
    assert sum(outcome.told[1] < 3600 for outcome in later) > len(later) / 20  # and they say something


@pytest.mark.parametrize(
    ("shape", "gpus", "middle", "mean", "gang"),
    [("Helios", 64, 206.0, 5084.0, 3.716), ("Philly", 256, 874.0, 18_006.0, 1.928)],  # of Helios at most a week
)
def test_a_published_shape_has_its_times_and_its_average_gang(
    shape: str, gpus: int, middle: float, mean: float, gang: float
) -> None:
    arrivals = SHAPES[shape].trace(Random(0), seconds=40 * WEEK, gpus=gpus, load=0.5)
    times = [arrival.seconds for arrival in arrivals]
    assert (median(times), fmean(times)) == (pytest.approx(middle, rel=0.1), pytest.approx(mean, rel=0.1))
    assert fmean(arrival.gpus for arrival in arrivals) == pytest.approx(gang, rel=0.05)


def test_a_queue_in_order_is_served_in_order() -> None:
    arrivals = [Arrival(at=float(i), job_id=f"j{i}", user="ann", gpus=4, seconds=10.0) for i in range(4)]
    assert [began.at for began in fifo(arrivals, 8)] == [0.0, 1.0, 10.0, 11.0]
