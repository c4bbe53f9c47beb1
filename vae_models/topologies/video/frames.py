"""The nets of a frame: features, and a feature map of each scale, which the decoder reads beside what was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.nn.convolution import Conv2d, ConvTranspose2d
from vae_models.nn.norm import BatchNorm2d

SLOPE = 0.2  # of the leaky ReLUs, below zero
Widths = Sequence[Sequence[tuple[int, int]]]  # inputs and outputs of the convolutions of each scale


class FrameEncoder(nn.Module):
    """x -> features in (-1, 1), [frames, features], and the feature map of each scale, the largest first."""

    def __init__(self, scales: Sequence[nn.Module], end: nn.Module, *, pooled: bool) -> None:
        """Take the scales from the largest on, and what makes features of the smallest map.

        pooled: each scale is followed by a maximum over squares of 2x2; else it halves the sides itself.
        """
        super().__init__()
        self.scales, self.end, self.pooled = nn.ModuleList(scales), end, pooled

    def forward(self, x: Float[Tensor, "frames colours height width"]) -> tuple[Tensor, tuple[Tensor, ...]]:
        maps: list[Tensor] = []
        for scale in self.scales:
            x = scale(x)
            maps.append(x)
            if self.pooled:
                x = F.max_pool2d(x, 2)
        features = torch.tanh(self.end(x)).flatten(1)
        return features, tuple(maps)


class FrameDecoder(nn.Module):
    """Features and the maps of another frame -> the likelihood's parameters, [frames, outputs, height, width]."""

    def __init__(self, start: nn.Module, scales: Sequence[nn.Module], *, doubled: bool) -> None:
        """Take what makes the smallest map of features, and the scales from the smallest on.

        doubled: each scale is preceded by a doubling of the sides, each pixel four times; else it doubles them itself.
        """
        super().__init__()
        self.start, self.scales, self.doubled = start, nn.ModuleList(scales), doubled

    def forward(self, features: Float[Tensor, "frames features"], maps: Sequence[Tensor]) -> Tensor:
        y: Tensor = self.start(features[:, :, None, None])
        for scale, skip in zip(self.scales, reversed(maps), strict=True):
            if self.doubled:
                y = F.interpolate(y, scale_factor=2.0, mode="nearest")
            y = scale(torch.cat([y, skip], dim=1))
        return y


class FrameNet(nn.Module):
    """An encoder of frames and the decoder that reads its feature maps, with SVG's first weights.

    Weights of convolutions are drawn from N(0, 0.02^2), those of batch norms from N(1, 0.02^2); biases are 0.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.apply(first_weights)

    def encode(self, x: Float[Tensor, "frames colours height width"]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the features of frames, [frames, features], and maps that the decoder reads, [frames, ...] each."""
        features, maps = self.encoder(x)
        return features, maps

    def decode(self, features: Float[Tensor, "frames features"], maps: Sequence[Tensor]) -> Tensor:
        """Return the likelihood's parameters of frames, [frames, parameters x colours, height, width]."""
        decoded: Tensor = self.decoder(features, maps)
        return decoded


def first_weights(module: nn.Module) -> None:
    """Draw the first weights of a layer as SVG's code does; of an LSTM they stay torch's."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def dcgan(*, channels: Sequence[int], features: int, colours: int, outputs: int, top: tuple[int, int]) -> FrameNet:
    """Return DCGAN's nets (SVG's `dcgan_64` with channels 64, 128, 256, 512): convolution 4x4 of stride 2, norm, leaky
    ReLU for each scale, transposed and in reverse in the decoder, whose layers read a skip each.

    outputs: the decoder's; top: height and width of the smallest map.
    """
    down = [_active(nn.Conv2d(before, after, 4, 2, 1), after) for before, after in pairwise((colours, *channels))]
    up: list[nn.Module] = [
        _active(nn.ConvTranspose2d(2 * before, after, 4, 2, 1), after) for before, after in pairwise(channels[::-1])
    ]
    up.append(nn.ConvTranspose2d(2 * channels[0], outputs, 4, 2, 1))
    end, start = _ends(channels[-1], features, top)
    return FrameNet(FrameEncoder(down, end, pooled=False), FrameDecoder(start, up, doubled=False))


def vgg(*, rise: Widths, fall: Widths, features: int, top: tuple[int, int]) -> FrameNet:
    """Return VGG's nets (SVG's `vgg_64`): convolutions 3x3, each with norm and leaky ReLU, several for each scale, and
    maxima over 2x2 between them; mirrored in the decoder, whose last layer is a transposed convolution alone.

    rise, fall: see `VggConfig`; top: height and width of the smallest map.
    """
    down = [nn.Sequential(*(_three(*pair) for pair in scale)) for scale in rise]
    *hidden, last = fall
    *before, (inputs, outputs) = last
    output = nn.ConvTranspose2d(inputs, outputs, 3, 1, 1)
    up = [nn.Sequential(*(_three(*pair) for pair in scale)) for scale in hidden]
    up.append(nn.Sequential(*(_three(*pair) for pair in before), output))
    end, start = _ends(rise[-1][-1][1], features, top)
    return FrameNet(FrameEncoder(down, end, pooled=True), FrameDecoder(start, up, doubled=True))


def _ends(channels: int, features: int, top: tuple[int, int]) -> tuple[nn.Module, nn.Module]:
    """Return what leads from the smallest map to the features, without its tanh, and back."""
    end = nn.Sequential(Conv2d(channels, features, top), BatchNorm2d(features))
    return end, _active(ConvTranspose2d(features, channels, top), channels)


def _three(inputs: int, outputs: int) -> nn.Module:
    """Return a convolution of 3x3 pixels with norm and leaky ReLU."""
    return _active(nn.Conv2d(inputs, outputs, 3, 1, 1), outputs)


def _active(layer: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(layer, BatchNorm2d(channels), nn.LeakyReLU(SLOPE))
