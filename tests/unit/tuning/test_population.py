"""Population based training as a search: who goes on from whom, as a function of what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.kinds.study.spec import cost
from tuning.searchers.draw import Draw
from tuning.searchers.population import draws
from tuning.study import Outcome, StageConfig, StudyConfig, Trial, trials
from vae_models.config.train import TrainConfig

BASE = TrainConfig.model_validate({"data": {"name": "digits"}, "epochs": 7, "batch_size": 100})
SPACE: dict[str, Any] = {
    "optimizer.lr": {"kind": "log-uniform", "low": 1e-4, "high": 1e-1},
    "beta.value": {"kind": "uniform", "low": 0.5, "high": 2.0},
    "optimizer.clip_norm": [1.0, 10.0, 100.0],
}


def stage(space: dict[str, Any] = SPACE, repeats: tuple[int, ...] = (0,), **search: Any) -> StageConfig:
    given = {"kind": "population", "size": 8, "generations": 3, "epochs": 2.0} | search
    return StageConfig.model_validate({"name": "grown", "space": space, "search": given, "repeats": repeats})


def all_draws(one: StageConfig, score: Callable[[int, Draw], float | None]) -> list[Draw]:
    """Every generation, each assignment's value a function of its number and itself."""
    assert one.search.kind == "population"
    found: list[Draw] = []
    while True:
        known = len(found)
        values = [score(number, draw) for number, draw in enumerate(found)]
        found = list(draws(one.search, one.space, one.goal, values.__getitem__, lambda number: number < known))  # noqa: B023
        if len(found) == known:
            return found


@given(
    size=st.integers(2, 12), quantile=st.sampled_from([0.1, 0.25, 0.5]), seed=st.integers(0, 5), mode=st.booleans(),
    scores=st.lists(st.one_of(st.none(), st.floats(-10, 10)), min_size=12 * 3, max_size=12 * 3),
)  # fmt: skip
def test_the_worst_go_on_from_the_best(
    size: int, quantile: float, seed: int, mode: bool, scores: list[float | None]
) -> None:
    one = stage(size=size, quantile=quantile, seed=seed).model_copy(update={"mode": "max" if mode else "min"})
    found = all_draws(one, lambda number, draw: scores[number])
    count = min(max(1, math.floor(size * quantile + 1e-9)), size // 2)
    assert [draw.epochs for draw in found[:size]] == [2.0] * size
    for first in range(0, len(found), size):
        generation = list(range(first, first + size))
        sign = 1.0 if mode else -1.0
        measured = sorted((i for i in generation if scores[i] is not None), key=lambda i: -sign * (scores[i] or 0.0))
        if not measured or first == 2 * size:
            assert len(found) == first + size  # nobody to go on from, or the last generation
            break
        worst_donor = min(sign * (scores[i] or 0.0) for i in measured[:count])
        replaced = 0
        for i in generation:
            child = found[i + size]
            assert child.epochs == 2.0 * (first // size + 2)
            assert child.origin is not None
            value = scores[child.origin]
            assert value is not None
            if child.origin == i and child.assignment == found[i].assignment:
                continue
            replaced += 1
            assert sign * value >= worst_donor
        assert replaced >= sum(scores[i] is None for i in generation)
        assert replaced <= count + sum(scores[i] is None for i in generation)


def test_values_stay_near_and_inside() -> None:
    one = stage(resample=0.0, size=10, generations=6)
    found = all_draws(one, lambda number, draw: draw.assignment["optimizer.lr"])
    moved = 0
    for draw in found:
        assert 1e-4 <= draw.assignment["optimizer.lr"] <= 1e-1
        assert draw.assignment["optimizer.clip_norm"] in (1.0, 10.0, 100.0)
        if draw.origin is not None and draw.assignment != found[draw.origin].assignment:
            moved += 1
            ratio = draw.assignment["optimizer.lr"] / found[draw.origin].assignment["optimizer.lr"]
            assert ratio == pytest.approx(1.2) or ratio == pytest.approx(0.8) or draw.assignment["optimizer.lr"] == 1e-1
    assert moved == 2 * 5
    last, first = found[-10:], found[:10]
    assert max(d.assignment["optimizer.lr"] for d in last) >= max(d.assignment["optimizer.lr"] for d in first)


def test_each_seed_goes_on_from_its_own() -> None:
    one = stage(repeats=(3, 4))
    outcomes: dict[int, Outcome] = {}
    every: list[Trial] = []
    while True:
        every = list(trials(one, BASE, outcomes))
        if len(every) == len(outcomes):
            break
        outcomes |= {t.number: Outcome(state="done", value=float(t.candidate)) for t in every}
    assert len(every) == one.planned() == 48
    by_key = {trial.key: trial for trial in every}
    assert len(by_key) == 48
    for trial in every:
        assert trial.config.epochs == 2.0 * (trial.candidate // 8 + 1)
        assert (trial.origin is None) == (trial.candidate < 8)
        if trial.origin is not None:
            assert by_key[trial.origin].seed == trial.seed
            assert by_key[trial.origin].candidate // 8 == trial.candidate // 8 - 1
    assert cost(StudyConfig(base=BASE, stages=(one,))) == {"grown": 48 * round(2 * 1297 / 100)}


@pytest.mark.parametrize(
    ("change", "base", "words"),
    [
        ({"pruning": {"kind": "halving"}}, {}, "selected between its generations"),
        ({"space": {"epochs": [1, 2]}}, {}, "what search.epochs says"),
        ({"space": {"model.latent": [2, 4]}}, {}, "weights cannot be handed on"),
        ({"space": {"batch_size": [16, 32]}}, {}, "weights cannot be handed on"),
        ({}, {"schedule": {"kind": "cosine"}}, "schedule.kind should be constant"),
        ({"space": {"optimizer.lr": {"kind": "uniform", "low": -1, "high": 1}}}, {}, "greater than 0"),
    ],
)
def test_what_a_population_cannot_be(change: dict[str, Any], base: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        StudyConfig.model_validate(
            {"base": BASE.model_dump() | base, "stages": [stage().model_dump(exclude_unset=True) | change]}
        )
