"""The benchmark CNN."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from vae_models.backbones.geometry import DecoderGeometry, benchmark_decoder, features_left
from vae_models.nn.convolution import Conv2d
from vae_models.nn.heads import PosteriorHeads
from vae_models.nn.norm import BatchNorm2d


class ConvBackbone(nn.Module):
    """The published benchmark conv nets that MR-VAE C.2 follows (Chadebec et al. 2022), by image size.

    Encoder: Conv 4x4, stride 2, padding 1 -> BN -> ReLU for each of `channels`, then two linear heads on the flattened
    features. Decoder: linear z -> [channels[-1], start, start], then transposed convolutions down the reversed
    channels, each with BN and ReLU, the last one straight to the image (raw: the likelihood owns any squashing). The
    published decoders are those for 28, 32 and 64 pixels square; for other sizes it is the encoder's mirror image.

    Every convolution has a bias, as published, though the BN after it makes the bias idle. With the default channels
    that gives, exactly, 17,526,977 parameters for 1x28x28 and latent 32, 40,462,723 for 3x32x32 and latent 256, and
    34,594,563 for 3x64x64 and latent 64 (MR-VAE, table 1, whose exponents are ten times too small).
    """

    def __init__(
        self,
        *,
        data_shape: tuple[int, ...],
        latent: int,
        channels: tuple[int, ...],
        parameters_per_element: int,
        scale: bool = True,
    ) -> None:
        """Build both networks for data of `data_shape`, (channels, height, width) of one datum.

        Raise ValueError if the convolutions leave nothing of the image to decode.
        """
        super().__init__()
        geometry = benchmark_decoder(data_shape, channels)
        features = channels[-1] * features_left(data_shape, len(channels))
        self.encoder = nn.Sequential(*_encoder_blocks((data_shape[0], *channels)), nn.Flatten())
        self.heads = PosteriorHeads(features, latent, scale=scale)
        start = (channels[-1], *geometry.start)
        widths = (*reversed(channels[-len(geometry.stages) :]), data_shape[0] * parameters_per_element)
        self.decoder = nn.Sequential(
            nn.Linear(latent, start[0] * start[1] * start[2]),
            nn.Unflatten(1, start),
            *_decoder_blocks(widths, geometry),
        )

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


def _encoder_blocks(widths: tuple[int, ...]) -> list[nn.Module]:
    return [
        nn.Sequential(Conv2d(before, after, kernel_size=4, stride=2, padding=1), BatchNorm2d(after), nn.ReLU())
        for before, after in pairwise(widths)
    ]


def _decoder_blocks(widths: tuple[int, ...], geometry: DecoderGeometry) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for (before, after), stage in zip(pairwise(widths), geometry.stages, strict=True):
        convolution = nn.ConvTranspose2d(
            before,
            after,
            kernel_size=geometry.kernel,
            stride=stage.stride,
            padding=stage.padding,
            output_padding=stage.output_padding,
        )
        is_last = len(blocks) == len(geometry.stages) - 1
        blocks.append(convolution if is_last else nn.Sequential(convolution, BatchNorm2d(after), nn.ReLU()))
    return blocks
