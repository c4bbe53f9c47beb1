"""When what waits is expected to start: exact where times are, calibrated where they are not."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.queue import forecast, scheduling
from service.queue.expected import thinned
from service.queue.forecast import Calibration, Going, Outcome, Turn
from service.queue.history import GRAIN_SECONDS, UNKNOWN, History, Past
from service.queue.jobs import Capacity, Resources
from service.queue.sharing import NOBODY, Principal, Sharing
from service.queue.turns import Queued

CLUSTER = Capacity(nodes=({"CPU": 8.0, "GPU": 4.0},) * 2)


def gang(workers: int) -> Resources:
    return Resources(workers=workers, gpus_per_worker=1)


def turn(job_id: str, workers: int, seconds: float, owner: str = "ann", not_before: float = 0.0) -> Turn:
    return Turn(
        job_id=job_id, lane="", owner=owner, resources=gang(workers), times=(seconds,), not_before=not_before
    )  # fmt: skip


def starts(turns: list[Turn], running: list[Going], sharing: Sharing = NOBODY, now: float = 0.0) -> list[float]:
    """Where every time is known there is one future."""
    ranges = forecast.guess(turns, running, CLUSTER, now, Random(0), sharing)
    assert all(early == late for early, late in ranges)
    return [early for early, _ in ranges]


def test_starts_are_exact_where_times_are_known() -> None:
    running = [Going(owner="bob", resources=gang(n), left=(left,)) for n, left in ((4, 100.0), (3, 50.0))]
    line = [turn("a", 1, 30.0), turn("b", 2, 10.0), turn("c", 8, 5.0), turn("d", 1, 5.0)]
    # one is free now; the three that end at 50 let b start; c needs everything; d does not pass it
    assert starts(line, running) == [0.0, 50.0, 100.0, 105.0]


def test_a_job_that_backs_off_or_is_held_back_by_a_quota_leaves_the_rest_to_others() -> None:
    quotas = Sharing(quotas={Principal(kind="user", name="cyd"): {"GPU": 2.0}})
    line = [
        turn("a", 2, 60.0, "cyd"), turn("b", 2, 60.0, "cyd"), turn("c", 2, 10.0, "cyd"), turn("d", 4, 20.0),
        turn("e", 2, 20.0, not_before=1030.0), turn("f", 4, 20.0),
    ]  # fmt: skip
    assert starts(line, [], quotas, now=1000.0) == [0.0, 60.0, 120.0, 0.0, 30.0, 20.0]


def test_times_are_those_of_jobs_that_are_most_alike() -> None:
    past = [Past(owner="ann", resources=gang(1), seconds=s) for s in range(10, 20)]
    past += [Past(owner="ann", resources=gang(2), seconds=100.0), Past(owner="bob", resources=gang(1), seconds=7.0)]
    history = History(past)
    assert list(history.times("ann", gang(1))) == list(range(10, 20))
    assert list(history.times("ann", gang(2))) == [*range(10, 20), 100.0]  # too few of two: all of ann's
    assert list(history.times("cyd", gang(1))) == [7.0, *range(10, 20), 100.0]
    assert list(history.left("ann", gang(1), 17.0)) == [1.0, 2.0]
    assert min(history.left("ann", gang(1), 1000.0)) > 0.0  # longer than anything before
    assert list(History([]).times("ann", gang(1))) == list(UNKNOWN)


def test_the_order_is_that_of_the_shares_charged_with_what_jobs_are_expected_to_take() -> None:
    """Twice the weight, and jobs of half the time: four of them for each of the others."""
    groups = {"ann": "one", "bob": "two"}
    rules = Sharing(groups=groups, weights={"one": 1.0, "two": 2.0})
    history = History([Past(owner=o, resources=gang(4), seconds=s) for o, s in (("ann", 80.0), ("bob", 40.0)) * 8])
    queue = [Queued(job_id=f"{o[0]}{i:02}", resources=gang(4), owner=o) for i in range(20) for o in ("ann", "bob")]
    lanes = forecast.startable(scheduling.lanes(queue), CLUSTER, rules)
    order = "".join(turn.job_id[0] for turn in forecast.in_order(lanes, [], history, rules)[:25])
    assert order.count("b") == 20


def test_what_cannot_start_is_left_out() -> None:
    rules = Sharing(every_user={"GPU": 2.0})
    queue = [Queued(job_id=str(n), resources=gang(n), owner="ann") for n in (1, 2, 3, 9)]
    lanes = scheduling.lanes(queue)
    assert [lane.resources.workers for lane in forecast.startable(lanes, CLUSTER, rules)] == [1, 2]
    assert [lane.resources.workers for lane in forecast.startable(lanes, CLUSTER, NOBODY)] == [1, 2, 3]


def test_an_elastic_gang_starts_when_its_fewest_workers_fit() -> None:
    elastic = Resources(workers=8, min_workers=2, gpus_per_worker=1)
    lanes = scheduling.lanes([Queued(job_id="a", resources=elastic)])
    (first,) = forecast.in_order(forecast.startable(lanes, CLUSTER, NOBODY), [], History([]), NOBODY)
    running = [Going(owner="", resources=gang(6), left=(100.0,))]
    assert forecast.guess([first], running, CLUSTER, 0.0, Random(0)) == [(0.0, 0.0)]


lines = st.lists(st.tuples(st.integers(1, 8), st.floats(1.0, 1000.0)), min_size=1, max_size=12)


@given(jobs=lines, going=st.lists(st.tuples(st.integers(1, 4), st.floats(1.0, 1000.0)), max_size=2))
def test_nothing_is_given_out_twice_and_nobody_passes(
    jobs: list[tuple[int, float]], going: list[tuple[int, float]]
) -> None:
    turns = [turn(str(i), workers, seconds) for i, (workers, seconds) in enumerate(jobs)]
    running = [Going(owner="", resources=gang(n), left=(left,)) for n, left in going]
    begun = starts(turns, running)
    assert begun == sorted(begun)
    held = [(0.0, left, n) for n, left in going]
    held += [(at, at + seconds, workers) for at, (workers, seconds) in zip(begun, jobs, strict=True)]
    for at in begun:
        assert sum(n for begin, end, n in held if begin <= at < end) <= 8
    ends = {end for _, end, _ in held}
    assert all(at == 0.0 or at in ends for at in begun)  # each starts when something ends


MOMENTS = itertools.count(0, 1_000_000)  # seconds: longer than any waits here


def outcome(waited: float, early: float, late: float, over: bool = True, made_at: float | None = None) -> Outcome:
    """A guess and what came of it; made_at: None: when those before it had started."""
    at = next(MOMENTS) if made_at is None else made_at
    return Outcome(made_at=at, guess=(early, late), told=(early, late), waited=waited, over=over)


@given(seed=st.integers(0, 1000), early=st.floats(0.3, 1.5), late=st.floats(0.5, 3.0))
def test_calibrated_ranges_hold_as_often_as_they_should_whatever_the_guess(
    seed: int, early: float, late: float
) -> None:
    """Guesses that are off by a factor; waits that spread by another: exchangeable, so the interval covers."""
    random = Random(seed)

    def one() -> Outcome:
        expected = random.uniform(600.0, 3000.0)
        return outcome(expected * random.lognormvariate(0.5, 1.0), expected * early, expected * early * (1 + late))

    calibration = Calibration.of([one() for _ in range(400)])
    held = 0
    for _ in range(400):
        new = one()
        low, high = calibration.told(new.guess)
        held += low <= new.waited <= high
    assert held / 400 >= 0.8


def test_far_guesses_are_calibrated_apart_from_near_ones() -> None:
    near = [outcome(40.0, 20.0, 40.0) for _ in range(forecast.FEWEST)]
    far = [outcome(20_000.0, 5000.0, 10_000.0) for _ in range(forecast.FEWEST)]
    calibration = Calibration.of([*near, *far])
    assert calibration.told((20.0, 40.0)) == pytest.approx((20.0, 40.0))  # never narrower
    low, high = calibration.told((5000.0, 10_000.0))
    assert (low, high) == pytest.approx((5000.0, 20_000.0))
    assert calibration.told((100_000.0, 100_000.0))[1] > 150_000.0  # none so far: of all together


def test_jobs_that_wait_together_are_wrong_together() -> None:
    """Of one of fifty the guess was far too late, of one far too early: at one time of so many."""

    def waits(times: int) -> list[Outcome]:
        others = [700.0] * 50 * (times - 1)
        return [
            outcome(waited, 400.0, 1000.0, made_at=1e6 * (index // 50))
            for index, waited in enumerate([30.0, 10_000.0, *[700.0] * 48, *others])
        ]

    often, once, twice = (Calibration.of(waits(times)).told((400.0, 1000.0)) for times in (20, 1, 2))
    assert often == pytest.approx((400.0, 1000.0))
    for told, farther in ((once, 4.0), (twice, 2.0)):
        early, late = (30.0 + GRAIN_SECONDS) / farther, (10_000.0 + GRAIN_SECONDS) * farther
        assert told == pytest.approx((max(0.0, early - GRAIN_SECONDS), late - GRAIN_SECONDS))


def test_the_less_is_known_of_times_the_farther_apart_are_futures() -> None:
    """Twenty jobs one after the other: of as many times as spread as far, how long all take is known less by a few."""
    spans = []
    for count in (4, 400):
        times = [60.0, 3600.0] * (count // 2)
        line = [replace(turn(str(i), 8, 0.0), times=times) for i in range(21)]
        early, late = forecast.guess(line, [], CLUSTER, 0.0, Random(0))[-1]
        spans.append(late - early)
    assert spans[0] > 1.5 * spans[1]


def test_a_job_that_has_waited_longer_than_the_guess_counts_before_it_starts() -> None:
    waits = [outcome(5000.0, 10.0, 50.0, over=False) for _ in range(forecast.FEWEST)]
    assert [each.within for each in waits[:1]] == [False]
    # all of them wait still: nobody knows how much longer
    late = (5000.0 + GRAIN_SECONDS) * math.exp(forecast.UNSURE) - GRAIN_SECONDS
    assert Calibration.of(waits).told((10.0, 50.0))[1] == pytest.approx(late)
    waiting = [outcome(20.0, 10.0, 50.0, over=False) for _ in range(forecast.FEWEST)]
    assert waiting[0].within is None
    assert Calibration.of(waiting).sides == {}
    default = Calibration().told((90.0, 90.0))
    assert default == pytest.approx((0.5 * (90 + GRAIN_SECONDS) - 10, math.exp(math.log(2.0)) * 100 - 10))


@pytest.mark.parametrize("length", [0, 1, 2, 10, 1000])
def test_of_a_line_its_first_and_its_last_places_are_written_down(length: int) -> None:
    kept = list(thinned(length))
    assert kept == sorted(set(kept))
    assert kept[:5] == list(range(min(5, length)))
    assert not length or kept[-1] == length - 1
    assert len(kept) < 40
