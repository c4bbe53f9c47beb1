"""A topology of two latents, as data."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from vae_models.likelihoods.specs import BernoulliConfig, LikelihoodConfig
from vae_models.topologies.specs import TopologySpec


class LadderConfig(TopologySpec):
    """p(z2) p(z1|z2) p(x|z1), with q(z1|x) q(z2|z1): z1 is nearest to x."""

    kind: Literal["two-ladder"] = "two-ladder"
    latent: int = Field(default=4, ge=1, le=1000, description="dimensions of each of the two")
    likelihood: LikelihoodConfig = BernoulliConfig()

    def latents(self):
        return {"z1": (self.latent,), "z2": (self.latent,)}

    def weights(self, data_shape):
        return 4 * self.latent * (math.prod(data_shape) + self.latent)

    def build(self, data_shape):
        from lighthouse.ladder_draws import DrawnLadder

        return DrawnLadder(self.likelihood.build(data_shape), data_shape, self.latent)
