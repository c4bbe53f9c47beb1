"""A learning rate that falls where the validation score does not rise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuning.space import with_values
from vae_models.data import load
from vae_models.optimization.learning_rate import FollowsEvaluations, Plateau
from vae_models.optimization.specs import PlateauScheduleConfig
from vae_models.recipes import catalogue
from vae_models.training.context import LocalContext
from vae_models.training.loop import train


def built(patience: float = 20, least: float = 0.0) -> Plateau:
    config = PlateauScheduleConfig(patience_epochs=patience / 10, least=least, warmup_epochs=0.5)
    return config.build(peak=1.0, steps_per_epoch=10, total_steps=1000)


def test_it_halves_after_two_epochs_without_a_rise() -> None:
    lr = built()
    assert isinstance(lr, FollowsEvaluations)
    assert [lr(step) for step in (0, 4, 5)] == [0.2, 1.0, 1.0]
    for step, score, expected in (
        (10, -5, 1.0), (20, -4, 1.0), (30, -4, 1.0), (40, -6, 0.5), (50, -6, 0.5), (60, -6, 0.25), (70, -3, 0.25),
        (90, -3, 0.125),
    ):  # fmt: skip
        lr.observe(step, score)
        assert lr(step) == expected


@given(st.lists(st.floats(-1e3, 1e3), max_size=30))
def test_it_never_rises_nor_falls_below_the_least(scores: list[float]) -> None:
    lr, before = built(patience=10, least=0.01), 1.0
    for place, score in enumerate(scores):
        lr.observe(10 * (place + 1), score)
        assert 0.01 <= lr(10 * (place + 1)) <= before
        before = lr(10 * (place + 1))


def test_a_run_falls_and_tells(tmp_path: Path) -> None:
    """At a rate that moves no weight the score stays: each epoch but the first has a fall, and the state the score."""
    changes = {
        "optimizer.lr": 1e-20, "epochs": 5.0,
        "schedule": {"kind": "plateau", "patience_epochs": 1, "factor": 0.1},
        "evaluation.every_epochs": 1.0, "log_every_steps": 5, "evaluation.pictures": False,
    }  # fmt: skip
    config = with_values(catalogue()["digits/beta-vae-mlp"].build(), changes)
    context = LocalContext(tmp_path, device=torch.device("cpu"))
    train(config, context, dataset=load(config.data))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["metrics"]["train/lr"] for line in lines if "train/lr" in line["metrics"]]
    assert rates[0] == 1e-20
    assert rates[-1] == pytest.approx(1e-23)  # of the fifth epoch, after those of the second to the fourth
    (state,) = sorted(tmp_path.rglob("state.json"))[-1:]
    scores = json.loads(state.read_text())["position"]["scores"]
    assert len({score for _, score in scores}) == 1
    assert len(scores) == 5
