"""The benchmark nets with residual blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor, nn

from vae_models.backbones.geometry import HALVING, Size, Window, resnet_encoder, sizes
from vae_models.backbones.stacks import StackBackbone, activated, convolution, transposed

DataShape = tuple[int, ...]


class ResidualBlock(nn.Module):
    """x + [Conv3x3 -> ReLU -> Conv3x3](x), the number of channels unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        y: Tensor = x + self.branch(x)
        return y


def _blocks(channels: int) -> list[nn.Module]:
    """Return two residual blocks, each followed by a ReLU."""
    return [nn.Sequential(ResidualBlock(channels), nn.ReLU()) for _ in range(2)]


def resnet(
    *, data_shape: DataShape, latent: int, channels: int, parameters_per_element: int, scale: bool
) -> StackBackbone:
    """Return the benchmark ResNet (Chadebec et al. 2022) as MR-VAE C.2 modified it:
    blocks with two 3x3 convolutions of 128.

    The published blocks have a bottleneck of 32; with `channels` = 128 throughout and no bottleneck, the parameters are
    exactly MR-VAE's table 1 (whose exponents are ten times too small): 1,881,217 for 1x28x28 and latent 32, 7,896,963
    for 3x32x32 and latent 256, 2,770,819 for 3x64x64 and latent 64. ReLU after every convolution and block. Images of
    other sizes get the encoder of 28, and a decoder that is its mirror image.
    """
    image, wide, half = data_shape[0], channels, channels // 2
    windows = resnet_encoder((data_shape[1], data_shape[2]))
    passed = sizes((data_shape[1], data_shape[2]), windows)
    widths = (image, half, *[wide] * (len(windows) - 1))
    encoder = [
        convolution(before, after, window.kernel, window.stride, padding=window.padding)
        for (before, after), window in zip(pairwise(widths), windows, strict=True)
    ]
    features = wide * math.prod(passed[-1])
    first = _first(passed, wide)
    decoder = nn.Sequential(
        nn.Linear(latent, features),
        nn.Unflatten(1, (wide, *passed[-1])),
        *first,
        *_blocks(wide),
        *_last(passed, wide, half, image * parameters_per_element),
    )
    return StackBackbone(
        encoder=nn.Sequential(*encoder, *_blocks(wide), nn.Flatten()),
        features=features,
        decoder=decoder,
        latent=latent,
        scale=scale,
    )


def _first(passed: Sequence[Size], wide: int) -> list[nn.Module]:
    """Return the decoder's layer before its blocks: from the last size that the encoder `passed` outwards."""
    if passed[0] == (32, 32):
        return []
    rest = (0, 0) if passed[0] in _PUBLISHED else Window(3, 2, 1).rest(passed[2])
    return [activated(transposed(wide, wide, 3, 2, padding=1, output_padding=rest), wide)]


def _last(passed: Sequence[Size], wide: int, half: int, outputs: int) -> list[nn.Module]:
    """Return the decoder's layers after its blocks:
    published for 28, 32 and 64 pixels square, else the mirror image.
    """
    published = _PUBLISHED.get(passed[0])
    if published is not None:
        return published(wide, half, outputs)
    inner, outer = HALVING.rest(passed[1]), HALVING.rest(passed[0])
    return [
        activated(transposed(wide, half, 4, 2, padding=1, output_padding=inner), half),
        transposed(half, outputs, 4, 2, padding=1, output_padding=outer),
    ]


def _to_28(wide: int, half: int, outputs: int) -> list[nn.Module]:
    return [
        activated(transposed(wide, half, 3, 2, padding=1, output_padding=1), half),
        transposed(half, outputs, 3, 2, padding=1, output_padding=1),
    ]


def _to_32(wide: int, half: int, outputs: int) -> list[nn.Module]:
    return [activated(transposed(wide, half, 4, 2, padding=1), half), transposed(half, outputs, 4, 2, padding=1)]


def _to_64(wide: int, half: int, outputs: int) -> list[nn.Module]:
    return [
        activated(transposed(wide, wide, 5, 2, padding=1), wide),
        activated(transposed(wide, half, 5, 2, padding=1, output_padding=1), half),
        transposed(half, outputs, 4, 2, padding=1),
    ]


_PUBLISHED: Mapping[Size, Callable[[int, int, int], list[nn.Module]]] = MappingProxyType(
    {(28, 28): _to_28, (32, 32): _to_32, (64, 64): _to_64}
)
