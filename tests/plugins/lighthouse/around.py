"""q(z|x): a normal that never becomes narrower than a floor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from vae_models.posteriors.specs import PosteriorSpec


class FlooredConfig(PosteriorSpec):
    """N(mean(x), diag (sigma(x) + floor)^2)."""

    bound: ClassVar = True
    scale: ClassVar = True
    kind: Literal["floored-normal"] = "floored-normal"
    floor: float = Field(default=0.1, gt=0, le=1e6, description="in units of z")

    def build(self):
        return Floored(floor=self.floor)


@dataclass(frozen=True, kw_only=True)
class Floored:
    """log(sigma + floor), log sigma = raw / 2."""

    scale: ClassVar[bool] = True
    bound: ClassVar[bool] = True

    floor: float

    def normal(self, mean, raw):
        from torch import logaddexp

        return mean, logaddexp(raw / 2, raw.new_tensor(math.log(self.floor)))

    def latent(self, name, mean, raw, noise, prior):
        from vae_models.posteriors.normal import normal_latent

        return normal_latent(name, *self.normal(mean, raw), noise, prior)
