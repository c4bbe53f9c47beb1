"""Encoder and decoder for vectors."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import nn

from vae_models.nn.heads import PosteriorHeads


class _Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bent, self.straight = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, x):
        return F.silu(self.bent(x)) + self.straight(x)


class Residual(nn.Module):
    """One layer each way: silu(A x) + B x."""

    def __init__(self, data_shape, latent, width, parameters_per_element, *, scale=True) -> None:
        super().__init__()
        inputs = math.prod(data_shape)
        self.shape = (data_shape[0] * parameters_per_element, *data_shape[1:])
        self.encoder = nn.Sequential(nn.Flatten(), _Layer(inputs, width))
        self.heads = PosteriorHeads(width, latent, scale=scale)
        self.decoder = nn.Sequential(_Layer(latent, width), nn.Linear(width, math.prod(self.shape)))

    def encode(self, x):
        return self.heads(self.encoder(x))

    def decode(self, z):
        return self.decoder(z).unflatten(1, self.shape)
