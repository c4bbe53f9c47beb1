"""The benchmark nets with residual blocks."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from vae_models.nn.stacks import StackBackbone, activated, convolution, transposed

DataShape = tuple[int, int, int]


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
    """Two of them, each followed by a ReLU."""
    return [nn.Sequential(ResidualBlock(channels), nn.ReLU()) for _ in range(2)]


def resnet(
    *, data_shape: DataShape, latent: int, channels: int, parameters_per_element: int, scale: bool
) -> StackBackbone:
    """The benchmark ResNet (Chadebec et al. 2022) as MR-VAE C.2 modified it: blocks with two 3x3 convolutions of 128.

    The published blocks have a bottleneck of 32; with `channels` = 128 throughout and no bottleneck, the parameters are
    exactly MR-VAE's table 1 (whose exponents are ten times too small): 1,881,217 for 1x28x28 and latent 32, 7,896,963
    for 3x32x32 and latent 256, 2,770,819 for 3x64x64 and latent 64. ReLU after every convolution and block.
    """
    image, side, wide, half = data_shape[0], data_shape[1], channels, channels // 2
    encoder = [convolution(image, half, 4, 2, padding=1), convolution(half, wide, 4, 2, padding=1)]
    encoder += [convolution(wide, wide, 3, 1 if side == 32 else 2, padding=1) for _ in range(2 if side == 64 else 1)]
    start = 8 if side == 32 else 4
    outputs = image * parameters_per_element
    first = [] if side == 32 else [activated(transposed(wide, wide, 3, 2, padding=1), wide)]
    decoder = nn.Sequential(
        nn.Linear(latent, wide * start**2),
        nn.Unflatten(1, (wide, start, start)),
        *first,
        *_blocks(wide),
        *_LAST[side](wide, half, outputs),
    )
    return StackBackbone(
        encoder=nn.Sequential(*encoder, *_blocks(wide), nn.Flatten()),
        features=wide * start**2,
        decoder=decoder,
        latent=latent,
        scale=scale,
    )


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


_LAST = {28: _to_28, 32: _to_32, 64: _to_64}
