"""A sampler that is fitted: z from the normal of the aggregate posterior, each dimension by itself."""

from __future__ import annotations

from typing import Literal

from vae_models.samplers.specs import FittedSamplerSpec


class AggregateConfig(FittedSamplerSpec):
    """z ~ N(mean, diag variance) with the moments of z ~ q(z|x) over the training data."""

    kind: Literal["aggregate"] = "aggregate"

    def fitter(self):
        from lighthouse.moments import Moments

        return Moments()
