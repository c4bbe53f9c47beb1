"""A topology over its parts, and multi-rate gating of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from vae_models import bounds
from vae_models.backbones.specs import BackboneConfig, MLPConfig
from vae_models.likelihoods.specs import BernoulliConfig, LikelihoodConfig
from vae_models.posteriors.specs import DiagonalNormalConfig, PosteriorConfig
from vae_models.priors.specs import PriorConfig, StandardNormalConfig
from vae_models.strict import DataShape, Strict

if TYPE_CHECKING:
    from vae_models.topologies.vae.model import VAE
    from vae_models.topologies.vae.multi_rate import MultiRate


Function = Literal["sigmoid", "sqrt", "film"]


class GatingConfig(Strict):
    """MR-VAE: one model for all beta of a range, its layers gated by log beta. Train it with beta log-uniform."""

    fusible: ClassVar[tuple[str, ...]] = ("low", "high")

    low: float = Field(default=0.01, gt=0, le=bounds.REAL, description="smallest beta")
    high: float = Field(default=10.0, gt=0, le=bounds.REAL, description="largest beta")
    network: Literal["affine", "mlp", "mlp-shared", "mlp-5"] = Field(
        default="affine", description="from log beta to the gates: affine, two layers (first one shared or not), five"
    )
    encoder: Function = "sigmoid"
    decoder: Function = "sqrt"
    hidden: int = Field(default=64, ge=1, le=bounds.WIDTH, description="width of the networks that have hidden layers")
    place: Literal["gates", "batch-norm", "gates-and-batch-norm"] = Field(
        default="gates",
        description="after every hidden layer; as scale and shift of every batch norm (networks of two layers); or "
        "both, the norms' own scale and shift kept and added to: the CNN rows of MR-VAE's table 1",
    )
    heads: bool = Field(
        default=False,
        description="gates on q(z|x) too: on its mean, and on its variance, which a sigmoid multiplies (eqs 26, 30-31)",
    )
    start: Literal["drawn", "theorem-1"] = Field(
        default="drawn",
        description="of the gates: drawn like any layer, or as theorem 1 has them, their kinks spread over log beta",
    )
    repeated: int | None = Field(
        default=None,
        ge=0,
        le=bounds.DEPTH,
        description="the encoder's convolution, from 0, with one more gate, after its activation; none: none has",
    )

    @model_validator(mode="after")
    def _range(self) -> GatingConfig:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if not self.low <= 1 <= self.high:
            raise ValueError("the range must contain beta = 1, at which the ELBO is evaluated")
        return self

    @model_validator(mode="after")
    def _theorem_1_is_of_affine_gates(self) -> GatingConfig:
        if self.start == "theorem-1" and (self.network != "affine" or "film" in (self.encoder, self.decoder)):
            raise ValueError("start theorem-1 is of affine gates: set network to affine, and no function to film")
        return self

    def build(self, model: VAE) -> MultiRate:
        from vae_models.topologies.vae.multi_rate import MultiRate

        return MultiRate(
            model,
            low=self.low,
            high=self.high,
            network=self.network,
            encoder=self.encoder,
            decoder=self.decoder,
            hidden=self.hidden,
            place=self.place,
            heads=self.heads,
            start=self.start,
            repeated=self.repeated,
        )


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
        from vae_models.topologies.vae.model import VAE

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
