"""The memory that a dry run tells of: traced without values, it is what a real step's tensors take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from service.kinds.train.plan import memory_lines
from service.queue.jobs import Resources
from tuning.pace import footprint, random_data
from vae_models.config.train import TrainConfig
from vae_models.likelihoods.bernoulli import Bernoulli
from vae_models.recipes import catalogue
from vae_models.training.context import LocalContext
from vae_models.training.loop import Run
from vae_models.training.memory import TakesLong, memory_of

MIB = 2**20


def changed(name: str, **fields: Any) -> TrainConfig:
    return TrainConfig.model_validate(catalogue()[name].build().model_dump(mode="json") | fields)


@pytest.mark.parametrize("name", ["digits/beta-vae-mlp", "cmu-motion/vhp-rewo", "mnist/mr-linear-vae"])
def test_it_is_what_a_real_step_takes(name: str, tmp_path: Path) -> None:
    config = catalogue()[name].build()
    run = Run(config, LocalContext(tmp_path), random_data(config, config.batch_size))
    run.begin()
    real = footprint(run)
    run.close()
    traced = memory_of(config)
    assert traced.weights + traced.optimizer == real.weights
    assert traced.step == pytest.approx(real.step, rel=0.05)
    assert traced.total == traced.data + real.weights + max(traced.step, traced.evaluation)


def test_passes_workers_and_streams_take_less() -> None:
    name = "binarized-mnist/beta-vae-mlp"
    whole = memory_of(changed(name, batch_size=4096, data={"name": "binarized-mnist", "residency": "stream"}))
    in_passes = memory_of(changed(name, batch_size=4096, micro_batch=512))
    assert whole.data == 0
    assert in_passes.data == 70_000 * 784  # a byte of each pixel
    assert in_passes.step < whole.step / 2
    assert memory_of(changed(name, batch_size=4096), workers=8).step < whole.step / 4
    few = memory_of(changed(name, evaluation={"batch_size": 50}))
    assert few.evaluation == pytest.approx(memory_of(changed(name)).evaluation / 10, rel=0.05)


def test_nothing_is_left_behind() -> None:
    """Neither torch's default type nor its fake tensors are those of the next one who uses torch."""
    memory_of(changed("digits/beta-vae-mlp", dtype="float64"))
    assert torch.get_default_dtype() == torch.float32
    assert float(torch.ones(3).sum()) == 3.0


def test_a_gang_that_asks_for_less_is_warned_with_ways_out() -> None:
    config = catalogue()["binarized-mnist/beta-vae-mlp"].build()
    total = memory_of(config).total
    (said,) = memory_lines(config, Resources(memory_per_worker=total))
    assert said.startswith(f"Memory of a worker: {total / MIB:,.1f} MiB of tensors at most: data 52.3 MiB, weights ")
    _, warning = memory_lines(config, Resources(memory_per_worker=total - 1))
    assert "less than the tensors alone take" in warning
    for way in ("resources.memory_per_worker=", "evaluation.batch_size", "data.residency=stream"):
        assert way in warning
    assert len(memory_lines(config, Resources(memory_per_worker=0))) == 1  # it is left to the cluster
    assert len(memory_lines(config, Resources(memory_per_worker=1, gpus_per_worker=1))) == 1  # of the host, not the GPU


def test_a_part_that_reads_values_is_named_and_does_not_stop_a_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def log_prob(self: Bernoulli, decoded: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return decoded.flatten(1).sum(1) * float(x.max())

    monkeypatch.setattr(Bernoulli, "log_prob", log_prob)
    (said,) = memory_lines(catalogue()["binarized-mnist/beta-vae-mlp"].build(), Resources())
    assert said.startswith("Memory: not known before it runs, since a step cannot be traced (")


def test_tracing_ends_when_its_time_is_over() -> None:
    with pytest.raises(TakesLong):
        memory_of(catalogue()["digits/beta-vae-mlp"].build(), seconds=0)
    assert float(torch.ones(3).sum()) == 3.0
