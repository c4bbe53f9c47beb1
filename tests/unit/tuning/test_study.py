"""What is tried: every trial is a valid configuration, known before anything runs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tuning import space
from tuning.space import IntLogUniform, IntUniform, InvalidAssignment, LogUniform, Uniform, Values
from tuning.study import Outcome, StageConfig, StudyConfig, Trial, trials
from vae_models.config.train import TrainConfig

BASE = TrainConfig.model_validate({"data": {"name": "digits"}, "epochs": 2, "model": {"backbone": {"kind": "mlp"}}})


def stage(**fields: Any) -> StageConfig:
    return StageConfig.model_validate({"name": "rates", "space": {"optimizer.lr": [0.01, 0.001]}} | fields)


def test_a_grid_is_every_combination_with_every_seed() -> None:
    one = stage(
        space={
            "optimizer.lr": [0.01, 0.001],
            "beta.value": {"kind": "log-uniform", "low": 0.01, "high": 1, "points": 3},
        },
        repeats=[4, 5],
    )
    found = list(trials(one, BASE))
    assert [trial.number for trial in found] == list(range(12))
    assert [trial.candidate for trial in found] == [n // 2 for n in range(12)]
    values = [(t.config.optimizer.lr, t.config.beta.value, t.config.seed) for t in found]  # type: ignore[union-attr]
    assert values == [
        (lr, pytest.approx(beta), seed) for lr in (0.01, 0.001) for beta in (0.01, 0.1, 1.0) for seed in (4, 5)
    ]


def test_more_random_trials_leave_the_first_as_they_are() -> None:
    space_ = {"optimizer.lr": {"kind": "log-uniform", "low": 1e-5, "high": 1e-1}, "batch_size": [16, 32, 64]}
    few, many = (stage(space=space_, search={"kind": "random", "trials": n, "seed": 3}) for n in (5, 50))
    assert list(few.draws()) == list(many.draws())[:5]
    drawn = [math.log10(draw.assignment["optimizer.lr"]) for draw in many.draws()]
    assert min(drawn) > -5
    assert max(drawn) < -1
    assert -3.6 < sum(drawn) / len(drawn) < -2.4  # uniform in the logarithm
    assert {draw.assignment["batch_size"] for draw in many.draws()} == {16, 32, 64}


@given(low=st.floats(1e-6, 1.0), ratio=st.floats(1.01, 1e6), points=st.integers(2, 9))
def test_intervals_include_both_ends_and_are_even(low: float, ratio: float, points: int) -> None:
    high = low * ratio
    found = LogUniform(low=low, high=high, points=points).points_of()
    assert (found[0], found[-1], len(found)) == (low, high, points)
    steps = [math.log(b / a) for a, b in itertools.pairwise(found)]
    assert steps == pytest.approx([math.log(high / low) / (points - 1)] * (points - 1), rel=1e-6)
    assert all(low <= domain.at(u) <= high for domain in [Uniform(low=low, high=high)] for u in (0.0, 0.3, 0.999))


def test_a_whole_part_may_be_a_value() -> None:
    warmup = {"kind": "warmup", "epochs": 1}
    found = [t.config.beta for t in trials(stage(space={"beta": [{"value": 3.0}, warmup]}), BASE)]
    assert [part.kind for part in found] == ["constant", "warmup"]
    assert found[0].value == 3.0  # type: ignore[union-attr]


def test_a_length_replaces_the_other() -> None:
    (trial,) = trials(stage(space={"steps": [7]}), BASE)
    assert (trial.config.steps, trial.config.epochs) == (7, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space": {"optimizer.rate": [1]}}, "optimizer.rate: there is no such field; there are: kind, lr"),
        ({"space": {"optimiser.lr": [1]}}, "there is no optimiser; there are: data, model"),
        ({"space": {"optimizer.lr": [-1.0]}}, "greater than 0 .tried: optimizer.lr=-1.0"),
        ({"space": {"beta": [{"kind": "rewo"}]}}, "kappa"),
        ({"space": {"seed": [1, 2]}}, "name them in `repeats`"),
        ({"space": {"optimizer.lr": {"kind": "uniform", "low": 0.1, "high": 0.2}}}, "a grid needs `points`"),
        ({"space": {"optimizer.lr": {"kind": "uniform", "low": 2, "high": 1}}}, "low must be below high"),
        ({"space": {"optimizer.lr": []}}, "at least 1 item"),
        ({"space": {}}, "at least 1 item"),
        ({"repeats": [1, 1]}, "a seed is named twice"),
        ({"metric": "val/accuracy"}, "val/accuracy is not measured"),
        ({"metric": "val/beta_2/elbo"}, "val/beta_2/elbo is not measured"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValidationError, InvalidAssignment), match=message):
        StudyConfig(base=BASE, stages=(stage(**fields),))


def test_pruning_needs_a_metric_that_is_measured_on_the_way() -> None:
    base = BASE.model_dump(mode="json") | {"beta": {"kind": "log-uniform"}}
    base["model"]["gating"] = {}
    base["evaluation"] |= {"betas": [2.0], "betas_at_end_only": True}
    measured = {"metric": "val/beta_2/elbo"}
    StudyConfig(base=TrainConfig.model_validate(base), stages=(stage(**measured),))
    with pytest.raises(ValidationError, match="measured at the end only, too late for pruning"):
        StudyConfig(base=TrainConfig.model_validate(base), stages=(stage(**measured, pruning={"kind": "median"}),))


def test_a_later_stage_starts_from_the_first() -> None:
    study = StudyConfig(
        base=BASE, stages=(stage(), stage(name="betas", space={"beta.value": [0.1, 1.0]}, repeats=(0, 1, 2)))
    )
    assert study.size() == 2 + 6
    with pytest.raises(ValidationError, match="two have one name"):
        StudyConfig(base=BASE, stages=(stage(), stage()))


def test_it_is_data() -> None:
    study = StudyConfig(base=BASE, stages=(stage(pruning={"kind": "halving"}),))
    assert StudyConfig.model_validate_json(study.model_dump_json()) == study


def test_values_at_random_are_all_reached() -> None:
    domain = Values(values=("a", "b", "c"))
    assert {domain.at(u / 10) for u in range(10)} == {"a", "b", "c"}
    assert space.sample({"x": domain}, 3, 0) == space.sample({"x": domain}, 3, 0)


# --- a search that learns -------------------------------------------------------------------------------------------


def optuna_stage(**search: Any) -> StageConfig:
    space_ = {"optimizer.lr": {"kind": "log-uniform", "low": 1e-4, "high": 1e-1}, "beta.value": [0.5, 1.0]}
    return stage(
        space=space_, search={"kind": "optuna", "trials": 10, "batch": 4, "startup": 4} | search, repeats=[0, 1]
    )


def played(one: StageConfig, value: Any) -> dict[int, Outcome]:
    """Batch after batch, every trial's value a function of its configuration."""
    outcomes: dict[int, Outcome] = {}
    while True:
        found = list(trials(one, BASE, outcomes))
        if len(found) == len(outcomes):
            return outcomes
        outcomes |= {t.number: Outcome(state="done", value=value(t)) for t in found if t.number not in outcomes}


