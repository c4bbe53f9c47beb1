"""Encoder and decoder networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.backbones import geometry
from vae_models.strict import DataShape, Strict

if TYPE_CHECKING:
    from vae_models.backbones.conv import ConvBackbone
    from vae_models.backbones.mlp import MLPBackbone
    from vae_models.backbones.stacks import StackBackbone


def _size(data_shape: DataShape) -> tuple[int, int]:
    return data_shape[1], data_shape[2]


Activation = Literal["relu", "tanh", "elu", "softplus", "gelu", "identity"]


class MLPConfig(Strict):
    """Fully connected: `hidden` widths of the encoder; the decoder mirrors them."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[bounds.Width, ...] = Field(
        default=(512, 512), max_length=bounds.DEPTH, description="widths of the encoder's hidden layers; none: linear"
    )
    activation: Activation = "relu"
    decoder_hidden: tuple[bounds.Width, ...] | None = Field(
        default=None,
        max_length=bounds.DEPTH,
        description="widths of the decoder's hidden layers, from z on; none: the encoder's reversed",
    )
    decoder_activation: Activation | None = Field(default=None, description="none: the encoder's")

    def check(self, data_shape: DataShape) -> None:
        """Any image will do."""

    def normed_values(self, data_shape: DataShape) -> int | None:
        """The fewest values per channel of one datum that a batch norm has; None: there is no batch norm."""

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> MLPBackbone:
        from vae_models.backbones.mlp import MLPBackbone

        self.check(data_shape)
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
    """The benchmark CNN (MR-VAE C.2): Conv4x4/2-BN-ReLU, mirrored decoder. Published for 28, 32 and 64 pixels."""

    kind: Literal["conv"] = "conv"
    channels: tuple[bounds.Channels, ...] = Field(
        default=(128, 256, 512, 1024),
        max_length=bounds.DEPTH,
        description="of the encoder's convolutions; the decoder goes down the last ones",
    )

    def check(self, data_shape: DataShape) -> None:
        """ValueError if nothing is left of such images after a halving for each of `channels`."""
        geometry.benchmark_decoder(data_shape, self.channels)

    def normed_values(self, data_shape: DataShape) -> int | None:
        """Of the last convolution."""
        return geometry.features_left(data_shape, len(self.channels))

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> ConvBackbone:
        from vae_models.backbones.conv import ConvBackbone

        self.check(data_shape)
        return ConvBackbone(
            data_shape=data_shape,
            latent=latent,
            channels=self.channels,
            parameters_per_element=parameters_per_element,
            scale=scale,
        )


class ResNetConfig(Strict):
    """The benchmark ResNet (MR-VAE C.2). Published for 28, 32 and 64 pixels square."""

    kind: Literal["resnet"] = "resnet"
    channels: int = Field(default=128, ge=2, le=bounds.CHANNELS, multiple_of=2)

    def check(self, data_shape: DataShape) -> None:
        """ValueError if nothing is left of such images."""
        geometry.check_size(self.kind, data_shape, geometry.resnet_encoder(_size(data_shape)))

    def normed_values(self, data_shape: DataShape) -> int | None:
        """No batch norm."""

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.backbones.resnet import resnet

        self.check(data_shape)
        return resnet(
            data_shape=data_shape,
            latent=latent,
            channels=self.channels,
            parameters_per_element=parameters_per_element,
            scale=scale,
        )


class SigmaVaeConfig(Strict):
    """sigma-VAE's three convolutions and their mirror image."""

    kind: Literal["sigma-vae"] = "sigma-vae"
    channels: int = Field(
        default=32,
        ge=1,
        le=bounds.CHANNELS // 4,
        description="of the first convolution; doubled twice (128 on CIFAR-10)",
    )

    def check(self, data_shape: DataShape) -> None:
        """ValueError if nothing is left of such images."""
        geometry.check_size(self.kind, data_shape, geometry.SIGMA_VAE_ENCODER, geometry.SIGMA_VAE_DECODER)

    def normed_values(self, data_shape: DataShape) -> int | None:
        """No batch norm."""

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.backbones.stacks import sigma_vae

        self.check(data_shape)
        return sigma_vae(
            data_shape=data_shape,
            latent=latent,
            channels=self.channels,
            parameters_per_element=parameters_per_element,
            scale=scale,
        )


class InfoGanConfig(Strict):
    """AR-ELBO's nets. Published for 28 (appendices I.1; D.1: norm false, kernel 4), 64 and 128 pixels square."""

    kind: Literal["infogan"] = "infogan"
    norm: bool = Field(default=True, description="batch norm")
    kernel: Literal[4, 5] = 5

    def check(self, data_shape: DataShape) -> None:
        """ValueError if nothing is left of such images."""
        size = _size(data_shape)
        stacks = geometry.infogan_encoder(size, self.kernel), geometry.infogan_decoder(size, self.kernel)
        geometry.check_size(self.kind, data_shape, *stacks)

    def normed_values(self, data_shape: DataShape) -> int | None:
        """Of the small nets' linear layers, or of the large ones' last convolution."""
        size = _size(data_shape)
        if not self.norm:
            return None
        if not geometry.infogan_is_large(size):
            return 1
        return math.prod(geometry.sizes(size, geometry.infogan_encoder(size, self.kernel))[-1])

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.backbones.stacks import infogan

        self.check(data_shape)
        return infogan(
            data_shape=data_shape,
            latent=latent,
            norm=self.norm,
            kernel=self.kernel,
            parameters_per_element=parameters_per_element,
            scale=scale,
        )


class VhpConvConfig(Strict):
    """VHP's nets for Faces and Chairs (table 3). Published for 64 pixels square."""

    kind: Literal["vhp-conv"] = "vhp-conv"

    def check(self, data_shape: DataShape) -> None:
        """Any image will do: what is halved is rounded up."""

    def normed_values(self, data_shape: DataShape) -> int | None:
        """No batch norm."""

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.backbones.stacks import vhp_conv

        self.check(data_shape)
        return vhp_conv(
            data_shape=data_shape, latent=latent, parameters_per_element=parameters_per_element, scale=scale
        )


class VhpGatedConfig(Strict):
    """VHP's gated nets (table 3). Published for 28 pixels square."""

    kind: Literal["vhp-gated"] = "vhp-gated"

    def check(self, data_shape: DataShape) -> None:
        """Any image will do: what is halved is rounded up."""

    def normed_values(self, data_shape: DataShape) -> int | None:
        """No batch norm."""

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.backbones.stacks import vhp_gated

        self.check(data_shape)
        return vhp_gated(
            data_shape=data_shape, latent=latent, parameters_per_element=parameters_per_element, scale=scale
        )


BackboneConfig = Annotated[
    MLPConfig | ConvConfig | ResNetConfig | SigmaVaeConfig | InfoGanConfig | VhpConvConfig | VhpGatedConfig,
    Field(discriminator="kind"),
]
