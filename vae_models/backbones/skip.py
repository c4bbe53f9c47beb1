"""Fully connected networks whose last hidden layer sees their input again (Dai & Wipf 2019's second stage)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.nn.dense import dense
from vae_models.nn.heads import PosteriorHeads


class Beside(nn.Module):
    """x -> (layers(x), x), side by side. layers: [batch, inputs] -> [batch, features]."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        return torch.cat([self.layers(x), x], dim=1)


class SkipMLPBackbone(nn.Module):
    """Encoder: x flattened -> `hidden` widths, x beside the last -> two linear heads. Decoder: z -> the widths
    reversed, z beside the last -> linear -> x.

    What is linear from input to output goes by without a detour, and the hidden layers are for the rest. Initialized as
    torch does, from its current generator.
    """

    def __init__(
        self,
        *,
        data_shape: tuple[int, ...],
        latent: int,
        hidden: Sequence[int],
        activation: str,
        parameters_per_element: int,
        scale: bool = True,
    ) -> None:
        """Build both networks. hidden: at least one width. Arguments else: see `MLPBackbone`."""
        super().__init__()
        first, *rest = data_shape
        inputs, down = math.prod(data_shape), list(reversed(hidden))
        self.encoder = nn.Sequential(nn.Flatten(), Beside(dense([inputs, *hidden], activation)))
        self.heads = PosteriorHeads(hidden[-1] + inputs, latent, scale=scale)
        self.decoder = nn.Sequential(
            Beside(dense([latent, *down], activation)),
            nn.Linear(down[-1] + latent, inputs * parameters_per_element),
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
