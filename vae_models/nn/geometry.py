"""Sizes of the benchmark CNN, as data: no torch here, so that a config can be checked without loading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One transposed convolution: size_out = (size_in - 1) * stride - 2 * padding + kernel + output_padding."""

    stride: int = 2
    padding: int = 1
    output_padding: int = 0


@dataclass(frozen=True, kw_only=True)
class DecoderGeometry:
    """z -> linear to `start` x `start` -> `stages` of transposed convolutions with one `kernel` size, the last to x."""

    kernel: int
    start: int
    stages: tuple[Stage, ...]


# Image side in pixels -> decoder, as in the published benchmark nets that MR-VAE C.2 follows (Chadebec et al. 2022,
# github.com/clementchadebec/benchmark_VAE). Kernel, paddings and start size differ by data set there: hence a table.
BENCHMARK_DECODERS: Mapping[int, DecoderGeometry] = MappingProxyType(
    {
        28: DecoderGeometry(kernel=3, start=4, stages=(Stage(), Stage(output_padding=1), Stage(output_padding=1))),
        32: DecoderGeometry(kernel=4, start=8, stages=(Stage(), Stage(output_padding=1), Stage(stride=1, padding=2))),
        64: DecoderGeometry(
            kernel=5,
            start=8,
            stages=(Stage(padding=2), Stage(), Stage(padding=2, output_padding=1), Stage(stride=1)),
        ),
    }
)


def benchmark_decoder(data_shape: tuple[int, int, int], channels: tuple[int, ...]) -> DecoderGeometry:
    """The decoder for images of `data_shape` (channels, height, width); ValueError if the benchmark CNN has none."""
    _, height, width = data_shape
    if height != width or height not in BENCHMARK_DECODERS:
        sizes = ", ".join(f"{side} x {side}" for side in BENCHMARK_DECODERS)
        raise ValueError(
            f"the conv backbone takes images of {sizes} pixels, not {height} x {width}: use an mlp backbone"
        )
    geometry = BENCHMARK_DECODERS[height]
    stages, most = len(geometry.stages), height.bit_length() - 1
    if not stages <= len(channels) <= most:
        raise ValueError(
            f"the conv backbone on {height} x {width} images needs {stages} to {most} channels (one per halving of the"
            f" image, and {stages} for the decoder), not {len(channels)}"
        )
    return geometry
