"""Fully connected encoder and decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from vae_models.nn.dense import dense
from vae_models.nn.heads import PosteriorHeads


class MLPBackbone(nn.Module):
    """Encoder: x flattened -> `hidden` widths -> two linear heads. Decoder: z -> the widths reversed -> linear -> x.

    x is a vector [n], an image, or a sequence of a fixed length [time, n]: the layers see its elements in their order.

    `hidden` = () is a linear VAE. Initialized as torch does, from its current generator.
    """

    def __init__(
        self,
        *,
        data_shape: tuple[int, ...],
        latent: int,
        hidden: Sequence[int],
        activation: str,
        parameters_per_element: int,
        decoder_hidden: Sequence[int] | None = None,
        decoder_activation: str | None = None,
        scale: bool = True,
    ) -> None:
        """Build both networks for data of `data_shape`: of one datum, with any number of dimensions.

        parameters_per_element: the likelihood's numbers per element.
        decoder_hidden, decoder_activation: the mirror image of the encoder's where they are None.
        scale: whether q(z|x) reads a raw scale.
        """
        super().__init__()
        first, *rest = data_shape
        inputs = math.prod(data_shape)
        down = [latent, *(reversed(hidden) if decoder_hidden is None else decoder_hidden)]
        outer, inner = [inputs, *hidden][-1], down[-1]
        self.encoder = nn.Sequential(nn.Flatten(), dense([inputs, *hidden], activation))
        self.heads = PosteriorHeads(outer, latent, scale=scale)
        self.decoder = nn.Sequential(
            dense(down, decoder_activation or activation),
            nn.Linear(inner, inputs * parameters_per_element),
            nn.Unflatten(1, (first * parameters_per_element, *rest)),
        )

    def encode(
        self, x: Float[Tensor, "batch *data"]
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"] | None]:
        """Return (mean, raw scale) of q(z|x)."""
        mean, raw = self.heads(self.encoder(x))
        return mean, raw

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch first_out *rest"]:
        """Return the parameters of the likelihood, raw."""
        decoded: Tensor = self.decoder(z)
        return decoded
