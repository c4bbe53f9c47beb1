"""Who wins, under ties, failures, missing seeds and values that are not finite; who is stopped early."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.pruners.rules import Decide, Memory, Pack, Rungs
from tuning.pruners.specs import Asha, Halving, Hyperband, Median, PrunerSpec
from tuning.study import Outcome, Trial
from tuning.winners import rank, winner
from vae_models.config.train import TrainConfig
from vae_models.measures import Goal

GOALS = {"max": Goal(), "min": Goal(mode="min")}
CONFIG = TrainConfig.model_validate({"data": {"name": "digits"}, "steps": 1})


def made(candidates: int, seeds: int) -> list[Trial]:
    return [
        Trial(number=c * seeds + s, candidate=c, assignment={"optimizer.lr": c}, seed=s, config=CONFIG)
        for c in range(candidates)
        for s in range(seeds)
    ]


def outcomes(rows: Sequence[Sequence[float | str | None]]) -> dict[int, Outcome]:
    """A number: done; None: missing; text: failed."""
    flat = [cell for row in rows for cell in row]
    return {
        number: Outcome(state="failed", error=cell) if isinstance(cell, str) else Outcome(state="done", value=cell)
        for number, cell in enumerate(flat)
        if cell is not None
    }


def ranking(rows: Sequence[Sequence[float | str | None]], mode: str = "max") -> list[int]:
    found = rank(made(len(rows), len(rows[0])), outcomes(rows), GOALS[mode])
    return [candidate.number for candidate in found]


def test_the_mean_decides_and_not_the_best_seed() -> None:
    assert ranking([[-90.0, -120.0, -120.0], [-100.0, -100.0, -101.0]]) == [1, 0]
    assert ranking([[90.0, 120.0, 120.0], [100.0, 100.0, 101.0]], "min") == [1, 0]


@pytest.mark.parametrize("lost", [None, "diverged", math.nan, math.inf])
def test_a_missing_seed_cannot_win(lost: float | str | None) -> None:
    rows = [[-1.0, lost], [-100.0, -100.0]]
    assert ranking(rows) == [1, 0]
    assert winner(rank(made(2, 2), outcomes(rows), GOALS["max"])).number == 1  # type: ignore[union-attr]


def test_nobody_wins_where_all_failed() -> None:
    found = rank(made(2, 2), outcomes([["a", "b"], ["c", -1.0]]), GOALS["max"])
    assert winner(found) is None
    assert found[0].number == 1  # the table still shows the better first
    assert winner([]) is None


def test_ties_go_to_the_first_in_the_space() -> None:
    assert ranking([[-2.0], [-1.0], [-1.0]]) == [1, 2, 0]


def test_mean_and_its_standard_error() -> None:
    (found,) = rank(made(1, 3), outcomes([[1.0, 2.0, 6.0]]), GOALS["max"])
    assert found.mean == pytest.approx(3.0)
    assert found.standard_error == pytest.approx(math.sqrt(7.0 / 3))  # sample variance 7, three values
    assert found.best_trial == 2
    (single,) = rank(made(1, 1), outcomes([[1.0]]), GOALS["min"])
    assert (single.standard_error, single.complete) == (None, True)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), min_size=1, max_size=6))
def test_the_winner_has_the_best_mean(rows: list[list[float]]) -> None:
    for mode, best in (("max", max), ("min", min)):
        found = winner(rank(made(len(rows), 2), outcomes(rows), GOALS[mode]))
        assert found is not None
        assert found.mean == pytest.approx(best(sum(row) / 2 for row in rows))  # type: ignore[operator]


# --- halving --------------------------------------------------------------------------------------------------------


def decider(
    pruner: PrunerSpec,
    candidates: int,
    seeds: int = 1,
    *,
    mode: str = "max",
    assignments: int | None = None,
    rungs: Rungs | None = None,
) -> Decide:
    """Ten steps an epoch, and an evaluation every five."""
    pack = Pack(
        trials=made(candidates, seeds),
        goal=GOALS[mode],
        assignments=assignments or candidates,
        steps_per_epoch=10,
        evaluate_every=5,
        rungs=rungs or Memory(),
    )
    return pruner.decider(pack)


def halver(candidates: int, seeds: int = 1, *, mode: str = "max", assignments: int | None = None) -> Decide:
    return decider(Halving(epochs=1, factor=3), candidates, seeds, mode=mode, assignments=assignments)


def metrics(values: dict[int, float]) -> dict[int, dict[str, float]]:
    return {lane: {"val/elbo": value} for lane, value in values.items()}


def test_a_third_goes_on_at_each_decision() -> None:
    decide = halver(9)
    left = {lane: float(lane) for lane in range(9)}
    assert decide(9, metrics(left)) == []
    assert decide(10, metrics(left)) == [0, 1, 2, 3, 4, 5]
    left = {lane: left[lane] for lane in (6, 7, 8)}
    assert decide(20, metrics(left)) == []
    assert decide(30, metrics(left)) == [6, 7]
    assert decide(90, metrics({8: 8.0})) == []  # one is always left


def test_an_interrupted_pack_decides_as_it_would_have() -> None:
    assert halver(3, assignments=9)(20, metrics({0: 0.0, 1: 1.0, 2: 2.0})) == []
    assert halver(3, assignments=9)(30, metrics({0: 0.0, 1: 1.0, 2: 2.0})) == [0, 1]


def test_seeds_stand_or_fall_together_and_failures_first() -> None:
    decide = halver(3, seeds=2)
    values = {0: 5.0, 1: -90.0, 2: 0.0, 3: 0.0, 4: 100.0}  # the second seed of the third diverged
    assert decide(10, metrics(values)) == [0, 1, 4]
    assert halver(3)(10, metrics({0: 1.0, 1: math.nan, 2: 0.0})) == [1, 2]
    assert halver(3, mode="min")(10, metrics({0: 1.0, 1: 3.0, 2: 0.0})) == [0, 1]


# --- Hyperband and ASHA ---------------------------------------------------------------------------------------------


def test_hyperband_halves_each_bracket_on_its_own() -> None:
    decide = decider(
        Hyperband(epochs=1, factor=3, brackets=2), 12
    )  # candidates 0, 2, ... decide after 1, 3, 9 epochs; 1, 3, ... after 3, 9
    left = {lane: float(lane) for lane in range(12)}
    assert decide(10, metrics(left)) == [0, 2, 4, 6]
    assert sorted(decide(30, metrics({lane: left[lane] for lane in (1, 3, 5, 7, 9, 11, 8, 10)}))) == [1, 3, 5, 7, 8]
    assert decide(90, metrics({10: 10.0, 9: 9.0, 11: 11.0})) == [9]


def async_halver(candidates: int, rungs: Memory, seeds: int = 1) -> Decide:
    return decider(Asha(epochs=1, factor=3), candidates, seeds, rungs=rungs)


def test_asha_compares_with_all_that_came_to_the_rung_in_any_pack() -> None:
    rungs = Memory()
    assert async_halver(9, rungs)(10, metrics({0: 0.0})) == []  # the first has nobody to lose against
    assert async_halver(9, rungs)(10, metrics({1: 1.0})) == []  # one of two goes on, and it is the better one
    assert async_halver(9, rungs)(10, metrics({2: 0.5})) == [2]
    assert async_halver(9, rungs)(15, metrics({1: -9.0})) == []  # between the rungs nobody is asked
    assert async_halver(9, rungs)(30, metrics({1: -9.0})) == []  # the first at the second rung
    assert async_halver(9, rungs)(30, metrics({0: -10.0})) == [0]


def test_asha_seeds_stand_or_fall_together() -> None:
    decide = async_halver(2, Memory(), seeds=2)
    assert decide(10, metrics({0: 1.0, 1: 2.0, 2: 9.0, 3: math.nan})) == [2, 3]


@given(st.permutations(range(12)), st.integers(1, 4))
def test_asha_never_stops_the_best_and_stops_most_of_the_others(order: list[int], together: int) -> None:
    """Candidates come in any order, some at a time: score = number, so 11 is the best."""
    rungs, stopped = Memory(), []
    for start in range(0, len(order), together):
        stopped += async_halver(12, rungs)(10, metrics({lane: float(lane) for lane in order[start : start + together]}))
    assert 11 not in stopped
    assert set(stopped) <= set(range(11))
    late = [lane for place, lane in enumerate(order) if place >= 6]
    weak = {lane for lane in late if sum(other > lane for other in order[:6]) >= 4}
    assert weak <= set(stopped)


# --- the median rule ------------------------------------------------------------------------------------------------


def median_stopper(candidates: int, *, mode: str = "max") -> Decide:
    return decider(Median(epochs=2), candidates, mode=mode)


def test_who_was_never_as_good_as_the_median_of_the_means_stops() -> None:
    decide = median_stopper(3)
    assert decide(10, metrics({0: 9.0, 1: 1.0, 2: 3.0})) == []  # before the first decision
    # means 4, 1.5, 3.5; 0 was 9 once; the others' median is 3.75 for 1, and 2.75 for 2
    assert decide(20, metrics({0: -1.0, 1: 2.0, 2: 4.0})) == [1]
    assert decide(30, metrics({0: 0.0, 2: 4.0})) == []  # 1 still counts with its mean


def test_the_median_rule_for_what_shall_be_small_and_for_what_diverged() -> None:
    assert median_stopper(3, mode="min")(20, metrics({0: 1.0, 1: 2.0, 2: 3.0})) == [2]
    assert median_stopper(3)(20, metrics({0: 1.0, 1: math.nan, 2: 3.0})) == [1]
    assert median_stopper(1)(20, metrics({0: 1.0})) == []


@given(st.lists(st.integers(-1000, 1000).map(float), min_size=1, max_size=9))
def test_the_median_rule_never_stops_the_best(values: list[float]) -> None:
    decide = median_stopper(len(values))
    best = max(values)
    for step in (20, 30, 40):
        stopped = decide(step, metrics(dict(enumerate(values))))
        assert all(values[lane] < best for lane in stopped)
