"""Encoder and decoder networks, as data: which data they take, how large they are, and what of them may be gated."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.backbones import geometry
from vae_models.data.spec import AXES, Axis
from vae_models.parts import Seam, spec_of
from vae_models.strict import DataShape, Strict, dense_weights

if TYPE_CHECKING:
    from vae_models.backbones.conv import ConvBackbone
    from vae_models.backbones.mlp import MLPBackbone
    from vae_models.backbones.skip import SkipMLPBackbone
    from vae_models.backbones.stacks import StackBackbone
    from vae_models.protocols import Backbone


def _size(data_shape: DataShape) -> tuple[int, int]:
    return data_shape[1], data_shape[2]


Activation = Literal["relu", "tanh", "elu", "softplus", "gelu", "identity"]


class BackboneSpec(Strict):
    """A pair of networks, as data.

    axes: what the dimensions of a datum have to be; None: anything, x is laid flat
    """

    axes: ClassVar[tuple[Axis, ...] | None] = None

    if TYPE_CHECKING:
        kind: str

    def check(self, data_shape: DataShape) -> None:
        """Raise ValueError that describes the data it takes, unless these are such."""

    def normed_values(self, data_shape: DataShape) -> int | None:
        """Return the fewest values per channel of one datum that a batch norm sees; None: there is no batch norm."""
        return None

    def widths(self) -> tuple[int, ...]:
        """Return the widths of the encoder's hidden layers; empty for published nets, whose widths are fixed."""
        return ()

    def weights(self, data_shape: DataShape, latent: int, heads: int, parameters_per_element: int) -> int:
        """Return about how many numbers are trained, from the specification alone. heads: outputs of the encoder."""
        return geometry.weights(data_shape, self.widths(), heads + latent)

    def layers(self) -> int:
        """Return how many hidden layers may be gated."""
        return 1

    def repeatable(self) -> int:
        """Return how many of the encoder's layers may have one more gate, after their activation."""
        return 0

    def normed(self) -> bool:
        """Return whether there is a batch norm, which may be gated."""
        return False

    def against_micro_batch(self) -> str | None:
        """Return that a batch norm takes the statistics of what it is given, if there is one."""
        return (
            f"the {self.kind} backbone's batch norm takes the statistics of the whole batch" if self.normed() else None
        )

    @abstractmethod
    def build(self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True) -> Backbone:
        """Return the networks for data of this shape; torch is loaded here. scale: whether q(z|x) reads a raw scale."""


class MLPConfig(BackboneSpec):
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

    def widths(self) -> tuple[int, ...]:
        """Return the widths of the encoder's hidden layers."""
        return self.hidden

    def layers(self) -> int:
        """Return the number of hidden layers of both networks."""
        return len(self.hidden) + len(self.decoder())

    def decoder(self) -> tuple[int, ...]:
        """Return the widths of the decoder's hidden layers, from z on."""
        return self.hidden[::-1] if self.decoder_hidden is None else self.decoder_hidden

    def weights(self, data_shape: DataShape, latent: int, heads: int, parameters_per_element: int) -> int:
        """Return how many numbers are trained, exactly."""
        elements = math.prod(data_shape)
        return dense_weights([elements, *self.hidden, heads]) + dense_weights(
            [latent, *self.decoder(), elements * parameters_per_element]
        )

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


class SkipMLPConfig(BackboneSpec):
    """Fully connected, the input of each network beside its last hidden layer: a second-stage VAE's nets."""

    kind: Literal["skip-mlp"] = "skip-mlp"
    hidden: tuple[bounds.Width, ...] = Field(
        default=(1024, 1024, 1024),
        min_length=1,
        max_length=bounds.DEPTH,
        description="widths of the encoder's hidden layers; the decoder has them reversed",
    )
    activation: Activation = "relu"

    def widths(self) -> tuple[int, ...]:
        """Return the widths of the encoder's hidden layers."""
        return self.hidden

    def layers(self) -> int:
        """Return the number of hidden layers of both networks."""
        return 2 * len(self.hidden)

    def weights(self, data_shape: DataShape, latent: int, heads: int, parameters_per_element: int) -> int:
        """Return how many numbers are trained, exactly."""
        elements, up = math.prod(data_shape), self.hidden
        encoder = dense_weights([elements, *up]) + dense_weights([up[-1] + elements, heads])
        last = dense_weights([up[0] + latent, elements * parameters_per_element])
        return encoder + dense_weights([latent, *up[::-1]]) + last

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> SkipMLPBackbone:
        from vae_models.backbones.skip import SkipMLPBackbone

        self.check(data_shape)
        return SkipMLPBackbone(
            data_shape=data_shape,
            latent=latent,
            hidden=self.hidden,
            activation=self.activation,
            parameters_per_element=parameters_per_element,
            scale=scale,
        )


