"""A multi-rate model through the real loop: evaluated at beta = 1 and at those that are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vae_models.config.run import EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.data import load
from vae_models.data.config import DataConfig
from vae_models.training.checkpoint import load_model
from vae_models.training.context import LocalContext
from vae_models.training.loop import train

BETAS = (0.1, 1.0, 8.0)
NAMES = ("elbo", "rate", "distortion", "squared_error")


def config(**evaluation: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "data": {"name": "digits"},
            "model": {"latent": 3, "backbone": {"kind": "mlp", "hidden": [32]}, "gating": {}},
            "beta": {"kind": "log-uniform"},
            "optimizer": {"lr": 0.003},
            "batch_size": 50,
            "steps": 120,
            "dtype": "float64",
            "evaluation": {"every_epochs": 2, "pictures": False, "betas": BETAS} | evaluation,
        }
    )


def evaluations(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "val/elbo" in line]


def test_at_beta_1_it_is_the_evaluation_itself_and_the_rate_falls_with_beta(tmp_path: Path) -> None:
    metrics = train(config(), LocalContext(tmp_path)).metrics
    for split in ("val", "test"):
        for name in NAMES:
            assert metrics[f"{split}/beta_1/{name}"] == pytest.approx(metrics[f"{split}/{name}"], rel=1e-12)
        rates = [metrics[f"{split}/beta_{beta:g}/rate"] for beta in BETAS]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] > 1.2 * rates[-1]
    assert all("val/beta_8/rate" in line for line in evaluations(tmp_path))


def test_at_the_end_only_where_that_is_asked_for_with_the_same_numbers(tmp_path: Path) -> None:
    always = train(config(), LocalContext(tmp_path / "always")).metrics
    at_end = train(config(betas_at_end_only=True), LocalContext(tmp_path / "end")).metrics
    assert {n: v for n, v in at_end.items() if n != "images_per_second"} == {
        n: v for n, v in always.items() if n != "images_per_second"
    }
    *before, last = evaluations(tmp_path / "end")
    assert len(before) > 1
    assert not [name for line in before for name in line if "beta_" in name]
    assert {f"val/beta_{beta:g}/{name}" for beta in BETAS for name in NAMES} <= last.keys()


def test_the_gates_of_a_checkpoint_give_what_was_measured(tmp_path: Path) -> None:
    """A call of the model at a beta has the rate that the metrics have."""
    metrics = train(config(), LocalContext(tmp_path)).metrics
    model = load_model(max((tmp_path / "checkpoints").glob("step-*")))[0].double()
    images = load(DataConfig(name="digits")).val.x.double() / 255
    noise = {name: torch.zeros(len(images), *spec.shape, dtype=torch.float64) for name, spec in model.noise().items()}
    with torch.no_grad():
        rate = model(images, noise, torch.tensor(8.0)).rate  # closed form: the noise has no part in it
    assert float(rate.mean()) == pytest.approx(metrics["val/beta_8/rate"], rel=1e-9)


def test_fault_17_the_training_split_is_evaluated_at_beta_1_when_the_run_ends(tmp_path: Path) -> None:
    """By its own name, with the numbers that an evaluation of that split has; training itself is as without."""
    asked = config(train=True)
    metrics = train(asked, LocalContext(tmp_path / "train")).metrics
    without = train(config(), LocalContext(tmp_path / "plain")).metrics
    assert {
        name: value for name, value in metrics.items() if not name.startswith("train_eval/")
    }.keys() == without.keys()
    assert metrics["val/elbo"] == without["val/elbo"]
    assert metrics["train_eval/elbo"] == pytest.approx(-metrics["train_eval/rate"] - metrics["train_eval/distortion"])
    assert {name for name in asked.metrics() if name.startswith("train_eval/")} <= metrics.keys()
    logged = [line for line in evaluations(tmp_path / "train") if "train_eval/elbo" in line]
    assert len(logged) == 1


def test_without_gates_there_is_nothing_to_evaluate_at() -> None:
    plain = config().model_dump(mode="json") | {"beta": {"kind": "constant"}}
    plain["model"]["gating"] = None
    with pytest.raises(ValueError, match=r"evaluation\.betas are for a multi-rate model"):
        TrainConfig.model_validate(plain)
    plain["evaluation"] = EvaluationConfig().model_dump(mode="json")
    TrainConfig.model_validate(plain)
