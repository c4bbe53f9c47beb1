"""Convolutional backbones that are a stack of layers, by publication.

Each has an encoder that ends flat, linear heads, and a decoder that starts with linear layers; the decoder's last layer
is linear (the likelihood owns any squashing). All hidden layers are convolution or linear, norm if any, activation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from vae_models.backbones import geometry
from vae_models.backbones.geometry import Size, Window, sizes
from vae_models.nn.gated import GatedConv2d, GatedLinear
from vae_models.nn.heads import PosteriorHeads
from vae_models.nn.norm import BatchNorm1d, BatchNorm2d

DataShape = tuple[int, ...]


class StackBackbone(nn.Module):
    """An encoder and a decoder that were made elsewhere, and the heads between them."""

    def __init__(
        self, *, encoder: nn.Sequential, features: int, decoder: nn.Sequential, latent: int, scale: bool
    ) -> None:
        """Join an encoder and a decoder. features: of the encoder's flat output.
        scale: whether q(z|x) reads a raw scale.
        """
        super().__init__()
        self.encoder = encoder
        self.heads = PosteriorHeads(features, latent, scale=scale)
        self.decoder = decoder

    def encode(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"] | None]:
        """Return (mean, raw scale) of q(z|x)."""
        mean, raw = self.heads(self.encoder(x))
        return mean, raw

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channels_out height width"]:
        """Return the parameters of the likelihood, raw."""
        decoded: Tensor = self.decoder(z)
        return decoded


def convolution(inputs: int, outputs: int, kernel: int, stride: int, *, padding: int, norm: bool = False) -> nn.Module:
    """Return convolution -> batch norm, if any -> ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding)]
    return nn.Sequential(*layers, *([BatchNorm2d(outputs)] if norm else []), nn.ReLU())


def transposed(
    inputs: int, outputs: int, kernel: int, stride: int, *, padding: int, output_padding: int | Size = 0
) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel, stride=stride, padding=padding, output_padding=output_padding)


def activated(layer: nn.Module, outputs: int, *, norm: bool = False) -> nn.Module:
    """Return transposed convolution -> batch norm, if any -> ReLU."""
    return nn.Sequential(layer, *([BatchNorm2d(outputs)] if norm else []), nn.ReLU())


def linear(inputs: int, outputs: int, *, norm: bool = False) -> nn.Module:
    """Return linear -> batch norm, if any -> ReLU."""
    return nn.Sequential(nn.Linear(inputs, outputs), *([BatchNorm1d(outputs)] if norm else []), nn.ReLU())


def mirrored(inputs: int, outputs: int, window: Window, size: Size) -> nn.ConvTranspose2d:
    """Return the transposed convolution that ends at `size`."""
    return transposed(
        inputs, outputs, window.kernel, window.stride, padding=window.padding, output_padding=window.rest(size)
    )


def _outwards(size: Size, windows: Sequence[Window]) -> tuple[Size, Iterator[tuple[Window, Size]]]:
    """Return the size at which a decoder of these windows (from the image inwards) starts,
    and each window with its output size.
    """
    passed = sizes(size, windows)
    return passed[-1], zip(reversed(windows), reversed(passed[:-1]), strict=True)


def sigma_vae(
    *, data_shape: DataShape, latent: int, channels: int, parameters_per_element: int, scale: bool
) -> StackBackbone:
    """Return sigma-VAE B's networks: three convolutions, 32 channels doubling, and linear heads; mirrored.

    `channels` is the width of the first convolution.
    Kernels, strides and paddings, and that no activation follows the decoder's linear layer, are the published code's:
    `geometry.SIGMA_VAE_ENCODER`, `SIGMA_VAE_DECODER`. The sigmoid at its end is the likelihood's link here.
    """
    widths = [data_shape[0], channels, 2 * channels, 4 * channels]
    size = (data_shape[1], data_shape[2])
    encoder = [
        convolution(before, after, window.kernel, window.stride, padding=window.padding)
        for (before, after), window in zip(pairwise(widths), geometry.SIGMA_VAE_ENCODER, strict=True)
    ]
    features = widths[-1] * math.prod(sizes(size, geometry.SIGMA_VAE_ENCODER)[-1])
    start, stages = _outwards(size, geometry.SIGMA_VAE_DECODER)
    widths[0] *= parameters_per_element
    layers: list[nn.Module] = []
    for (before, after), (window, to) in zip(pairwise(reversed(widths)), stages, strict=True):
        layer = mirrored(before, after, window, to)
        layers.append(activated(layer, after) if len(layers) < len(widths) - 2 else layer)
    return StackBackbone(
        encoder=nn.Sequential(*encoder, nn.Flatten()),
        features=features,
        decoder=nn.Sequential(
            nn.Linear(latent, widths[-1] * math.prod(start)), nn.Unflatten(1, (widths[-1], *start)), *layers
        ),
        latent=latent,
        scale=scale,
    )


