"""How long jobs take, where some of them run still: the product-limit estimate."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.queue.history import OUTLIVED, POINTS, equally_likely, survival


def test_the_product_limit_estimate_of_a_small_example() -> None:
    """Two of five are not over: each counts for as long as it was seen."""
    known = [(1.0, False), (3.0, True), (5.0, False), (7.0, True), (9.0, False)]
    assert survival(known) == [(1.0, pytest.approx(4 / 5)), (5.0, pytest.approx(4 / 5 * 2 / 3)), (9.0, 0.0)]


observations = st.lists(st.tuples(st.floats(1.0, 1e6), st.booleans()), max_size=40)


@given(observations)
def test_it_only_falls_and_is_that_of_counting_where_everything_is_over(known: list[tuple[float, bool]]) -> None:
    steps = survival(known)
    assert [value for value, _ in steps] == sorted(value for value, more in known if not more)
    left = [1.0, *(each for _, each in steps)]
    assert all(0.0 <= after <= before + 1e-12 for before, after in pairwise(left))
    over = [(value, False) for value, _ in known]
    for index, (_, each) in enumerate(survival(over), start=1):
        assert each == pytest.approx(1.0 - index / len(over), abs=1e-9)


@given(observations)
def test_times_are_those_that_were_over_or_longer_than_all(known: list[tuple[float, bool]]) -> None:
    times = equally_likely(known)
    over = sorted(value for value, more in known if not more)
    if len(over) == len(known):
        assert list(times) == over
        return
    assert len(times) == (min(POINTS, len(known)) if over else 0)  # as many as is known of them
    assert list(times) == sorted(times)
    longest = max(10.0, *(value for value, _ in known))
    assert set(times) <= {*over, *(longest * (1.0 + part) for part in OUTLIVED)}


def test_what_runs_still_makes_up_for_those_that_are_over_early() -> None:
    """Exponential times of mean 100, each watched for a time drawn from 0 to 200."""
    random = Random(1)
    drawn = [(random.expovariate(1 / 100.0), 200.0 * random.random()) for _ in range(1000)]
    known = [(min(time, watched), watched < time) for time, watched in drawn]
    assert median(equally_likely(known)) == pytest.approx(69.3, rel=0.1)
    assert median(value for value, more in known if not more) < 50.0  # what those alone say that are over
