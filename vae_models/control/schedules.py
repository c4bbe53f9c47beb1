"""beta by the step alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models.records import NoiseSpec


@dataclass(frozen=True, kw_only=True)
class Constant:
    """beta_t = value."""

    value: float = 1.0

    def initial(self) -> dict[str, Tensor]:
        """No state."""
        return {}

    def noise(self) -> Mapping[str, NoiseSpec]:
        """None."""
        return {}

    def beta(self, state: Mapping[str, Tensor], step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """A scalar, float64 on the CPU: it takes on the type and device of what it multiplies."""
        return torch.tensor(self.value, dtype=torch.float64)

    def update(self, state: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)

    def trains_prior(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Always."""
        return None


@dataclass(frozen=True, kw_only=True)
class LinearWarmup:
    """beta_t = start + (value - start) * min(1, t / steps), t counted from 0: `start` at the first step."""

    start: float = 0.0
    value: float = 1.0
    steps: float

    def initial(self) -> dict[str, Tensor]:
        """No state."""
        return {}

    def noise(self) -> Mapping[str, NoiseSpec]:
        """None."""
        return {}

    def beta(self, state: Mapping[str, Tensor], step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """A scalar, float64 on the CPU: it takes on the type and device of what it multiplies."""
        fraction = min(1.0, step / self.steps)
        return torch.tensor((1 - fraction) * self.start + fraction * self.value, dtype=torch.float64)

    def update(self, state: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(state)

    def trains_prior(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Always."""
        return None
