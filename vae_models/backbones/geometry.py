"""Sizes of convolutional stacks, as data: no torch here, so that a config can be checked without loading it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

Size = tuple[int, int]  # (height, width)
DataShape = tuple[int, ...]

_LARGEST = 1 << 16  # pixels a side; no stack here needs images so large


@dataclass(frozen=True)
class Window:
    """Kernel, stride and padding of a convolution, and of the transposed one that gives the size back."""

    kernel: int
    stride: int = 1
    padding: int = 0

    def convolved(self, size: Size) -> Size:
        """Return floor((n + 2 padding - kernel) / stride) + 1 along each axis;
        below 1 where the kernel does not fit.
        """
        height, width = ((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in size)
        return height, width

    def rest(self, size: Size) -> Size:
        """Return the output padding with which the transposed convolution makes `size` of `convolved(size)`.

        Of m it makes (m - 1) stride - 2 padding + kernel + output padding, so this is the remainder of the floor above.
        """
        height, width = ((n + 2 * self.padding - self.kernel) % self.stride for n in size)
        return height, width


PUBLISHED_FEATURES = 2**14  # before the heads, of nets without a width of choice
KERNEL = 16  # weights of a convolution from one channel to one: those here have 3 x 3 to 6 x 6


def weights(data_shape: DataShape, widths: Sequence[int], heads: int) -> int:
    """Return the trained numbers of two mirrored stacks of convolutions that halve height and width, to a factor of a
    few. heads: numbers at their narrow ends; widths: channels; without widths (published nets), only what the heads
    add.
    """
    features = widths[-1] * max(1, math.prod(data_shape[1:]) >> 2 * len(widths)) if widths else PUBLISHED_FEATURES
    convolutions = 2 * KERNEL * sum(before * after for before, after in pairwise((data_shape[0], *widths)))
    return convolutions + features * heads


def sizes(size: Size, windows: Sequence[Window]) -> list[Size]:
    """Return `size`, and the size after each of the convolutions."""
    reached = [size]
    for window in windows:
        reached.append(window.convolved(reached[-1]))
    return reached


def check_size(kind: str, data_shape: DataShape, *stacks: Sequence[Window]) -> None:
    """Raise ValueError if one of the stacks of convolutions leaves nothing of images of `data_shape`."""
    if all(_is_enough((data_shape[1], data_shape[2]), windows) for windows in stacks):
        return
    side = next(n for n in range(1, _LARGEST) if all(_is_enough((n, n), windows) for windows in stacks))
    raise ValueError(
        f"the {kind} backbone takes images of {side} x {side} pixels or more, not {data_shape[1]} x {data_shape[2]}: "
        "use an mlp backbone"
    )


def _is_enough(size: Size, windows: Sequence[Window]) -> bool:
    return all(min(passed) >= 1 for passed in sizes(size, windows))


# --- the benchmark CNN ----------------------------------------------------------------------------------------------

HALVING = Window(4, 2, 1)  # floor(n / 2); transposed, twice the size


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One transposed convolution: size_out = (size_in - 1) * stride - 2 * padding + kernel + output_padding."""

    stride: int = 2
    padding: int = 1
    output_padding: Size = (0, 0)


@dataclass(frozen=True, kw_only=True)
class DecoderGeometry:
    """z -> linear to the `start` size -> `stages` of transposed convolutions with one `kernel` size, the last to x."""

    kernel: int
    start: Size
    stages: tuple[Stage, ...]


_MORE = (1, 1)
# Image side in pixels -> decoder, as in the published benchmark nets that MR-VAE C.2 follows (Chadebec et al. 2022,
# github.com/clementchadebec/benchmark_VAE). Kernel, paddings and start size differ by data set there: hence a table.
BENCHMARK_DECODERS: Mapping[int, DecoderGeometry] = MappingProxyType(
    {
        28: DecoderGeometry(
            kernel=3, start=(4, 4), stages=(Stage(), Stage(output_padding=_MORE), Stage(output_padding=_MORE))
        ),
        32: DecoderGeometry(
            kernel=4, start=(8, 8), stages=(Stage(), Stage(output_padding=_MORE), Stage(stride=1, padding=2))
        ),
        64: DecoderGeometry(
            kernel=5,
            start=(8, 8),
            stages=(Stage(padding=2), Stage(), Stage(padding=2, output_padding=_MORE), Stage(stride=1)),
        ),
    }
)


def benchmark_decoder(data_shape: DataShape, channels: tuple[int, ...]) -> DecoderGeometry:
    """Return the decoder for images of `data_shape`: the published one for its size, else the encoder's mirror image.

    Raise ValueError where the encoder, which halves the image once per channel, leaves nothing of it.
    """
    _, height, width = data_shape
    halvings, most = len(channels), min(height, width).bit_length() - 1
    if halvings > most:
        takes = f"at most {most}" if most else "none"
        raise ValueError(
            f"the conv backbone halves the image once for each of model.backbone.channels, and {height} x {width} "
            f"pixels take {takes}, not {halvings}: give fewer channels, or use an mlp backbone"
        )
    published = BENCHMARK_DECODERS.get(height) if height == width else None
    if published is not None and halvings >= len(published.stages):
        return published
    passed = sizes((height, width), [HALVING] * halvings)
    stages = tuple(Stage(output_padding=HALVING.rest(size)) for size in reversed(passed[:-1]))
    return DecoderGeometry(kernel=HALVING.kernel, start=passed[-1], stages=stages)


def features_left(data_shape: DataShape, halvings: int) -> int:
    """Return the elements per channel after that many halvings."""
    return math.prod(sizes((data_shape[1], data_shape[2]), [HALVING] * halvings)[-1])


# --- the other published stacks -------------------------------------------------------------------------------------


def resnet_encoder(size: Size) -> tuple[Window, ...]:
    """Return the windows of the benchmark ResNet's encoder:
    published for 28, 32 and 64 pixels square, else those of 28.
    """
    third = Window(3, 1 if size == (32, 32) else 2, 1)
    return (HALVING, HALVING, *[third] * (2 if size == (64, 64) else 1))


def infogan_is_large(size: Size) -> bool:
    """Return whether AR-ELBO's nets have four convolutions (64 and 128 pixels square), or two (28)."""
    return min(size) >= 64


def infogan_window(kernel: int) -> Window:
    """Return the window that halves the size: floor for the kernel of 4, ceil for that of 5."""
    return Window(kernel, 2, (kernel - 1) // 2)


def infogan_encoder(size: Size, kernel: int) -> tuple[Window, ...]:
    return (infogan_window(kernel),) * (4 if infogan_is_large(size) else 2)


def infogan_decoder(size: Size, kernel: int) -> tuple[Window, ...]:
    """Return the decoder's windows from the image inwards: the last layer first."""
    if infogan_is_large(size):
        return (Window(5, 1, 2), *[infogan_window(kernel)] * 3)
    return (HALVING, infogan_window(kernel))


# sigma-VAE B, from the image inwards; the text has only the channels, these are the published code's
# (github.com/orybkin/sigma-vae-pytorch): 28 -> 28 -> 14 -> 7, and back with kernels of its own
SIGMA_VAE_ENCODER = (Window(3, 1, 1), Window(4, 2, 1), Window(5, 2, 2))
SIGMA_VAE_DECODER = (Window(5, 1, 2), Window(6, 2, 2), Window(6, 2, 2))

VHP_HALVING = Window(5, 2, 2)  # ceil(n / 2)