def infogan(
    *, data_shape: DataShape, latent: int, norm: bool, kernel: int, parameters_per_element: int, scale: bool
) -> StackBackbone:
    """Return AR-ELBO's nets after InfoGAN (Chen et al. 2016): appendices I.1 (28x28), I.2 (64x64), I.3 (128x128), D.1.

    D.1 is 28x28 without batch norm and with 4x4 kernels. In I the kernels are 5x5 "except for the last": the last one's
    size is not given; here it is 4x4, stride 2 (28x28), and 5x5, stride 1 (64x64 and 128x128, where the size stays).
    Images of other sizes get the net of 64 when both sides have as many pixels, else that of 28.
    """
    build = _infogan_large if geometry.infogan_is_large((data_shape[1], data_shape[2])) else _infogan_small
    outputs = data_shape[0] * parameters_per_element
    encoder, features, decoder = build(data_shape, latent, norm, kernel, outputs)
    return StackBackbone(encoder=encoder, features=features, decoder=decoder, latent=latent, scale=scale)


def _infogan_small(
    data_shape: DataShape, latent: int, norm: bool, kernel: int, outputs: int
) -> tuple[nn.Sequential, int, nn.Sequential]:
    size, window = (data_shape[1], data_shape[2]), geometry.infogan_window(kernel)
    features = 128 * math.prod(sizes(size, geometry.infogan_encoder(size, kernel))[-1])
    start, stages = _outwards(size, geometry.infogan_decoder(size, kernel))
    (inner, middle), (outer, end) = stages
    encoder = nn.Sequential(
        convolution(data_shape[0], 64, kernel, 2, padding=window.padding),
        convolution(64, 128, kernel, 2, padding=window.padding),
        nn.Flatten(),
        linear(features, 1024, norm=norm),
    )
    decoder = nn.Sequential(
        linear(latent, 1024, norm=norm),
        linear(1024, 128 * math.prod(start), norm=norm),
        nn.Unflatten(1, (128, *start)),
        activated(mirrored(128, 64, inner, middle), 64, norm=norm),
        mirrored(64, outputs, outer, end),
    )
    return encoder, 1024, decoder


def _infogan_large(
    data_shape: DataShape, latent: int, norm: bool, kernel: int, outputs: int
) -> tuple[nn.Sequential, int, nn.Sequential]:
    size, window = (data_shape[1], data_shape[2]), geometry.infogan_window(kernel)
    widths = (data_shape[0], 128, 256, 512, 1024)
    encoder = [
        convolution(before, after, kernel, 2, padding=window.padding, norm=norm and place > 0)
        for place, (before, after) in enumerate(pairwise(widths))
    ]
    features = 1024 * math.prod(sizes(size, geometry.infogan_encoder(size, kernel))[-1])
    start, stages = _outwards(size, geometry.infogan_decoder(size, kernel))
    *inner, (outer, end) = stages
    layers: list[nn.Module] = [
        activated(mirrored(before, after, each, to), after, norm=norm and place > 0)
        for place, ((before, after), (each, to)) in enumerate(zip(pairwise((1024, 512, 256, 128)), inner, strict=True))
    ]
    decoder = nn.Sequential(
        nn.Linear(latent, 1024 * math.prod(start)),
        nn.Unflatten(1, (1024, *start)),
        *layers,
        mirrored(128, outputs, outer, end),
    )
    return nn.Sequential(*encoder, nn.Flatten()), features, decoder


def vhp_conv(*, data_shape: DataShape, latent: int, parameters_per_element: int, scale: bool) -> StackBackbone:
    """Return VHP table 3's nets for Faces and Chairs, 64x64:
    eight convolutions 5x5 (stride 2) and 3x3 in turn, linear 256.

    The decoder is the encoder reversed. Padding keeps the sizes at 64, 32, 16, 8, 4; of other images, at every half,
    rounded up.
    """
    pairs = tuple(pairwise((data_shape[0], 32, 48, 64, 96)))
    start, stages = _outwards((data_shape[1], data_shape[2]), [geometry.VHP_HALVING] * len(pairs))
    encoder: list[nn.Module] = []
    layers: list[nn.Module] = []
    for before, after in pairs:
        encoder += [convolution(before, after, 5, 2, padding=2), convolution(after, after, 3, 1, padding=1)]
    for (before, after), (window, size) in zip(reversed(pairs), stages, strict=True):
        layers.append(activated(transposed(after, after, 3, 1, padding=1), after))
        layers.append(activated(mirrored(after, before, window, size), before))
    outputs = data_shape[0] * parameters_per_element
    layers[-1] = mirrored(32, outputs, geometry.VHP_HALVING, (data_shape[1], data_shape[2]))
    features = 96 * math.prod(start)
    return StackBackbone(
        encoder=nn.Sequential(*encoder, nn.Flatten(), linear(features, 256)),
        features=256,
        decoder=nn.Sequential(linear(latent, 256), linear(256, features), nn.Unflatten(1, (96, *start)), *layers),
        latent=latent,
        scale=scale,
    )


def vhp_gated(*, data_shape: DataShape, latent: int, parameters_per_element: int, scale: bool) -> StackBackbone:
    """Return VHP table 3's nets for MNIST, Fashion-MNIST and Omniglot:
    gated convolutions ("linear activation": only gates).

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
