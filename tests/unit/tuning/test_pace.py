"""The estimate of a dry run."""

from __future__ import annotations

from typing import Any

import pytest

from tuning.pace import seconds_per_step
from vae_models.config.train import TrainConfig

NOISE = {"kind": "gaussian", "pattern": "conditional", "variance": 0.1}


VECTORS = {"shape": [30], "axes": ["feature"], "support": "reals", "sizes": [90, 5, 5]}
OWN = {"name": "mine", "digest": "0" * 64, "facts": VECTORS}


@pytest.mark.parametrize("data", [{"name": "digits"}, {"name": "mnist", "noise": NOISE}, OWN])
def test_a_step_is_timed_without_the_data(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAESVC_DATA_DIR", "/nowhere")

    def config(width: int) -> TrainConfig:
        model = {"backbone": {"kind": "mlp", "hidden": [width] * 2}, "likelihood": {"kind": "gaussian", "sigma": 0.1}}
        return TrainConfig.model_validate({"data": data, "epochs": 1, "batch_size": 16, "model": model})

    assert 0 < seconds_per_step(config(8)) < seconds_per_step(config(2048))
