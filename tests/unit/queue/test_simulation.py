"""Days of a virtual cluster: shares by weight, quotas, and a head that starts in time. Invariants at every event.

`python -m tests.simulate` runs weeks of it.
"""

from __future__ import annotations

from random import Random
from statistics import fmean, median

import pytest

from service.queue.sharing import Principal
from tests.simulate import GROUPS, WEIGHTS, a_day, expected, published, shares, through_the_store, utilisation
from tests.simulation import DAY, HOUR, WEEK, Arrival, Rules, World, fifo, trace


def test_a_weeks_shares_are_within_two_percent_of_the_weights() -> None:
    (parts,) = shares(1, 2, Random(1))
    assert {group: part for group, part in parts.items() if abs(part) > 0.02} == {}


def test_every_job_of_a_day_begins_under_shares_and_quotas() -> None:
    world, count = a_day(1, 2, Random(2))
    assert len(world.began) == count
    assert world.plans > count


def test_no_policy_passes_the_bound_and_without_shares_the_planner_is_first_come_first_served() -> None:
    found = utilisation(1, 1, Random(3))
    bound = found.pop("no policy passes")[0]
    assert 0.5 < bound <= 1.0
    assert {name for name, (part, _) in found.items() if part > bound + 1e-9} == set()
    assert found["the planner"][0] == pytest.approx(found["FIFO"][0])
    assert found["EASY, clairvoyant"][0] >= found["FIFO"][0]


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


def test_jobs_start_within_the_ranges_that_they_were_told() -> None:
    """Four times of five and more, by far: half a week of one node, from a start at which nothing is known."""
    world, expectations = expected(0.5, 1, Random(7), load=0.9, shared=True)
    first, later = expectations.within(world)
    assert len(first) > 100
    for outcomes in (first, later):
        assert sum(bool(outcome.within) for outcome in outcomes) / len(outcomes) >= 0.75
    assert sum(outcome.told[1] < 3600 for outcome in later) > len(later) / 10  # and they say something


def test_a_published_shape_has_its_median_and_its_average_gang() -> None:
    arrivals = published(Random(0), seconds=100 * WEEK, gpus=64, load=0.5)
    assert median(arrival.seconds for arrival in arrivals) == pytest.approx(206.0, rel=0.1)
    assert fmean(arrival.gpus for arrival in arrivals) == pytest.approx(3.72, rel=0.05)


def test_a_queue_in_order_is_served_in_order() -> None:
    arrivals = [Arrival(at=float(i), job_id=f"j{i}", user="ann", gpus=4, seconds=10.0) for i in range(4)]
    assert [began.at for began in fifo(arrivals, 8)] == [0.0, 1.0, 10.0, 11.0]
