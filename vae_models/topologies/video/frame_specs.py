"""The nets of a video's frame, as data: which sides they take, and how large they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from vae_models import bounds
from vae_models.parts import Seam, spec_of
from vae_models.strict import DataShape, Strict

if TYPE_CHECKING:
    from vae_models.topologies.video.frames import FrameNet


class FrameNetSpec(Strict):
    """An encoder of a frame, whose feature maps are kept as skips, and a decoder that reads them, as data."""

    if TYPE_CHECKING:
        kind: str

    @property
    @abstractmethod
    def width(self) -> int:
        """Return how many features a frame has: the encoder's outputs, and the decoder's inputs beside the skips."""

    def refusals(self, frame_shape: DataShape) -> Iterator[str]:
        """Yield a sentence for each reason why it cannot take such frames, (channels, height, width)."""
        return iter(())

    @abstractmethod
    def weights(self, frame_shape: DataShape, parameters_per_element: int) -> int:
        """Return how many numbers are trained. parameters_per_element: of the likelihood."""

    @abstractmethod
    def build(self, frame_shape: DataShape, parameters_per_element: int) -> FrameNet:
        """Return the nets: see `frames.FrameNet`; torch is loaded here."""


class HalvingSpec(FrameNetSpec):
    """A feature map for each scale, each half as high and wide as the one before; the smallest becomes the features."""

    channels: tuple[bounds.Channels, ...] = Field(
        default=(64, 128, 256, 512), min_length=1, max_length=12, description="of each scale's feature maps"
    )
    features: int = Field(default=128, ge=1, le=bounds.WIDTH, description="of a frame")

    @property
    def width(self) -> int:
        """Return how many features a frame has."""
        return self.features

    def top(self, frame_shape: DataShape) -> tuple[int, int]:
        """Return height and width of the map that becomes the features."""
        _, height, width = frame_shape
        return height >> len(self.channels), width >> len(self.channels)

    def refusals(self, frame_shape: DataShape) -> Iterator[str]:
        """Yield that a side cannot be halved so often."""
        _, height, width = frame_shape
        factor = 2 ** len(self.channels)
        if height % factor or width % factor:
            yield (
                f"model.frame_net {self.kind} halves each side {len(self.channels)} times, and the frames are {height} "
                f"x {width}: give frames whose sides are multiples of {factor}, or a model.frame_net.channels of fewer "
                "scales"
            )

    def ends(self, frame_shape: DataShape) -> int:
        """Return how many numbers lead from the smallest map to the features, and back."""
        height, width = self.top(frame_shape)
        last, area = self.channels[-1], height * width
        return _normed(last, self.features, area) + _normed(self.features, last, area)


class DcganConfig(HalvingSpec):
    """Convolutions of 4x4 pixels and stride 2 (Radford et al. 2016), as SVG has them for frames of 64x64."""

    kind: Literal["dcgan"] = "dcgan"

    def weights(self, frame_shape: DataShape, parameters_per_element: int) -> int:
        """Return how many numbers are trained."""
        colours, *_ = frame_shape
        down = sum(_normed(before, after, 16) for before, after in pairwise((colours, *self.channels)))
        up = sum(_normed(2 * before, after, 16) for before, after in pairwise(reversed(self.channels)))
        output = _convolution(2 * self.channels[0], colours * parameters_per_element, 16)
        return down + self.ends(frame_shape) + up + output

    def build(self, frame_shape: DataShape, parameters_per_element: int) -> FrameNet:
        """Return the nets: see `frames.dcgan`."""
        from vae_models.topologies.video import frames

        return frames.dcgan(
            channels=self.channels,
            features=self.features,
            colours=frame_shape[0],
            outputs=frame_shape[0] * parameters_per_element,
            top=self.top(frame_shape),
        )


class VggConfig(HalvingSpec):
    """Several convolutions of 3x3 pixels in each scale (Simonyan and Zisserman 2015), as SVG has them for 64x64."""

    kind: Literal["vgg"] = "vgg"
    layers: tuple[bounds.Channels, ...] = Field(
        default=(2, 2, 3, 3), min_length=1, max_length=12, description="convolutions of each scale"
    )

    @model_validator(mode="after")
    def _each_scale_has_layers(self) -> VggConfig:
        if len(self.layers) != len(self.channels):
            raise ValueError(
                f"layers {list(self.layers)} must have a number for each of the {len(self.channels)} channels"
            )
        return self

    def rise(self, colours: int) -> list[list[tuple[int, int]]]:
        """Return inputs and outputs of each scale's convolutions in the encoder, the largest scale first."""
        widths = pairwise((colours, *self.channels))
        return [
            [(before, after), *[(after, after)] * (count - 1)]
            for (before, after), count in zip(widths, self.layers, strict=True)
        ]

    def fall(self, outputs: int) -> list[list[tuple[int, int]]]:
        """Return inputs and outputs of each scale's convolutions in the decoder, the smallest scale first.

        The first of a scale reads the skip, too; the last has the width of the next scale, and at the end `outputs`.
        """
        scales = zip(self.channels, (outputs, *self.channels[:-1]), self.layers, strict=True)
        mirrored = []
        for width, after, count in scales:
            widths = [2 * width, *[width] * (count - 1), after]
            mirrored.append(list(pairwise(widths)))
        return mirrored[::-1]

    def weights(self, frame_shape: DataShape, parameters_per_element: int) -> int:
        """Return how many numbers are trained."""
        colours, *_ = frame_shape
        outputs = colours * parameters_per_element
        *hidden, (last, _) = [pair for scale in self.fall(outputs) for pair in scale]
        normed = [*(pair for scale in self.rise(colours) for pair in scale), *hidden]
        layers = sum(_normed(before, after, 9) for before, after in normed)
        return layers + self.ends(frame_shape) + _convolution(last, outputs, 9)

    def build(self, frame_shape: DataShape, parameters_per_element: int) -> FrameNet:
        """Return the nets: see `frames.vgg`."""
        from vae_models.topologies.video import frames

        return frames.vgg(
            rise=self.rise(frame_shape[0]),
            fall=self.fall(frame_shape[0] * parameters_per_element),
            features=self.features,
            top=self.top(frame_shape),
        )


def _convolution(inputs: int, outputs: int, area: int) -> int:
    """Return the weights and biases of a convolution whose kernel has so many pixels, transposed or not."""
    return (inputs * area + 1) * outputs


def _normed(inputs: int, outputs: int, area: int) -> int:
    """Return those of a convolution and of a batch norm after it."""
    return _convolution(inputs, outputs, area) + 2 * outputs


FRAME_NETS = Seam[type[FrameNetSpec]](
    "frame-net",
    [
        "vae_models.topologies.video.frame_specs:DcganConfig",
        "vae_models.topologies.video.frame_specs:VggConfig",
    ],
    check=spec_of(FrameNetSpec),
    summary="the encoder and decoder of a video's frame",
)

if TYPE_CHECKING:
    FrameNetConfig = FrameNetSpec
else:
    FrameNetConfig = FRAME_NETS.union()
