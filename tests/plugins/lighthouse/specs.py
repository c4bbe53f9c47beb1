"""What can be written in a specification. Nothing here loads torch; `build` does."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from vae_models.backbones.specs import BackboneSpec
from vae_models.likelihoods.specs import LikelihoodSpec
from vae_models.priors.specs import PriorSpec


class LaplaceConfig(LikelihoodSpec):
    """A Laplace density around the decoder's output: absolute errors instead of squared ones."""

    measure: ClassVar = "density"
    supports: ClassVar = frozenset({"bytes", "unit", "reals"})
    fusible: ClassVar = ("scale",)
    kind: Literal["laplace"] = "laplace"
    scale: float = Field(default=1.0, gt=0, le=1e6, description="b, in units of x")

    def build(self, data_shape):
        from lighthouse.laplace import Laplace

        return Laplace(scale=self.scale)


class LogisticConfig(PriorSpec):
    """Independent logistic densities: heavier tails than the normal's."""

    trained: ClassVar = False
    kind: Literal["logistic"] = "logistic"

    def build(self, data_shape, latent):
        from lighthouse.logistic import Logistic

        return Logistic(latent=latent)


class ResidualConfig(BackboneSpec):
    """For vectors: a hidden layer, and a straight way beside it."""

    kind: Literal["residual"] = "residual"
    width: int = Field(default=32, ge=1, le=4096)

    def widths(self):
        return (self.width,)

    def build(self, data_shape, latent, parameters_per_element, *, scale=True):
        from lighthouse.residual import Residual

        return Residual(data_shape, latent, self.width, parameters_per_element, scale=scale)
