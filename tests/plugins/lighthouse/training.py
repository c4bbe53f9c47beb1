"""What is minimised, and beta over a run, as data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vae_models.control.specs import BetaSpec
from vae_models.objectives.specs import ObjectiveSpec


class FreeBitsConfig(ObjectiveSpec):
    """The ELBO with a rate that costs nothing below a floor (Kingma et al. 2016, eq 15, over all dimensions)."""

    kind: Literal["free-bits"] = "free-bits"
    floor: float = Field(default=0.5, ge=0, le=1e6, description="nats per datum")

    def build(self, data_size, data_shape, latent):
        from lighthouse.free_bits import FreeBits

        return FreeBits(floor=self.floor)


class HalfCosineConfig(BetaSpec):
    """beta rises from 0 to `value` along half a cosine over `epochs`, then stays."""

    kind: Literal["half-cosine"] = "half-cosine"
    value: float = Field(default=1.0, ge=0, le=1e6)
    epochs: float = Field(default=2.0, gt=0, le=1e6)

    def build(self, steps_per_epoch):
        from lighthouse.half_cosine import HalfCosine

        return HalfCosine(value=self.value, steps=self.epochs * steps_per_epoch)
