"""Encoder and decoder networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from vae_models.config.base import DataShape, Strict
from vae_models.nn.geometry import benchmark_decoder

if TYPE_CHECKING:
    from vae_models.nn.conv import ConvBackbone
    from vae_models.nn.mlp import MLPBackbone


class MLPConfig(Strict):
    """Fully connected: `hidden` widths of the encoder; the decoder mirrors them."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field(
        default=(512, 512), description="widths of the encoder's hidden layers; none: linear"
    )
    activation: Literal["relu", "tanh", "elu", "softplus", "gelu"] = "relu"

    def check(self, data_shape: DataShape) -> None:
        """Any image will do."""

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> MLPBackbone:
        from vae_models.nn.mlp import MLPBackbone

        return MLPBackbone(
            data_shape=data_shape,
            latent=latent,
            hidden=self.hidden,
            activation=self.activation,
            parameters_per_element=parameters_per_element,
            scale=scale,
        )


class ConvConfig(Strict):
    """The benchmark CNN (MR-VAE C.2): Conv4x4/2-BN-ReLU, mirrored decoder. For images of 28, 32 or 64 pixels square."""

    kind: Literal["conv"] = "conv"
    channels: tuple[PositiveInt, ...] = Field(
        default=(128, 256, 512, 1024), description="of the encoder's convolutions; the decoder goes down the last ones"
    )

    def check(self, data_shape: DataShape) -> None:
        """ValueError if the benchmark CNN has no decoder for such images."""
        benchmark_decoder(data_shape, self.channels)

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> ConvBackbone:
        from vae_models.nn.conv import ConvBackbone

        return ConvBackbone(
            data_shape=data_shape,
            latent=latent,
            channels=self.channels,
            parameters_per_element=parameters_per_element,
            scale=scale,
        )


BackboneConfig = Annotated[MLPConfig | ConvConfig, Field(discriminator="kind")]
