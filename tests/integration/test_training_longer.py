"""More epochs for a run that has ended: to the bit what a longer run would have been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from vae_models.config.longer import refusal
from vae_models.optimization.specs import ConstantScheduleConfig
from vae_models.recipes import catalogue
from vae_models.training import checkpoint

SMALL = ("digits/beta-vae-mlp", "--device", "cpu")
BETAS = {
    "constant": [],
    "warmup": ["beta.kind=warmup", "beta.epochs=1.5"],
    "cyclic": ["beta.kind=cyclic", "beta.cycle_epochs=0.7"],
    "rewo": ["beta.kind=rewo", "beta.kappa=0.3"],
}


def _run(folder: Path, *settings: str, code: int = 0) -> str:
    given = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(app, ["run", *SMALL, "--out", str(folder), *given])
    assert getattr(result.exception, "exit_code", result.exit_code) == code, result.output + str(result.exception)
    return result.output + str(result.exception or "")


def _end(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Of the last checkpoint: the sums of all tensors, and the metrics of its evaluations."""
    last = max((folder / "checkpoints").iterdir())
    sums = {name: file.sha256 for name, file in checkpoint.verify(last).files.items() if name.endswith(".safetensors")}
    metrics = dict(checkpoint.read(last).state["position"]["latest"])
    return sums, {name: value for name, value in metrics.items() if name.startswith(("val/", "test/"))}


@pytest.mark.parametrize("beta", BETAS)
def test_fault_13a_more_epochs_go_on_as_if_the_run_had_been_longer(tmp_path: Path, beta: str) -> None:
    settings = [
        "model.backbone.hidden=[16]",
        "evaluation.pictures=false",
        "schedule.warmup_epochs=0.5",
        "schedule.kind=constant",
        *BETAS[beta],
    ]
    _run(tmp_path / "long", "epochs=2.5", *settings)
    _run(tmp_path / "twice", "epochs=1.25", *settings)
    first = max((tmp_path / "twice" / "checkpoints").iterdir()).name
    said = _run(tmp_path / "twice", "epochs=2.5", *settings)
    assert "goes on from its last checkpoint" in said
    assert _end(tmp_path / "twice") == _end(tmp_path / "long")
    assert first != max((tmp_path / "twice" / "checkpoints").iterdir()).name
    assert "is less than the epochs=2.5" in _run(tmp_path / "twice", "epochs=2", *settings, code=2)


def test_fault_13a_where_a_longer_run_is_another_one_it_is_said(tmp_path: Path) -> None:
    settings = [
        "model.backbone.hidden=[8]",
        "evaluation.pictures=false",
        "schedule.kind=cosine",
        "evaluation.test=false",
    ]
    _run(tmp_path, "epochs=0.5", *settings)
    said = _run(tmp_path, "epochs=1", *settings, code=2)
    assert "schedule.kind=cosine falls to its end over the whole run" in said
    assert "name another --out" in said
    said = _run(tmp_path, "epochs=1", "seed=7", *settings, code=2)
    assert "it differs in epochs, seed" in said


def test_what_may_go_on() -> None:
    config = catalogue()["digits/beta-vae-mlp"].build().model_copy(update={"schedule": ConstantScheduleConfig()})

    def given(**changes: Any) -> Any:
        return config.model_copy(update={"epochs": None, "steps": None} | changes)

    assert refusal(given(epochs=2.0), given(epochs=4.0)) is None
    assert refusal(given(steps=20), given(steps=20)) is None
    assert refusal(given(steps=20), given(epochs=4.0)) is None  # 40 steps
    assert "steps=20 is less than the epochs=4" in str(refusal(given(epochs=4.0), given(steps=20)))
    assert "it differs in batch_size" in str(refusal(given(steps=20), given(steps=40, batch_size=7)))
