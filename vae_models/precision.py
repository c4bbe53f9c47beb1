"""In which type the networks of a training step multiply; parameters, densities and sums keep the run's own type.

float32: as `dtype` says, on every device: NVIDIA's convolutions too, which torch rounds to TF32 if it is let
tf32:    float32 whose factors are rounded to ten bits of mantissa in matrix products and convolutions (NVIDIA, from
         Ampere on); elsewhere the same as float32
bf16:    products and convolutions of `torch.autocast` in bfloat16, eight bits of mantissa, and activations between
         them; the parameters and their gradients stay float32

A topology makes what its networks return `full` before anything of a density is computed of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

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


def keep_full(model: nn.Module) -> None:
    """Let modules compute in float32 what this CPU does not in bfloat16, whatever the networks around them use.

    That is strided convolutions of images of one pixel: their weights' gradient is not written where the kernel meets
    padding alone, and what lay in memory is taken for it (torch 2.13, oneDNN with AVX-512 BF16). And LSTMs, where
    oneDNN has none of these (with AVX2, say).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and max(module.stride) > 1:
            _full_where(module, lambda x: x.shape[-2:].numel() == 1)
        elif isinstance(module, nn.LSTM) and not _has_lstm():
            _full_where(module, lambda _: True)


@cache
def _has_lstm() -> bool:
    """Return whether this CPU computes an LSTM in bfloat16: torch tells it by trying alone."""
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True


def _full_where(module: nn.Module, applies: Callable[[Tensor], bool]) -> None:
    """Let the module compute in float32 where this is true of its first input."""
    off = list[bool]()  # whether autocast is off for this call, and has to be put on again after it

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        kind = inputs[0].device.type
        off.append(applies(inputs[0]) and torch.is_autocast_enabled(kind))
        if not off[-1]:
            return inputs
        torch.set_autocast_enabled(kind, False)
        return tuple(tree_map_only(Tensor, full, each) for each in inputs)

    def after(_: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        if off.pop():
            torch.set_autocast_enabled(inputs[0].device.type, True)

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after, always_call=True)


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
