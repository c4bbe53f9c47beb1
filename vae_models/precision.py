"""In which type the networks of a training step multiply; parameters, densities and sums keep the run's own type.

float32: as `dtype` says, on every device: NVIDIA's convolutions too, which torch rounds to TF32 if it is let
tf32:    float32 whose factors are rounded to ten bits of mantissa in matrix products and convolutions (NVIDIA, from
         Ampere on); elsewhere the same as float32
bf16:    products and convolutions of `torch.autocast` in bfloat16, eight bits of mantissa, and activations between
         them; the parameters and their gradients stay float32

A topology makes what its networks return `full` before anything of a density is computed of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

Name = Literal["float32", "tf32", "bf16"]
REDUCED = frozenset({torch.bfloat16, torch.float16})


def full(x: Tensor) -> Tensor:
    """Return a network's output as the parameters of a density: in float32 where it is in fewer bits, else `x`."""
    return x.float() if x.dtype in REDUCED else x


def in_full(x: Tensor) -> AbstractContextManager[Any]:
    """Compute in the parameters' own type inside of the block, whatever the networks around it use; `x`: its device."""
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The precision of one run's steps on one kind of device ("cpu", "cuda")."""

    name: Name = "float32"
    device_type: str = "cpu"

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute the networks of a pass in bfloat16 inside of the block, if that is the precision."""
        if self.name != "bf16":
            return nullcontext()
        # without the cache of cast weights: it outlives neither a captured graph nor a `vmap` over lanes
        return torch.autocast(self.device_type, dtype=torch.bfloat16, cache_enabled=False)

    def products(self) -> AbstractContextManager[Any]:
        """Set how this device multiplies float32 inside of the block, which has the backward pass in it, too."""
        return _products("tf32" if self.name == "tf32" else "ieee") if self.device_type == "cuda" else nullcontext()


def keep_points_full(model: nn.Module) -> None:
    """Let strided convolutions compute images of one pixel in float32, whatever the networks around them use.

    On the CPU the weights' gradient of such a convolution in bfloat16 is not written where its kernel meets padding
    alone: what lay in memory is taken for it (torch 2.13, oneDNN with AVX-512 BF16).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and max(module.stride) > 1:
            off = list[bool]()  # whether autocast is off for this call, and has to be put on again after it
            module.register_forward_pre_hook(partial(_before, off))
            module.register_forward_hook(partial(_after, off), always_call=True)


def _before(off: list[bool], module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (x, *more), kind = inputs, inputs[0].device.type
    off.append(x.shape[-2:].numel() == 1 and torch.is_autocast_enabled(kind))
    if not off[-1]:
        return inputs
    torch.set_autocast_enabled(kind, False)
    return (full(x), *more)


def _after(off: list[bool], module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    if off.pop():
        torch.set_autocast_enabled(inputs[0].device.type, True)


@contextmanager
def _products(precision: str) -> Iterator[None]:
    backends: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.cudnn.rnn,
    )
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = precision
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
