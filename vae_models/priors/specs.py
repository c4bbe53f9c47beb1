"""p(z), as data: which priors are trained, how large they are, and what they send through the encoder."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.parts import Seam, spec_of
from vae_models.strict import DataShape, Strict, dense_weights

if TYPE_CHECKING:
    from vae_models.priors.standard_normal import StandardNormal
    from vae_models.priors.vampprior import VampPrior
    from vae_models.priors.vhp import VHP
    from vae_models.protocols import Prior


class PriorSpec(Strict):
    """A prior p(z), as data.

    trained: whether it has parameters, which an objective must train
    """

    trained: ClassVar[bool]

    if TYPE_CHECKING:
        kind: str

    def weights(self, latent: int, data_shape: DataShape) -> int:
        """Return about how many numbers are trained; latent: dimensions of z."""
        return 0

    def against_bf16(self) -> str | None:
        """Return why its networks are not computed in bfloat16; one that makes what they return `precision.full`
        before it computes a density of it returns None.
        """
        if not self.trained:
            return None
        return f"prior {self.kind} does not say that it computes densities in float32 of what its networks return"

    def pseudo_inputs(self) -> int | None:
        """Return how many pseudo-inputs it sends through the encoder in each step; None: it needs no encoder."""
        return None

    @abstractmethod
    def build(self, data_shape: DataShape, latent: int) -> Prior:
        """Return the prior over z of `latent` dimensions; torch is loaded here."""


class StandardNormalConfig(PriorSpec):
    """N(0, I)."""

    trained: ClassVar[bool] = False

    kind: Literal["standard-normal"] = "standard-normal"

    def build(self, data_shape: DataShape, latent: int) -> StandardNormal:
        from vae_models.priors.standard_normal import StandardNormal

        return StandardNormal(latent=latent)


class VHPConfig(PriorSpec):
    """A learned hierarchical prior: p(z|zeta) under N(0, I), with an importance-weighted bound on log p(z)."""

    trained: ClassVar[bool] = True

    kind: Literal["vhp"] = "vhp"
    inner: int | None = Field(
        default=None, ge=1, le=bounds.WIDTH, description="dimensions of zeta; none: as many as z has"
    )
    importance_samples: int = Field(
        default=16, ge=1, le=bounds.SAMPLES, description="K of the bound; 1: the plain ELBO"
    )
    hidden: tuple[bounds.Width, ...] = Field(
        default=(256, 256, 256, 256), max_length=bounds.DEPTH, description="widths of both networks"
    )
    activation: Literal["relu", "tanh", "elu", "softplus", "gelu"] = "relu"
    gated: bool = Field(default=False, description="gated layers without any other activation")

    def weights(self, latent: int, data_shape: DataShape) -> int:
        """Return the weights of q(zeta|z) and p(z|zeta): hidden layers, gated ones twice, and the two heads of each."""
        inner, gated = self.inner or latent, 2 if self.gated else 1
        last = self.hidden[-1] if self.hidden else None
        return sum(
            gated * dense_weights([start, *self.hidden]) + dense_weights([last or start, 2 * end])
            for start, end in ((latent, inner), (inner, latent))
        )

    def against_bf16(self) -> None:
        """Return None: what the networks return becomes float32 before a density is computed of it."""

    def build(self, data_shape: DataShape, latent: int) -> VHP:
        from vae_models.priors.vhp import VHP

        return VHP.of_widths(
            latent=latent,
            inner=self.inner or latent,
            importance_samples=self.importance_samples,
            hidden=self.hidden,
            activation=self.activation,
            gated=self.gated,
        )


class VampPriorConfig(PriorSpec):
    """A mixture of the posteriors of trained pseudo-inputs."""

    trained: ClassVar[bool] = True
    fusible: ClassVar[tuple[str, ...]] = ("mean", "deviation")

    kind: Literal["vampprior"] = "vampprior"
    components: int = Field(default=500, ge=1, le=bounds.COMPONENTS)
    mean: float = Field(default=0.5, ge=-bounds.REAL, le=bounds.REAL, description="of the pseudo-inputs at the start")
    deviation: float = Field(
        default=0.05, ge=0, le=bounds.REAL, description="standard deviation of the pseudo-inputs at the start"
    )
    clip: bool = Field(default=True, description="pseudo-inputs are clipped to [0, 1], the range of images")

    def weights(self, latent: int, data_shape: DataShape) -> int:
        """Return the number of values of the pseudo-inputs."""
        return self.components * math.prod(data_shape)

    def pseudo_inputs(self) -> int | None:
        """Return the number of components: one pseudo-input for each."""
        return self.components

    def against_bf16(self) -> None:
        """Return None: what the networks return becomes float32 before a density is computed of it."""

    def build(self, data_shape: DataShape, latent: int) -> VampPrior:
        from vae_models.priors.vampprior import VampPrior

        return VampPrior(
            data_shape=data_shape,
            latent=latent,
            components=self.components,
            mean=self.mean,
            deviation=self.deviation,
            clip=self.clip,
        )


OURS = (
    StandardNormalConfig,
    VHPConfig,
    VampPriorConfig,
)
PRIORS = Seam[type[PriorSpec]]("prior", ["vae_models.priors.specs:OURS"], check=spec_of(PriorSpec), summary="p(z)")

if TYPE_CHECKING:
    PriorConfig = PriorSpec
else:
    PriorConfig = PRIORS.union()
