"""A rate that costs nothing below a floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vae_models.objectives.elbo import per_row, reduced


@dataclass(frozen=True, kw_only=True)
class FreeBits:
    """total = mean_i [reconstruction_i + beta_i max(rate_i, floor)], nats per datum."""

    samples: ClassVar[int] = 1

    floor: float

    def noise(self):
        return {}

    def __call__(self, trace, beta, *, model, noise):
        return reduced(trace.reconstruction + per_row(beta, trace) * trace.rate.clamp(min=self.floor), trace)
