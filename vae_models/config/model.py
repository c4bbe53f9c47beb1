"""A topology over its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.config.backbones import BackboneConfig, MLPConfig
from vae_models.config.gating import GatingConfig
from vae_models.config.likelihoods import BernoulliConfig, LikelihoodConfig
from vae_models.config.posteriors import DiagonalNormalConfig, PosteriorConfig
from vae_models.config.priors import PriorConfig, StandardNormalConfig
from vae_models.strict import DataShape, Strict

if TYPE_CHECKING:
    from vae_models.models.multi_rate import MultiRate
    from vae_models.models.vae import VAE


class ModelConfig(Strict):
    """The VAE topology over its parts."""

    kind: Literal["vae"] = "vae"
    latent: int = Field(default=32, ge=1, le=bounds.WIDTH, description="dimensions of z")
    backbone: BackboneConfig = MLPConfig()
    likelihood: LikelihoodConfig = BernoulliConfig()
    prior: PriorConfig = StandardNormalConfig()
    posterior: PosteriorConfig = DiagonalNormalConfig()
    gating: GatingConfig | None = Field(default=None, description="multi-rate gates; none: a model of one beta")

    def build(self, data_shape: DataShape) -> VAE | MultiRate:
        """The model for data of one shape, (channels, height, width), on the CPU in torch's default dtype.

        Parameters are drawn from torch's current generator: seed that, and the model is a pure function of the seed.
        ValueError if the backbone cannot take such data.
        """
        from vae_models.models.vae import VAE

        likelihood, posterior = self.likelihood.build(data_shape), self.posterior.build()
        model = VAE(
            backbone=self.backbone.build(
                data_shape, self.latent, likelihood.parameters_per_element(), scale=posterior.scale
            ),
            likelihood=likelihood,
            prior=self.prior.build(data_shape, self.latent),
            posterior=posterior,
            latent=self.latent,
        )
        return model if self.gating is None else self.gating.build(model)
