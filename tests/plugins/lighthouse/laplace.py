"""p(x|z), a product of Laplace densities."""

from __future__ import annotations

import math

import torch
from torch import nn

from vae_models.normal import sum_per_datum
from vae_models.numbers import Number


class Laplace(nn.Module):
    """p(x|z) = prod_i exp(-|x_i - mean_i| / b) / 2b; the decoder's output is the mean."""

    measure = "density"

    def __init__(self, *, scale: float) -> None:
        super().__init__()
        self.scale = Number(scale)
        self.log_two_scale = Number(math.log(2 * scale))

    def parameters_per_element(self):
        return 1

    def log_prob(self, decoded, x, mask=None):
        """-sum_i [|x_i - mean_i| / b + log 2b], [batch], nats per datum."""
        terms = (x - decoded).abs() / self.scale.like(x) + self.log_two_scale.like(x)
        return -sum_per_datum(terms, mask)

    def mean(self, decoded):
        return decoded

    def sample(self, decoded, noise):
        """mean - b sign(u) log(1 - 2|u|), u = noise - 1/2 (inverse distribution function)."""
        centred = (noise - 0.5).clamp(-0.5 + 1e-7, 0.5 - 1e-7)
        return decoded - self.scale.like(decoded) * centred.sign() * torch.log1p(-2 * centred.abs())
