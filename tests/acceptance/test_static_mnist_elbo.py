"""A recipe reaches what it promises, on the published files: half a minute of a core, a quarter of its epochs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.command import vaesvc

RECIPE = "binarized-mnist/beta-vae-mlp"
EPOCHS = 4
BETTER_THAN = -122.0  # nats per datum
TOO_GOOD = -80.0  # of a mass over 784 pixels, on images that were not trained on: the best models stay below


def test_the_mlp_reaches_its_elbo_on_static_binarized_mnist(
    env: dict[str, str], data_dir: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    fewer = ("--set", f"epochs={EPOCHS}", "--set", f"evaluation.every_epochs={EPOCHS}")
    before = os.times()
    done = vaesvc(
        env | {"VAESVC_DATA_DIR": str(data_dir)},
        "run",
        RECIPE,
        *fewer,
        "--out",
        str(tmp_path / "run"),
        "--json",
        seconds=500,
    )
    after = os.times()
    record_property("processor_seconds", after.children_user - before.children_user)
    metrics = json.loads(done.stdout)["metrics"]
    assert BETTER_THAN < metrics["test/elbo"] < TOO_GOOD
    assert BETTER_THAN < metrics["val/elbo"] < TOO_GOOD
    assert 12 < metrics["test/rate"] < 30  # the latent is used
