"""p(z)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.strict import DataShape, Strict

if TYPE_CHECKING:
    from vae_models.priors.standard_normal import StandardNormal
    from vae_models.priors.vampprior import VampPrior
    from vae_models.priors.vhp import VHP


class StandardNormalConfig(Strict):
    """N(0, I)."""

    kind: Literal["standard-normal"] = "standard-normal"

    def build(self, data_shape: DataShape, latent: int) -> StandardNormal:
        from vae_models.priors.standard_normal import StandardNormal

        return StandardNormal(latent=latent)


class VHPConfig(Strict):
    """A learned hierarchical prior: p(z|zeta) under N(0, I), with an importance-weighted bound on log p(z)."""

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


class VampPriorConfig(Strict):
    """A mixture of the posteriors of trained pseudo-inputs."""

    fusible: ClassVar[tuple[str, ...]] = ("mean", "deviation")

    kind: Literal["vampprior"] = "vampprior"
    components: int = Field(default=500, ge=1, le=bounds.COMPONENTS)
    mean: float = Field(default=0.5, ge=-bounds.REAL, le=bounds.REAL, description="of the pseudo-inputs at the start")
    deviation: float = Field(
        default=0.05, ge=0, le=bounds.REAL, description="standard deviation of the pseudo-inputs at the start"
    )
    clip: bool = Field(default=True, description="pseudo-inputs are clipped to [0, 1], the range of images")

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


PriorConfig = Annotated[StandardNormalConfig | VHPConfig | VampPriorConfig, Field(discriminator="kind")]
