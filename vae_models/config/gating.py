"""Multi-rate gating of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from vae_models.config import bounds
from vae_models.config.base import Strict

if TYPE_CHECKING:
    from vae_models.models.multi_rate import MultiRate
    from vae_models.models.vae import VAE

Function = Literal["sigmoid", "sqrt", "film"]


class GatingConfig(Strict):
    """MR-VAE: one model for all beta of a range, its layers gated by log beta. Train it with beta log-uniform."""

    low: float = Field(default=0.01, gt=0, le=bounds.REAL, description="smallest beta")
    high: float = Field(default=10.0, gt=0, le=bounds.REAL, description="largest beta")
    network: Literal["affine", "mlp", "mlp-shared", "mlp-5"] = Field(
        default="affine", description="from log beta to the gates: affine, two layers (first one shared or not), five"
    )
    encoder: Function = "sigmoid"
    decoder: Function = "sqrt"
    hidden: int = Field(default=64, ge=1, le=bounds.WIDTH, description="width of the networks that have hidden layers")
    place: Literal["gates", "batch-norm"] = Field(
        default="gates",
        description="after every hidden layer, or as scale and shift of every batch norm (networks of two layers)",
    )

    @model_validator(mode="after")
    def _range(self) -> GatingConfig:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if not self.low <= 1 <= self.high:
            raise ValueError("the range must contain beta = 1, at which the ELBO is evaluated")
        return self

    def build(self, model: VAE) -> MultiRate:
        from vae_models.models.multi_rate import MultiRate

        return MultiRate(
            model,
            low=self.low,
            high=self.high,
            network=self.network,
            encoder=self.encoder,
            decoder=self.decoder,
            hidden=self.hidden,
            place=self.place,
        )
