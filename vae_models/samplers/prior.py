"""Samples from the prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vae_models.protocols import Model
from vae_models.records import NoiseSpec


@dataclass(frozen=True, kw_only=True)
class PriorSampler:
    """E[x|z] of z ~ p(z): the model's own way."""

    def noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return the prior's noise."""
        return model.prior_noise()

    def __call__(self, model: Model, noise: Mapping[str, Tensor]) -> Tensor:
        """Return the means, [n, *data]."""
        return model.sample_mean(noise)
