"""A compiled step: the curve of the eager one within rounding, resumed to the bit; what it needs, told."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch._dynamo.utils import counters

from tests import catalogue
from tests.numerics.test_lanes import curve, dataset
from vae_models.backbones.specs import MLPConfig
from vae_models.config.shape import reason_against
from vae_models.config.train import TrainConfig
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.training import checkpoint, compiled
from vae_models.training.checks import check_run
from vae_models.training.context import LocalContext
from vae_models.training.loop import train
from vae_models.training.step import StepModule

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


MODEL = catalogue.MODELS["mlp-relu/bernoulli/standard-normal/diagonal-normal"][0]


def config(model: ModelConfig = MODEL, **fields: Any) -> TrainConfig:
    given = {"steps": 12, "compile": "step", "log_every_steps": 3, "evaluation": {"every_epochs": 2, "pictures": False}}
    return catalogue.train_config("elbo", model, data="mnist", **(given | fields))


pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # checks are Python that is traced, too


@pytest.fixture(autouse=True)
def _traced_and_not_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's tracing and its automatic differentiation ahead of time; the kernels in C++ would take a minute."""
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")


def test_a_run_has_the_eager_curve_and_resumes_to_the_bit(tmp_path: Path) -> None:
    counters.clear()
    train(config(), LocalContext(tmp_path / "compiled"), dataset=dataset())
    assert counters["stats"]["unique_graphs"] == 1  # the whole step, once
    assert not counters["graph_break"]
    train(config(compile="off"), LocalContext(tmp_path / "eager"), dataset=dataset())
    for mine, theirs in zip(curve(tmp_path / "compiled"), curve(tmp_path / "eager"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    asked = iter(range(1000))
    stopping = LocalContext(tmp_path / "resumed", stop=lambda: next(asked) >= 6)
    assert train(config(), stopping, dataset=dataset(), poll_seconds=0).stopped
    train(config(), LocalContext(tmp_path / "resumed"), dataset=dataset())
    sums = [
        checkpoint.verify(tmp_path / name / "checkpoints/step-0000000012").files for name in ("resumed", "compiled")
    ]
    for file in ("model.safetensors", "training.safetensors"):
        assert sums[0][file] == sums[1][file]


def test_however_many_runs_a_process_has_each_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch compiles one function eight times, and all runs have one."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")  # traced all the same
    counters.clear()
    for size in range(1, 11):
        model = MODEL.model_copy(update={"backbone": MLPConfig(hidden=(size,))})
        train(config(model, steps=1), LocalContext(tmp_path / str(size)), dataset=dataset())
    assert counters["stats"]["unique_graphs"] == 10


# --- how it is asked for ----------------------------------------------------------------------------------------------


class Recorded(StepModule):
    """A step that keeps what it was told to compile with."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.told: list[dict[str, Any]] = []

    def compile(self, *arguments: Any, **told: Any) -> None:
        self.told.append(told)


def test_graphs_are_captured_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """There is no GPU here: what torch is asked for, and what a user of a CPU is told."""
    monkeypatch.setattr(compiled, "check_compiler", lambda device: None)
    begun: list[bool] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(True))
    with caplog.at_level(logging.WARNING):
        for device, options in ((CUDA, {"triton.cudagraphs": True}), (CPU, None)):
            step = Recorded()
            compiled.compile_step(step, config(graph="auto"), device)
            compiled.begin_step(config(graph="auto"), device)
            assert [told.get("options") for told in step.told] == [options]
            assert step.told[0]["dynamic"] is False
    assert begun == [True]  # on the GPU
    assert "CUDA graphs are of NVIDIA GPUs, and this run is on cpu: off" in caplog.text
    eager = Recorded()
    compiled.compile_step(eager, config(compile="off"), CUDA)
    assert eager.told == []


def test_a_machine_without_a_compiler_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match=r"there is no g\+\+ or clang\+\+ on PATH: install one"):
        train(config(), LocalContext(tmp_path / "run"), dataset=dataset())
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    with pytest.raises(ValueError, match="or set compile to off"):
        compiled.check_compiler(CPU)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ValueError, match="compiled by triton, which is not installed"):
        compiled.check_compiler(CUDA)


def test_what_does_not_go_with_it_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="graph auto replays a compiled step, and compile is off"):
        config(compile="off", graph="auto")
    rae = {"objective": catalogue.OBJECTIVES["rae-gp"], "checkpoint": {"metric": "val/distortion", "mode": "min"}}
    model = catalogue.MODELS["mlp-relu/bernoulli/standard-normal/delta"][0]
    with pytest.raises(ValidationError, match="differentiates twice, which torch"):
        TrainConfig.model_validate(config().model_dump() | {"model": model} | rae)
    with pytest.raises(ValidationError, match="compile step chooses by itself what is computed again"):
        config(recompute=True)
    assert reason_against(config()) == "compile step compiles the step of one configuration"
    context = LocalContext(tmp_path, world_size=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_models.collectives.world_size", lambda: 2)
        with pytest.raises(ValueError, match="compile step is of one worker, and there are 2"):
            check_run(config(batch_size=8), context)
