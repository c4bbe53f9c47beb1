"""Evaluation: sums first, division last, so that the result does not depend on how the data were cut into batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor

from vae_models.measures import Quantity
from vae_models.records import Trace


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Sums over data of what is measured, and the number of data: scalars in float64.

    rate, distortion: the ELBO's two terms, in nats; squared_error: mean over the elements of (x - E[x|z])^2; more: of
    the requested measures, by name, each in its unit.
    Add the sums of batches and of workers in any way, then take `means` once. `packed` and `unpacked` are for the wire:
    one tensor, one reduction.
    """

    count: Float64[Tensor, ""]
    rate: Float64[Tensor, ""]
    distortion: Float64[Tensor, ""]
    squared_error: Float64[Tensor, ""]
    more: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def zero(cls, device: torch.device | str = "cpu", more: tuple[str, ...] = ()) -> Sums:
        return cls.unpacked(torch.zeros(4 + len(more), dtype=torch.float64, device=device), more)

    @classmethod
    def of(cls, trace: Trace, more: tuple[Quantity, ...] = ()) -> Sums:
        """Return the sums of one batch, without gradient.
        Raise ValueError where a measure is not one number for each datum.
        """
        return cls.of_values(values(trace, more))

    @classmethod
    def of_values(cls, of_data: Mapping[str, Tensor]) -> Sums:
        """Return the sums of the `values` of a batch."""
        sums = {name: each.sum() for name, each in of_data.items()}
        rate, distortion, error = (sums.pop(name) for name in ("rate", "distortion", "squared_error"))
        count = torch.full_like(rate, len(of_data["rate"]))
        return cls(count=count, rate=rate, distortion=distortion, squared_error=error, more=sums)

    def __add__(self, other: Sums) -> Sums:
        return Sums.unpacked(self.packed() + other.packed(), tuple(self.more))

    def packed(self) -> Float64[Tensor, " sums"]:
        """Return [count, rate, distortion, squared_error, *more]."""
        return torch.stack([self.count, self.rate, self.distortion, self.squared_error, *self.more.values()])

    @classmethod
    def unpacked(cls, packed: Float64[Tensor, " sums"], more: tuple[str, ...] = ()) -> Sums:
        """Return the sums of a packed vector, the inverse of `packed`; more: the names after the fourth."""
        count, rate, distortion, error, *others = packed.unbind(0)
        named = dict(zip(more, others, strict=True))
        return cls(count=count, rate=rate, distortion=distortion, squared_error=error, more=named)

    def means(self) -> dict[str, float]:
        """Return {"elbo", "rate", "distortion", "squared_error"} per datum, elbo = -(rate + distortion) at beta = 1,
        and the mean of each other measure.
        """
        count, rate, distortion, error, *others = self.packed().tolist()
        if count == 0:
            raise ValueError("no data were evaluated: the split is empty, or no batch of it was added to the sums")
        return {
            "elbo": -(rate + distortion) / count,
            "rate": rate / count,
            "distortion": distortion / count,
            "squared_error": error / count,
            **{name: other / count for name, other in zip(self.more, others, strict=True)},
        }


def values(trace: Trace, more: tuple[Quantity, ...] = ()) -> dict[str, Tensor]:
    """Return rate, distortion, squared_error and `more` of each datum, float64 [batch] by name, without gradient.
    Raise ValueError where a measure is not one number for each datum.
    """
    ours = {"rate": trace.rate, "distortion": trace.distortion, "squared_error": trace.squared_error}
    others = {quantity.name: _per_datum(quantity, trace) for quantity in more}
    return {name: each.detach().double() for name, each in (ours | others).items()}


def _per_datum(quantity: Quantity, trace: Trace) -> Tensor:
    """Return the measure as [batch]. Raise ValueError where it is not one number for each datum."""
    values = quantity.function()(trace)
    batch = trace.distortion.shape[0]
    if not isinstance(values, Tensor) or values.shape != (batch,):
        given = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"the measure {quantity.name} gives {given} for {batch} data: it must be one number for each")
    return values