def near(trial: Trial) -> float:
    return -abs(math.log10(trial.config.optimizer.lr) + 2) + 0.01 * trial.seed


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_optuna_asks_for_a_batch_at_a_time_and_learns_from_it(sampler: str) -> None:
    one = optuna_stage(trials=24, batch=4, sampler=sampler)
    assert len(list(trials(one, BASE))) == 8  # 4 assignments, 2 seeds
    outcomes = played(one, near)
    assert len(outcomes) == one.planned() == 48
    every = list(trials(one, BASE, outcomes))
    late = [abs(math.log10(t.config.optimizer.lr) + 2) for t in every[24:]]
    assert sum(late) / len(late) < 5 / 6  # what draws at random have on average


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_optuna_is_a_function_of_what_was_found_out(sampler: str) -> None:
    one = optuna_stage(sampler=sampler)
    outcomes = played(one, near)
    assert list(trials(one, BASE, outcomes)) == list(trials(one, BASE, dict(reversed(outcomes.items()))))
    part = {number: outcome for number, outcome in outcomes.items() if number < 8}
    assert list(trials(one, BASE, part)) == list(trials(one, BASE, outcomes))[:16]
    more = optuna_stage(trials=14, sampler=sampler)
    assert list(trials(more, BASE, outcomes))[:20] == list(trials(one, BASE, outcomes))
    assert [one.side_by_side(known) for known in (4, 8, 10)] == [4, 4, 2]


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_optuna_goes_on_where_a_seed_failed(sampler: str) -> None:
    one = optuna_stage(sampler=sampler)
    failed = {t.number: Outcome(state="failed" if t.number == 3 else "done", value=1.0) for t in trials(one, BASE)}
    assert len(list(trials(one, BASE, failed))) == 16