class ConvConfig(BackboneSpec):
    """The benchmark CNN (MR-VAE C.2): Conv4x4/2-BN-ReLU, mirrored decoder. Published for 28, 32 and 64 pixels."""

    axes: ClassVar[tuple[Axis, ...] | None] = AXES

    kind: Literal["conv"] = "conv"
    channels: tuple[bounds.Channels, ...] = Field(
        default=(128, 256, 512, 1024),
        max_length=bounds.DEPTH,
        description="of the encoder's convolutions; the decoder goes down the last ones",
    )

    def check(self, data_shape: DataShape) -> None:
        """Raise ValueError if the halvings, one for each of `channels`, leave nothing of such images."""
        geometry.benchmark_decoder(data_shape, self.channels)

    def widths(self) -> tuple[int, ...]:
        """Return the channels of the convolutions."""
        return self.channels

    def repeatable(self) -> int:
        """Return the number of convolutions: every one may have one more gate."""
        return len(self.channels)

    def normed(self) -> bool:
        """Return whether there is a batch norm: after every convolution."""
        return True

    def normed_values(self, data_shape: DataShape) -> int | None:
        """Return the values per channel after the last convolution, the fewest that a batch norm sees."""
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


class ResNetConfig(BackboneSpec):
    """The benchmark ResNet (MR-VAE C.2). Published for 28, 32 and 64 pixels square."""

    axes: ClassVar[tuple[Axis, ...] | None] = AXES

    kind: Literal["resnet"] = "resnet"
    channels: int = Field(default=128, ge=2, le=bounds.CHANNELS, multiple_of=2)

    def widths(self) -> tuple[int, ...]:
        """Return the channels of the blocks."""
        return (self.channels,) * 4

    def check(self, data_shape: DataShape) -> None:
        """Raise ValueError if the encoder leaves nothing of such images."""
        geometry.check_size(self.kind, data_shape, geometry.resnet_encoder(_size(data_shape)))

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


class SigmaVaeConfig(BackboneSpec):
    """sigma-VAE's three convolutions and their mirror image."""

    axes: ClassVar[tuple[Axis, ...] | None] = AXES

    kind: Literal["sigma-vae"] = "sigma-vae"
    channels: int = Field(
        default=32,
        ge=1,
        le=bounds.CHANNELS // 4,
        description="of the first convolution; doubled twice (128 on CIFAR-10)",
    )

    def widths(self) -> tuple[int, ...]:
        """Return the channels of the convolutions."""
        return self.channels, 2 * self.channels, 4 * self.channels

    def check(self, data_shape: DataShape) -> None:
        """Raise ValueError if the encoder leaves nothing of such images."""
        geometry.check_size(self.kind, data_shape, geometry.SIGMA_VAE_ENCODER, geometry.SIGMA_VAE_DECODER)

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


class InfoGanConfig(BackboneSpec):
    """AR-ELBO's nets. Published for 28 (appendices I.1; D.1: norm false, kernel 4), 64 and 128 pixels square."""

    axes: ClassVar[tuple[Axis, ...] | None] = AXES

    kind: Literal["infogan"] = "infogan"
    norm: bool = Field(default=True, description="batch norm")
    kernel: Literal[4, 5] = 5

    def normed(self) -> bool:
        """Return whether `norm` asks for batch norm."""
        return self.norm

    def check(self, data_shape: DataShape) -> None:
        """Raise ValueError if the encoder leaves nothing of such images."""
        size = _size(data_shape)
        stacks = geometry.infogan_encoder(size, self.kernel), geometry.infogan_decoder(size, self.kernel)
        geometry.check_size(self.kind, data_shape, *stacks)

    def normed_values(self, data_shape: DataShape) -> int | None:
        """Return the values per channel at the small nets' linear layers, or after the large nets' last convolution."""
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


class VhpConvConfig(BackboneSpec):
    """VHP's nets for Faces and Chairs (table 3). Published for 64 pixels square."""

    axes: ClassVar[tuple[Axis, ...] | None] = AXES

    kind: Literal["vhp-conv"] = "vhp-conv"

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.backbones.stacks import vhp_conv

        self.check(data_shape)
        return vhp_conv(
            data_shape=data_shape, latent=latent, parameters_per_element=parameters_per_element, scale=scale
        )


class VhpGatedConfig(BackboneSpec):
    """VHP's gated nets (table 3). Published for 28 pixels square."""

    axes: ClassVar[tuple[Axis, ...] | None] = AXES

    kind: Literal["vhp-gated"] = "vhp-gated"

    def build(
        self, data_shape: DataShape, latent: int, parameters_per_element: int, *, scale: bool = True
    ) -> StackBackbone:
        from vae_models.backbones.stacks import vhp_gated

        self.check(data_shape)
        return vhp_gated(
            data_shape=data_shape, latent=latent, parameters_per_element=parameters_per_element, scale=scale
        )


OURS = (
    MLPConfig,
    SkipMLPConfig,
    ConvConfig,
    ResNetConfig,
    SigmaVaeConfig,
    InfoGanConfig,
    VhpConvConfig,
    VhpGatedConfig,
)
BACKBONES = Seam[type[BackboneSpec]](
    "backbone",
    ["vae_models.backbones.specs:OURS"],
    check=spec_of(BackboneSpec),
    summary="the encoder's and the decoder's networks",
)

if TYPE_CHECKING:
    BackboneConfig = BackboneSpec
else:
    BackboneConfig = BACKBONES.union()
