"""A training step compiled by torch (Ansel et al. 2024, "PyTorch 2"), and replayed as CUDA graphs where there is a GPU.

What is compiled is the pure step, forward and backward: noise, data, optimizer and logs stay outside. torch keeps what
it has compiled on the disk, so that the next process of the same step reads it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from typing import Any

import torch

from vae_models.config.train import TrainConfig
from vae_models.training.step import StepModule

BACKEND = "inductor"
# All runs of a process have one `forward`, and torch compiles a function eight times and no more: the
# ninth trial of a search, or family of a benchmark, would train eagerly. What it compiled for a model ends with that.
_MOST = 1024
_log = logging.getLogger(__name__)


def compile_step(step: StepModule, config: TrainConfig, device: torch.device) -> None:
    """Compile the step in place, at its first call, as the configuration says; the parameters keep their names.

    Raise ValueError where this machine has no compiler for the device.
    """
    if config.compile == "off":
        return
    check_compiler(device)
    from torch._dynamo import config as dynamo  # a second to import

    dynamo.recompile_limit = dynamo.accumulated_recompile_limit = _MOST
    options: dict[str, Any] = {}
    if config.graph == "auto":
        if device.type == "cuda":
            options["triton.cudagraphs"] = True
        else:
            _log.warning("graph auto: CUDA graphs are of NVIDIA GPUs, and this run is on %s: off", device.type)
    # every batch has one shape: shapes are not made variables
    step.compile(dynamic=False, backend=BACKEND, **({"options": options} if options else {}))
    step._compiled_call_impl = _Named(step._compiled_call_impl)


def begin_step(config: TrainConfig, device: torch.device) -> None:
    """Tell captured graphs that a new step begins, so that the outputs of the one before may be overwritten."""
    if config.compile == "step" and config.graph == "auto" and device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


def check_compiler(device: torch.device) -> None:
    """Raise ValueError where torch finds nothing to compile with: a C++ compiler, or Triton on a GPU."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise ValueError(
                "compile step: a GPU's kernels are compiled by triton, which is not installed: set compile to off"
            )
        return
    named = os.environ.get("CXX")
    candidates = [named] if named else ["g++", "clang++"]
    if not any(shutil.which(each) for each in candidates):
        raise ValueError(
            f"compile step: torch compiles with a C++ compiler, and there is no {' or '.join(candidates)} on PATH: "
            "install one (Debian: g++), name it in CXX, or set compile to off"
        )


class _Named:
    """Calls a compiled step; what the compiler fails at is told as what to do about it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._works = False

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self._works:
            return self._call(*arguments, **named)
        from torch._dynamo.exc import TorchDynamoException

        try:
            result = self._call(*arguments, **named)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"compile step: torch cannot compile this step ({reason}): set compile to off") from error
        self._works = True
        return result
