"""beta along half a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class HalfCosine:
    """beta_t = value (1 - cos(pi min(1, t / steps))) / 2, t counted from 0."""

    value: float
    steps: float

    def initial(self):
        return {}

    def noise(self):
        return {}

    def beta(self, state, step, noise):
        done = min(1.0, step / self.steps)
        return torch.tensor(self.value * (1 - math.cos(math.pi * done)) / 2, dtype=torch.float64)

    def update(self, state, terms):
        return dict(state)

    def trains_prior(self, state):
        """None: in every step."""
        return
