"""beta by the step alone, or drawn anew at every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vae_models.records import NoiseSpec


@dataclass(frozen=True, kw_only=True)
class Constant:
    """beta_t = value."""

    value: float = 1.0

    def initial(self) -> dict[str, Tensor]:
        """Return no state."""
        return {}

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: beta is deterministic."""
        return {}

    def beta(self, state: Mapping[str, Tensor], step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """Return beta, a scalar, float64 on the CPU: it takes on the type and device of what it multiplies."""
        return self._tensor

    @cached_property
    def _tensor(self) -> Tensor:
        return torch.tensor(self.value, dtype=torch.float64)

    def update(self, state: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)

    def trains_prior(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return None: the prior is always trained."""
        return None


@dataclass(frozen=True, kw_only=True)
class LinearWarmup:
    """beta_t = start + (value - start) * min(1, t / steps), t counted from 0: `start` at the first step."""

    start: float = 0.0
    value: float = 1.0
    steps: float

    def initial(self) -> dict[str, Tensor]:
        """Return no state."""
        return {}

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: beta is deterministic."""
        return {}

    def beta(self, state: Mapping[str, Tensor], step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """Return beta, a scalar, float64 on the CPU: it takes on the type and device of what it multiplies."""
        fraction = min(1.0, step / self.steps)
        return torch.tensor((1 - fraction) * self.start + fraction * self.value, dtype=torch.float64)

    def update(self, state: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)

    def trains_prior(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return None: the prior is always trained."""
        return None


@dataclass(frozen=True, kw_only=True)
class Held(Constant):
    """beta_t = start for the first `steps` steps, then value."""

    start: float
    steps: float

    def beta(self, state: Mapping[str, Tensor], step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """Return beta, a scalar, float64 on the CPU: it takes on the type and device of what it multiplies."""
        return torch.tensor(self.start if step < self.steps else self.value, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class CyclicWarmup:
    """beta rises from `start` to `value` over the first part of every cycle, then stays until the next one begins.

    beta_t = start + (value - start) * min(1, (t mod steps) / (rising * steps)): Fu et al. 2019, "Cyclical annealing".
    """

    start: float = 0.0
    value: float = 1.0
    steps: float  # of a cycle
    rising: float = 0.5  # part of a cycle

    def initial(self) -> dict[str, Tensor]:
        """Return no state."""
        return {}

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: beta is deterministic."""
        return {}

    def beta(self, state: Mapping[str, Tensor], step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """Return beta, a scalar, float64 on the CPU: it takes on the type and device of what it multiplies."""
        fraction = min(1.0, step % self.steps / (self.rising * self.steps))
        return torch.tensor((1 - fraction) * self.start + fraction * self.value, dtype=torch.float64)

    def update(self, state: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)

    def trains_prior(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return None: the prior is always trained."""
        return None


@dataclass(frozen=True, kw_only=True)
class LogUniform:
    """Every datum has a beta of its own: log beta uniform on [log low, log high] (MR-VAE section 4, eta = log beta).

    With u uniform on (-sqrt 3, sqrt 3), of mean 0 and variance 1, log beta = m + h u / sqrt 3, m and h the middle and
    half the width of the range: u is what a multi-rate model's gates read.
    """

    low: float = 0.01
    high: float = 10.0

    def initial(self) -> dict[str, Tensor]:
        """Return no state."""
        return {}

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise of beta: one uniform number per datum."""
        return {"beta": NoiseSpec(shape=(), kind="uniform")}

    def beta(self, state: Mapping[str, Tensor], step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """Return beta, [batch]."""
        low, high = math.log(self.low), math.log(self.high)
        return torch.exp(low + (high - low) * noise["beta"])

    def update(self, state: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)

    def trains_prior(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return None: the prior is always trained."""
        return None
