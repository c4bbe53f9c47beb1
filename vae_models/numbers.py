"""Numbers of parts as tensors, so that one `vmap` can serve configurations that differ in them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Number(nn.Module):
    """A real number that a part is configured by, as a buffer []: it is stacked with the others when lanes are fused.

    It is float64 whatever precision the model is moved to: a formula rounds it where it meets a tensor, as Python does
    with a float, so that holding a number here changes no bit of what is computed. It is not part of a checkpoint: the
    configuration has it. A part with such numbers is an `nn.Module`; its specification names the fields they come from
    in `fusible`.
    """

    value: Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(value, dtype=torch.float64), persistent=False)

    def like(self, x: Tensor) -> Tensor:
        """Return the number in the type of `x`, []."""
        return self.value.to(x.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Number:
        """Follow the model to another device, and keep the precision."""
        before = self.value
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.value.device.type != "mps":  # which has no float64; it takes a number from the CPU, too
            before = before.to(self.value.device)
        self.value = before
        return self

    def extra_repr(self) -> str:
        return f"{self.value.item():g}" if self.value.device.type != "meta" else ""
