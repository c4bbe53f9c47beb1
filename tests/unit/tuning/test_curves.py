"""The pictures of a stage: what is drawn, and what there is nothing to draw of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning import curves
from tuning.study import Outcome, StageConfig, trials
from vae_models.config import TrainConfig

BASE = TrainConfig.model_validate({"data": {"name": "digits"}, "epochs": 1})


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=30))
def test_the_pareto_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    def dominated(point: tuple[int, int]) -> bool:
        return any(a <= point[0] and b <= point[1] and (a, b) != point for a, b in points)

    assert curves.pareto(points) == sorted({point for point in points if not dominated(point)})


@pytest.mark.parametrize(
    "space",
    [
        {"optimizer.lr": [0.1, 0.01, 0.001]},
        {"beta": [{"kind": "constant", "value": 1.0}, {"kind": "warmup", "epochs": 1.0}]},
        {"optimizer.lr": [0.1, 0.01], "beta": [{"kind": "constant"}, {"kind": "warmup", "epochs": 1.0}]},
        {"optimizer.lr": [0.1], "beta.value": [1.0]},
    ],
)
@pytest.mark.parametrize("measured", ["all", "some", "elbo only", "none"])
def test_every_stage_has_its_picture(tmp_path: Path, space: dict[str, Any], measured: str) -> None:
    stage = StageConfig.model_validate({"name": "s", "space": space, "repeats": [0, 1]})
    every = list(trials(stage, BASE))
    outcomes = {
        trial.number: Outcome(
            state="done",
            value=-100.0 + trial.number,
            metrics={} if measured == "elbo only" else {"val/rate": 20.0 - trial.number, "val/distortion": 80.0},
        )
        for trial in every[: 1 if measured == "some" else len(every)]
    }
    if measured == "none":
        outcomes = {trial.number: Outcome(state="failed", error="bang") for trial in every}
    path = tmp_path / "curve.png"
    curves.write(stage, every, outcomes, path)
    nothing = measured == "none" or (measured == "elbo only" and list(space) == ["beta"])
    assert path.exists() != nothing
    if path.exists():
        assert path.read_bytes().startswith(b"\x89PNG")
