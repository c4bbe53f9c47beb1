"""Closed forms of the diagonal normal distribution that priors, posteriors and likelihoods share.

All results are in nats per datum: summed over every axis after the first.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)  # nats


def sum_per_datum(values: Float[Tensor, "batch *dims"]) -> Float[Tensor, " batch"]:
    """Sum over every axis after the batch."""
    return values.flatten(1).sum(1)


def log_density(
    x: Float[Tensor, "batch *dims"], mean: Float[Tensor, "batch *dims"], log_std: Float[Tensor, "*#batched"] | float
) -> Float[Tensor, " batch"]:
    """log N(x; mean, sigma^2 I) = -sum_i [((x_i - mean_i) / sigma_i)^2 / 2 + log sigma_i + log(2 pi) / 2].

    `log_std` is log sigma, of the shape of x or one number for all elements.
    """
    log_std = torch.as_tensor(log_std, dtype=x.dtype, device=x.device)
    standardized = (x - mean) * torch.exp(-log_std)
    return sum_per_datum(-0.5 * standardized.square() - log_std - HALF_LOG_TWO_PI)


def kl_to_standard(
    mean: Float[Tensor, "batch latent"], log_std: Float[Tensor, "batch latent"]
) -> Float[Tensor, " batch"]:
    """KL(N(mean, sigma^2) || N(0, I)) = sum_i (mean_i^2 + sigma_i^2 - 1) / 2 - log sigma_i.

    Kingma & Welling 2013, appendix B. sigma^2 - 1 is taken by expm1, so that the value stays exact (and not negative)
    near sigma = 1, where a collapsed posterior sits.
    """
    return sum_per_datum(0.5 * (mean.square() + torch.expm1(2 * log_std)) - log_std)
