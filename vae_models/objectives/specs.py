"""What is minimised. `reported`: the names of its terms; those of a bound are left out where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.measures import EVALUATED
from vae_models.strict import DataShape, Strict

if TYPE_CHECKING:
    from vae_models.objectives.autoencoders import Autoencoder, RegularizedAutoencoder, WaeMmd
    from vae_models.objectives.elbo import Elbo
    from vae_models.objectives.iwae import Iwae
    from vae_models.objectives.total_correlation import TotalCorrelation


class ElboConfig(Strict):
    """distortion + beta x rate."""

    reported: ClassVar[tuple[str, ...]] = EVALUATED

    kind: Literal["elbo"] = "elbo"

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> Elbo:
        """data_size: data in the training split. latent: dimensions of z."""
        from vae_models.objectives.elbo import Elbo

        return Elbo()


class IwaeConfig(Strict):
    """The importance-weighted bound of several posterior samples."""

    reported: ClassVar[tuple[str, ...]] = (*EVALUATED, "iwae")

    kind: Literal["iwae"] = "iwae"
    samples: int = Field(default=50, ge=1, le=bounds.SAMPLES, description="K, posterior samples per datum")

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> Iwae:
        from vae_models.objectives.iwae import Iwae

        return Iwae(samples=self.samples)


class TotalCorrelationConfig(Strict):
    """beta-TCVAE: the rate in three parts, beta on the total correlation."""

    reported: ClassVar[tuple[str, ...]] = (*EVALUATED, "information", "total_correlation", "dimension_kl")

    kind: Literal["tc"] = "tc"
    estimator: Literal["mws", "mss"] = Field(
        default="mws", description="of the aggregate posterior: minibatch-weighted or stratified sampling"
    )

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> TotalCorrelation:
        from vae_models.objectives.total_correlation import TotalCorrelation

        return TotalCorrelation(data_size=data_size, estimator=self.estimator)


class AutoencoderConfig(Strict):
    """The distortion alone."""

    reported: ClassVar[tuple[str, ...]] = EVALUATED

    kind: Literal["ae"] = "ae"

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> Autoencoder:
        from vae_models.objectives.autoencoders import Autoencoder

        return Autoencoder()


class WaeMmdConfig(Strict):
    """distortion + weight x MMD between the aggregate posterior and N(0, I)."""

    reported: ClassVar[tuple[str, ...]] = (*EVALUATED, "mmd")

    fusible: ClassVar[tuple[str, ...]] = ("weight",)

    kind: Literal["wae-mmd"] = "wae-mmd"
    weight: float = Field(default=10.0, ge=0, le=bounds.REAL)

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> WaeMmd:
        from vae_models.objectives.autoencoders import WaeMmd

        return WaeMmd(latent=latent, weight=self.weight)


class RaeConfig(Strict):
    """distortion + a penalty on |z|^2 + one on the decoder: its weights (l2), or its gradient by z (gradient)."""

    reported: ClassVar[tuple[str, ...]] = (*EVALUATED, "latent_square", "regularizer")

    fusible: ClassVar[tuple[str, ...]] = ("latent_weight", "decoder_weight")

    kind: Literal["rae"] = "rae"
    regularizer: Literal["l2", "gradient"] = "l2"
    latent_weight: float = Field(default=1e-4, ge=0, le=bounds.REAL)
    decoder_weight: float = Field(default=1e-7, ge=0, le=bounds.REAL)

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> RegularizedAutoencoder:
        from vae_models.objectives.autoencoders import RegularizedAutoencoder

        return RegularizedAutoencoder(
            data_shape=data_shape,
            regularizer=self.regularizer,
            latent_weight=self.latent_weight,
            decoder_weight=self.decoder_weight,
        )


ObjectiveConfig = Annotated[
    ElboConfig | IwaeConfig | TotalCorrelationConfig | AutoencoderConfig | WaeMmdConfig | RaeConfig,
    Field(discriminator="kind"),
]
