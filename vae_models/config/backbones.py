"""Encoder and decoder networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from vae_models.config.base import DataShape, Strict
from vae_models.nn.geometry import benchmark_decoder

if TYPE_CHECKING:
    from vae_models.nn.conv import ConvBackbone
    from vae_models.nn.mlp import MLPBackbone
    from vae_models.nn.stacks import StackBackbone


Activation = Literal["relu", "tanh", "elu", "softplus", "gelu", "identity"]


class MLPConfig(Strict):
    """Fully connected: `hidden` widths of the encoder; the decoder mirrors them."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field(
        default=(512, 512), description="widths of the encoder's hidden layers; none: linear"
    )
    activation: Activation = "relu"
    decoder_hidden: tuple[PositiveInt, ...] | None = Field(
        default=None, description="widths of the decoder's hidden layers, from z on; none: the encoder's reversed"
    )
    decoder_activation: Activation | None = Field(default=None, description="none: the encoder's")

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
            decoder_hidden=self.decoder_hidden,
            decoder_activation=self.decoder_activation,
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


def _square(data_shape: DataShape, sides: tuple[int, ...], kind: str) -> None:
    """ValueError unless the images are square with one of these sides."""
    _, height, width = data_shape
    if height != width or height not in sides:
        allowed = ", ".join(f"{side} x {side}" for side in sides)
        raise ValueError(
            f"the {kind} backbone takes images of {allowed} pixels, not {height} x {width}: use an mlp backbone"
        )


class ResNetConfig(Strict):
    """The benchmark ResNet (MR-VAE C.2), for images of 28, 32 or 64 pixels square."""

    kind: Literal["resnet"] = "resnet"
    channels: int = Field(default=128, ge=2, multiple_of=2)

    def check(self, data_shape: DataShape) -> None:
        _square(data_shape, (28, 32, 64), self.kind)

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.nn.resnet import resnet

        return resnet(
            data_shape=data_shape,
            latent=latent,
            channels=self.channels,
            parameters_per_element=parameters_per_element,
            scale=scale,
        )


class SigmaVaeConfig(Strict):
    """sigma-VAE's three convolutions and their mirror image, for square images of 16 pixels or more."""

    kind: Literal["sigma-vae"] = "sigma-vae"
    channels: int = Field(default=32, ge=1, description="of the first convolution; doubled twice (128 on CIFAR-10)")

    def check(self, data_shape: DataShape) -> None:
        _, height, width = data_shape
        if height != width or height < 16:
            raise ValueError(f"the sigma-vae backbone takes square images of 16 pixels or more, not {height} x {width}")

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.nn.stacks import sigma_vae

        return sigma_vae(
            data_shape=data_shape,
            latent=latent,
            channels=self.channels,
            parameters_per_element=parameters_per_element,
            scale=scale,
        )


class InfoGanConfig(Strict):
    """AR-ELBO's nets, for images of 28 (appendices I.1; D.1: norm false, kernel 4), 64 or 128 pixels square."""

    kind: Literal["infogan"] = "infogan"
    norm: bool = Field(default=True, description="batch norm")
    kernel: Literal[4, 5] = 5

    def check(self, data_shape: DataShape) -> None:
        _square(data_shape, (28, 64, 128), self.kind)

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.nn.stacks import infogan

        return infogan(
            data_shape=data_shape,
            latent=latent,
            norm=self.norm,
            kernel=self.kernel,
            parameters_per_element=parameters_per_element,
            scale=scale,
        )


class VhpConvConfig(Strict):
    """VHP's nets for Faces and Chairs (table 3), for images of 64 pixels square."""

    kind: Literal["vhp-conv"] = "vhp-conv"

    def check(self, data_shape: DataShape) -> None:
        _square(data_shape, (64,), self.kind)

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.nn.stacks import vhp_conv

        return vhp_conv(
            data_shape=data_shape, latent=latent, parameters_per_element=parameters_per_element, scale=scale
        )


class VhpGatedConfig(Strict):
    """VHP's gated nets (table 3), for images of 28 pixels square."""

    kind: Literal["vhp-gated"] = "vhp-gated"

    def check(self, data_shape: DataShape) -> None:
        _square(data_shape, (28,), self.kind)

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.nn.stacks import vhp_gated

        return vhp_gated(
            data_shape=data_shape, latent=latent, parameters_per_element=parameters_per_element, scale=scale
        )


BackboneConfig = Annotated[
    MLPConfig | ConvConfig | ResNetConfig | SigmaVaeConfig | InfoGanConfig | VhpConvConfig | VhpGatedConfig,
    Field(discriminator="kind"),
]
