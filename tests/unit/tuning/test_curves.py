"""The pictures of a stage: what is drawn, and what there is nothing to draw of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning import curves
from tuning.study import Outcome, StageConfig, trials
from vae_models.config.train import TrainConfig

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


# --- studies side by side -------------------------------------------------------------------------------------------


def test_runs_for_one_beta_each_are_points_and_a_multi_rate_run_is_a_line(tmp_path: Path) -> None:
    separate = curves.curve(
        "separate",
        [({"beta.value": beta}, {"val/rate": 1 / beta, "val/distortion": 80 + beta + seed})
         for beta in (10.0, 0.1) for seed in (0, 1)],
    )  # fmt: skip
    assert separate is not None
    assert not separate.continuous
    assert separate.points == {0.1: [(10, 80.1), (10, 81.1)], 10.0: [(0.1, 90), (0.1, 91)]}
    metrics = {f"val/beta_{beta:g}/{name}": beta for beta in (0.01, 1.0, 10.0) for name in ("rate", "distortion")}
    multi_rate = curves.curve("multi-rate", [({"optimizer.lr": 0.1}, {"val/rate": 1.0, "val/elbo": -3.0} | metrics)])
    assert multi_rate is not None
    assert multi_rate.continuous
    assert multi_rate.points == {0.01: [(0.01, 0.01)], 1.0: [(1, 1)], 10.0: [(10, 10)]}
    curves.compare([separate, multi_rate], tmp_path / "both.png")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")


def test_no_curve_where_no_beta_is_known() -> None:
    assert curves.curve("rates", [({"optimizer.lr": 0.1}, {"val/rate": 1.0, "val/distortion": 2.0})]) is None
    assert curves.curve("nothing", []) is None
    nan = {"val/rate": float("nan"), "val/distortion": 2.0}
    assert curves.curve("failed", [({"beta.value": 1.0}, nan)]) is None
