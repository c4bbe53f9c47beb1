"""Convolutional backbones that are a stack of layers, by publication.

Each has an encoder that ends flat, linear heads, and a decoder that starts with linear layers; the decoder's last layer
is linear (the likelihood owns any squashing). All hidden layers are convolution or linear, norm if any, activation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from vae_models.nn.gated import GatedConv2d, GatedLinear
from vae_models.nn.heads import PosteriorHeads
from vae_models.nn.norm import BatchNorm1d, BatchNorm2d

DataShape = tuple[int, int, int]


class StackBackbone(nn.Module):
    """An encoder and a decoder that were made elsewhere, and the heads between them."""

    def __init__(
        self, *, encoder: nn.Sequential, features: int, decoder: nn.Sequential, latent: int, scale: bool
    ) -> None:
        """features: of the encoder's flat output. scale: whether q(z|x) reads a raw scale."""
        super().__init__()
        self.encoder = encoder
        self.heads = PosteriorHeads(features, latent, scale=scale)
        self.decoder = decoder

    def encode(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"] | None]:
        """(mean, raw scale) of q(z|x)."""
        mean, raw = self.heads(self.encoder(x))
        return mean, raw

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channels_out height width"]:
        """What the likelihood is parameterized by."""
        decoded: Tensor = self.decoder(z)
        return decoded


def convolution(inputs: int, outputs: int, kernel: int, stride: int, *, padding: int, norm: bool = False) -> nn.Module:
    """Convolution -> batch norm, if any -> ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding)]
    return nn.Sequential(*layers, *([BatchNorm2d(outputs)] if norm else []), nn.ReLU())


def transposed(
    inputs: int, outputs: int, kernel: int, stride: int, *, padding: int, output_padding: int = 0
) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride=stride, padding=padding, output_padding=output_padding)


def activated(layer: nn.Module, outputs: int, *, norm: bool = False) -> nn.Module:
    """Transposed convolution -> batch norm, if any -> ReLU."""
    return nn.Sequential(layer, *([BatchNorm2d(outputs)] if norm else []), nn.ReLU())


def linear(inputs: int, outputs: int, *, norm: bool = False) -> nn.Module:
    """Linear -> batch norm, if any -> ReLU."""
    return nn.Sequential(nn.Linear(inputs, outputs), *([BatchNorm1d(outputs)] if norm else []), nn.ReLU())


def sigma_vae(
    *, data_shape: DataShape, latent: int, channels: int, parameters_per_element: int, scale: bool
) -> StackBackbone:
    """sigma-VAE B: three convolutions, 32 channels doubling (`channels` is the first), then a linear layer; mirrored.

    Kernels and strides (3, 1), (4, 2), (5, 2), no padding: the text has only the channels, these are the published
    code's.
    """
    form = ((3, 1), (4, 2), (5, 2))
    widths = [data_shape[0], channels, 2 * channels, 4 * channels]
    sides = [data_shape[1]]
    for kernel, stride in form:
        sides.append((sides[-1] - kernel) // stride + 1)
    encoder = [
        convolution(before, after, kernel, stride, padding=0)
        for (before, after), (kernel, stride) in zip(pairwise(widths), form, strict=True)
    ]
    features = widths[-1] * sides[-1] ** 2
    widths[0] *= parameters_per_element
    layers = []
    for place in (2, 1, 0):
        kernel, stride = form[place]
        rest = sides[place] - ((sides[place + 1] - 1) * stride + kernel)
        layer = transposed(widths[place + 1], widths[place], kernel, stride, padding=0, output_padding=rest)
        layers.append(activated(layer, widths[place]) if place else layer)
    return StackBackbone(
        encoder=nn.Sequential(*encoder, nn.Flatten()),
        features=features,
        decoder=nn.Sequential(linear(latent, features), nn.Unflatten(1, (widths[-1], sides[-1], sides[-1])), *layers),
        latent=latent,
        scale=scale,
    )


def infogan(
    *, data_shape: DataShape, latent: int, norm: bool, kernel: int, parameters_per_element: int, scale: bool
) -> StackBackbone:
    """AR-ELBO's nets after InfoGAN (Chen et al. 2016): appendices I.1 (28x28), I.2 (64x64), I.3 (128x128), and D.1.

    D.1 is 28x28 without batch norm and with 4x4 kernels. In I the kernels are 5x5 "except for the last": the last one's
    size is not given; here it is 4x4, stride 2 (28x28), and 5x5, stride 1 (64x64 and 128x128, where the size stays).
    """
    small = data_shape[1] == 28
    build = _infogan_28 if small else _infogan_large
    outputs = data_shape[0] * parameters_per_element
    encoder, features, decoder = build(data_shape, latent, norm, kernel, outputs)
    return StackBackbone(encoder=encoder, features=features, decoder=decoder, latent=latent, scale=scale)


def _double(inputs: int, outputs: int, kernel: int) -> nn.ConvTranspose2d:
    """Twice the size: 4x4 with padding 1, or 5x5 with padding 2 and one row and column more."""
    return transposed(inputs, outputs, kernel, 2, padding=(kernel - 1) // 2, output_padding=kernel % 2)


def _infogan_28(
    data_shape: DataShape, latent: int, norm: bool, kernel: int, outputs: int
) -> tuple[nn.Sequential, int, nn.Sequential]:
    padding = (kernel - 1) // 2
    encoder = nn.Sequential(
        convolution(data_shape[0], 64, kernel, 2, padding=padding),
        convolution(64, 128, kernel, 2, padding=padding),
        nn.Flatten(),
        linear(128 * 7 * 7, 1024, norm=norm),
    )
    decoder = nn.Sequential(
        linear(latent, 1024, norm=norm),
        linear(1024, 128 * 7 * 7, norm=norm),
        nn.Unflatten(1, (128, 7, 7)),
        activated(_double(128, 64, kernel), 64, norm=norm),
        _double(64, outputs, 4),
    )
    return encoder, 1024, decoder


def _infogan_large(
    data_shape: DataShape, latent: int, norm: bool, kernel: int, outputs: int
) -> tuple[nn.Sequential, int, nn.Sequential]:
    padding = (kernel - 1) // 2
    widths = (data_shape[0], 128, 256, 512, 1024)
    encoder = [
        convolution(before, after, kernel, 2, padding=padding, norm=norm and place > 0)
        for place, (before, after) in enumerate(pairwise(widths))
    ]
    side = data_shape[1] // 16
    start = data_shape[1] // 8
    layers: list[nn.Module] = [
        activated(_double(before, after, kernel), after, norm=norm and place > 0)
        for place, (before, after) in enumerate(pairwise((1024, 512, 256, 128)))
    ]
    decoder = nn.Sequential(
        nn.Linear(latent, 1024 * start**2),
        nn.Unflatten(1, (1024, start, start)),
        *layers,
        transposed(128, outputs, 5, 1, padding=2),
    )
    return nn.Sequential(*encoder, nn.Flatten()), 1024 * side**2, decoder


def vhp_conv(*, data_shape: DataShape, latent: int, parameters_per_element: int, scale: bool) -> StackBackbone:
    """VHP table 3, Faces and Chairs, 64x64: eight convolutions 5x5 (stride 2) and 3x3 in turn, a linear layer of 256.

    The decoder is the encoder reversed. Padding keeps the sizes at 64, 32, 16, 8, 4.
    """
    pairs = tuple(pairwise((data_shape[0], 32, 48, 64, 96)))
    encoder: list[nn.Module] = []
    layers: list[nn.Module] = []
    for before, after in pairs:
        encoder += [convolution(before, after, 5, 2, padding=2), convolution(after, after, 3, 1, padding=1)]
    for before, after in reversed(pairs):
        layers.append(activated(transposed(after, after, 3, 1, padding=1), after))
        layers.append(activated(_double(after, before, 5), before))
    outputs = data_shape[0] * parameters_per_element
    layers[-1] = _double(32, outputs, 5)
    side = data_shape[1] // 16
    features = 96 * side**2
    return StackBackbone(
        encoder=nn.Sequential(*encoder, nn.Flatten(), linear(features, 256)),
        features=256,
        decoder=nn.Sequential(linear(latent, 256), linear(256, features), nn.Unflatten(1, (96, side, side)), *layers),
        latent=latent,
        scale=scale,
    )


def vhp_gated(*, data_shape: DataShape, latent: int, parameters_per_element: int, scale: bool) -> StackBackbone:
    """VHP table 3, MNIST, Fashion-MNIST and Omniglot: gated convolutions ("linear activation": only the gates).

    Encoder 32 7x7, 32 3x3 stride 2, 64 5x5, 64 3x3 stride 2, 6 3x3. Decoder: gated linear to one value per pixel, four
    64 3x3; the table has no layer from 64 channels to the image, here a 1x1 convolution.
    """
    channels, height, width = data_shape
    form: Sequence[tuple[int, int, int]] = ((32, 7, 1), (32, 3, 2), (64, 5, 1), (64, 3, 2), (6, 3, 1))
    encoder: list[nn.Module] = []
    before = channels
    for outputs, kernel, stride in form:
        encoder.append(GatedConv2d(before, outputs, kernel, stride=stride, padding=kernel // 2))
        before = outputs
    features = 6 * math.ceil(height / 4) * math.ceil(width / 4)
    decoder = [GatedConv2d(a, b, 3, padding=1) for a, b in pairwise((channels, 64, 64, 64, 64))]
    return StackBackbone(
        encoder=nn.Sequential(*encoder, nn.Flatten()),
        features=features,
        decoder=nn.Sequential(
            GatedLinear(latent, math.prod(data_shape)),
            nn.Unflatten(1, data_shape),
            *decoder,
            nn.Conv2d(64, channels * parameters_per_element, 1),
        ),
        latent=latent,
        scale=scale,
    )
