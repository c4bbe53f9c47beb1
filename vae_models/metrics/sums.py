"""Evaluation: sums first, division last, so that the result does not depend on how the data were cut into batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from vae_models.records import Trace


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over data of what is measured, and the number of data: scalars in float64.

    rate, distortion: the ELBO's two terms, in nats; squared_error: mean over the elements of (x - E[x|z])^2.
    Add the sums of batches and of workers in any way, then take `means` once. `packed` and `unpacked` are for the wire:
    one tensor, one reduction.
    """

    count: Float64[Tensor, ""]
    rate: Float64[Tensor, ""]
    distortion: Float64[Tensor, ""]
    squared_error: Float64[Tensor, ""]

    @classmethod
    def zero(cls, device: torch.device | str = "cpu") -> Sums:
        return cls.unpacked(torch.zeros(4, dtype=torch.float64, device=device))

    @classmethod
    def of(cls, trace: Trace) -> Sums:
        """The sums of one batch; no gradient is kept."""
        rate, distortion, error = (
            value.detach().double().sum() for value in (trace.rate, trace.distortion, trace.squared_error)
        )
        count = torch.full_like(rate, trace.distortion.shape[0])
        return cls(count=count, rate=rate, distortion=distortion, squared_error=error)

    def __add__(self, other: Sums) -> Sums:
        return Sums.unpacked(self.packed() + other.packed())

    def packed(self) -> Float64[Tensor, "4"]:
        """[count, rate, distortion, squared_error]."""
        return torch.stack([self.count, self.rate, self.distortion, self.squared_error])

    @classmethod
    def unpacked(cls, packed: Float64[Tensor, "4"]) -> Sums:
        count, rate, distortion, error = packed.unbind(0)
        return cls(count=count, rate=rate, distortion=distortion, squared_error=error)

    def means(self) -> dict[str, float]:
        """{"elbo", "rate", "distortion", "squared_error"} per datum, elbo = -(rate + distortion) at beta = 1."""
        count, rate, distortion, error = self.packed().tolist()
        if count == 0:
            raise ValueError("no data were evaluated: the split is empty, or no batch of it was added to the sums")
        return {
            "elbo": -(rate + distortion) / count,
            "rate": rate / count,
            "distortion": distortion / count,
            "squared_error": error / count,
        }
