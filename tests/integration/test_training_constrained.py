"""REWO through the real loop: two phases, a prior that is held and then trained as if from the start, exact resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vae_models.config.train import TrainConfig
from vae_models.training import checkpoint
from vae_models.training.context import LocalContext
from vae_models.training.loop import train
from vae_models.training.step import hold, release

STEPS = 30


def config(**fields: Any) -> TrainConfig:
    """The errors of the first steps average above kappa^2 = 0.105, later ones below: the phase changes on the way."""
    return TrainConfig.model_validate(
        {
            "data": {"name": "digits"},
            "model": {
                "latent": 2,
                "backbone": {"kind": "mlp", "hidden": [16]},
                "likelihood": {"kind": "gaussian", "sigma": 0.3},
                "prior": {"kind": "vhp", "hidden": [8], "importance_samples": 2},
            },
            "beta": {"kind": "rewo", "kappa": 0.105**0.5, "nu": 5, "alpha": 0.7, "start": 0.01},
            "optimizer": {"lr": 0.02},
            "batch_size": 50,
            "steps": STEPS,
            "log_every_steps": 1,
            "evaluation": {"every_epochs": 2, "pictures": False},
            "checkpoint": {"every_steps": 1},
        }
        | fields
    )


def history(folder: Path, name: str) -> list[float]:
    lines = [json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert train(config(), LocalContext(folder, keep_last=STEPS)).steps == STEPS
    return folder


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return dict(checkpoint.read(folder / "checkpoints" / f"step-{step:010d}").model)


def switch(folder: Path) -> int:
    """The first step after which the second phase holds."""
    phases = history(folder, "train/control_phase")
    assert phases[0] == 1
    assert phases[-1] == 2
    assert phases == sorted(phases)
    return phases.index(2) + 1


def test_the_prior_is_held_until_the_constraint_holds(whole: Path) -> None:
    at = switch(whole)
    assert 2 < at < STEPS - 2
    first, last_held, trained = (weights(whole, step) for step in (1, at, at + 1))
    prior = [name for name in first if name.startswith("prior.")]
    assert prior
    for name in prior:
        assert torch.equal(first[name], last_held[name])
    assert any(not torch.equal(last_held[name], trained[name]) for name in prior)
    assert not torch.equal(first["backbone.heads.mean.weight"], last_held["backbone.heads.mean.weight"])
    betas = history(whole, "train/control_beta")
    assert betas[: at - 1] == pytest.approx([0.01] * (at - 1))
    assert betas[at + 1] > 0.01


@pytest.mark.parametrize("step", [1, 5, 20, 29])
def test_resume_is_exact_in_both_phases(whole: Path, tmp_path: Path, step: int) -> None:
    calls = [0]

    def stop() -> bool:
        calls[0] += 1
        return calls[0] >= step

    folder = tmp_path / "cut"
    rarely = config(checkpoint={"every_steps": 1000})
    assert train(rarely, LocalContext(folder, stop=stop), poll_seconds=0).stopped
    assert train(rarely, LocalContext(folder), poll_seconds=0).steps == STEPS
    for name, value in weights(whole, STEPS).items():
        assert torch.equal(value, weights(folder, STEPS)[name]), name
    assert history(folder, "train/control_average") == history(whole, "train/control_average")


def test_a_held_parameter_is_one_that_adam_has_not_seen() -> None:
    """Five held steps, then three: the same as three steps of a fresh Adam, and nothing for the parameter beside."""
    torch.manual_seed(0)
    gradients = torch.randn(8, 4, dtype=torch.float64)
    start = torch.randn(4, dtype=torch.float64)
    held, fresh = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizer, other = config().optimizer.build([held]), config().optimizer.build([fresh])
    for step, gradient in enumerate(gradients):
        gate = torch.tensor(float(step >= 5), dtype=torch.float64)
        held.grad = gradient.clone()
        hold([held], gate)
        optimizer.step()
        release(optimizer, [held], gate)
        if step < 5:
            assert torch.equal(held, start)
        else:
            fresh.grad = gradient.clone()
            other.step()
    torch.testing.assert_close(held, fresh, rtol=0, atol=0)


def test_a_loss_that_is_not_finite_names_its_batch(tmp_path: Path) -> None:
    from vae_models.data.batching import BatchPlan
    from vae_models.training.errors import NonFiniteLoss

    with pytest.raises(NonFiniteLoss, match="whose batch of 50 has the training data") as caught:
        train(config(optimizer={"lr": 1e18}), LocalContext(tmp_path))
    plan = BatchPlan(1297, 50, 0)
    assert caught.value.data == tuple(plan.indices(caught.value.step - 1).tolist())