def test_a_gaussian_process_spreads_a_batch() -> None:
    """Those of a batch are chosen one after the other, and none is nearly another one."""
    one = optuna_stage(trials=16, batch=4, sampler="gp")
    every = list(trials(one, BASE, played(one, near)))
    for start in range(16, 32, 8):
        batch = {math.log10(t.config.optimizer.lr): t.config.beta for t in every[start : start + 8]}
        apart = [abs(a - b) for a in batch for b in batch if a < b and batch[a] == batch[b]]
        assert min(apart, default=1.0) > 0.01


def test_the_ends_of_what_a_search_may_choose_are_checked() -> None:
    wrong = {"optimizer.lr": {"kind": "uniform", "low": -1.0, "high": 0.1}}
    for search in ({"kind": "optuna", "trials": 3}, {"kind": "random", "trials": 3}):
        one = {"name": "rates", "space": wrong, "search": search}
        with pytest.raises(ValidationError, match="greater than 0"):
            StudyConfig.model_validate({"base": BASE.model_dump(), "stages": [one]})


# --- whole numbers --------------------------------------------------------------------------------------------------


def test_fault_13a_a_grid_of_whole_numbers_is_all_of_them_or_evenly_spaced() -> None:
    assert IntUniform(low=2, high=6).points_of() == (2, 3, 4, 5, 6)
    assert IntUniform(low=2, high=64, points=3).points_of() == (2, 33, 64)
    assert IntUniform(low=1, high=3, points=50).points_of() == (1, 2, 3)
    assert IntLogUniform(low=2, high=64, points=6).points_of() == (2, 4, 8, 16, 32, 64)
    assert IntUniform(low=0, high=10**9).count() == 10**9 + 1  # without making them
    with pytest.raises(ValueError, match="a grid needs `points`"):
        IntLogUniform(low=2, high=64).points_of()


@given(low=st.integers(1, 50), width=st.integers(1, 200), uniform=st.floats(0, 1))
def test_fault_13a_whole_numbers_are_drawn_and_moved_inside_their_interval(
    low: int, width: int, uniform: float
) -> None:
    for domain in (IntUniform(low=low, high=low + width), IntLogUniform(low=low, high=low + width)):
        drawn = domain.at(uniform)
        assert isinstance(drawn, int)
        for value in (drawn, domain.near(drawn, up=True), domain.near(drawn, up=False)):
            assert low <= value <= low + width
        assert (domain.at(0.0), domain.at(1.0)) == (low, low + width)
        assert domain.near(low, up=True) > low
        assert domain.near(low + width, up=False) < low + width
        assert domain.count() if isinstance(domain, IntUniform) else True
        assert len(IntLogUniform(low=low, high=low + width, points=7).points_of()) <= 7


def test_fault_13a_whole_numbers_come_as_often_as_is_said() -> None:
    draws = 20_000
    for domain, expected in (
        (IntUniform(low=1, high=4), [0.25] * 4),
        (IntLogUniform(low=1, high=4), [math.log((k + 0.5) / (k - 0.5)) / math.log(9) for k in range(1, 5)]),
    ):
        drawn = [domain.at((i + 0.5) / draws) for i in range(draws)]
        assert [drawn.count(k) / draws for k in range(1, 5)] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "search",
    [
        {"kind": "grid"},
        {"kind": "random", "trials": 6},
        {"kind": "optuna", "trials": 12, "batch": 4, "startup": 4},
        {"kind": "optuna", "trials": 12, "batch": 4, "startup": 4, "sampler": "gp"},
        {"kind": "population", "size": 4, "generations": 3, "epochs": 1},
    ],
)
def test_fault_13a_every_search_takes_whole_numbers(search: dict[str, Any]) -> None:
    space_ = {
        "log_every_steps": {"kind": "int-uniform", "low": 2, "high": 9},
        "checkpoint.every_steps": {"kind": "int-log-uniform", "low": 4, "high": 64, "points": 3},
    }
    one = stage(space=space_, search=search)
    StudyConfig(base=BASE, stages=(one,))
    outcomes = played(one, lambda trial: float(trial.number))
    for trial in trials(one, BASE, outcomes):
        assert all(type(value) is int for value in trial.assignment.values())
        assert 4 <= trial.config.checkpoint.every_steps <= 64
    assert len(outcomes) == one.planned()
    assert StageConfig.model_validate_json(one.model_dump_json()) == one
