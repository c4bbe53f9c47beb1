"""Closed forms of the diagonal normal distribution that priors, posteriors and likelihoods share.

All results are in nats per datum: summed over every axis after the first.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)  # nats


def sum_per_datum(values: Float[Tensor, "batch *dims"], mask: Tensor | None = None) -> Float[Tensor, " batch"]:
    """Return the sum over every axis after the batch; where a mask (`records.Batch`) is false, nothing is added."""
    counted = values if mask is None else torch.where(mask, values, 0)
    return counted.flatten(1).sum(1)


def mean_per_datum(values: Float[Tensor, "batch *dims"], mask: Tensor | None = None) -> Float[Tensor, " batch"]:
    """Return the mean over every axis after the batch, of the elements that are data; 0 where a datum has none."""
    if mask is None:
        return values.flatten(1).mean(1)
    count = mask.expand_as(values).flatten(1).sum(1).clamp(min=1)
    return sum_per_datum(values, mask) / count


def log_standard(u: Float[Tensor, "batch *dims"]) -> Float[Tensor, " batch"]:
    """Return log N(u; 0, I) = -sum_i [u_i^2 / 2 + log(2 pi) / 2]."""
    return sum_per_datum(-0.5 * u.square() - HALF_LOG_TWO_PI)


def log_density(
    x: Float[Tensor, "batch *dims"], mean: Float[Tensor, "batch *dims"], log_std: Float[Tensor, "batch *dims"]
) -> Float[Tensor, " batch"]:
    """Return log N(x; mean, diag sigma^2) = log N((x - mean) / sigma; 0, I) - sum_i log sigma_i, from log sigma."""
    return log_standard((x - mean) * torch.exp(-log_std)) - sum_per_datum(log_std)


def kl_to_standard(
    mean: Float[Tensor, "batch latent"], log_std: Float[Tensor, "batch latent"]
) -> Float[Tensor, " batch"]:
    """Return KL(N(mean, diag sigma^2) || N(0, I)) = sum_i (mean_i^2 + sigma_i^2 - 1) / 2 - log sigma_i, from log sigma.

    Kingma & Welling 2013, appendix B. sigma^2 - 1 is taken by expm1, so that the value stays exact near sigma = 1,
    where a collapsed posterior sits.
    """
    return sum_per_datum(0.5 * (mean.square() + torch.expm1(2 * log_std)) - log_std)


def kl_of_normals(
    mean: Float[Tensor, "batch latent"],
    log_std: Float[Tensor, "batch latent"],
    other_mean: Float[Tensor, "batch latent"],
    other_log_std: Float[Tensor, "batch latent"],
) -> Float[Tensor, " batch"]:
    """Return KL(N(mean, diag sigma^2) || N(mean', diag sigma'^2)), from log sigma: `kl_to_standard` of
    (mean - mean') / sigma' and log(sigma / sigma').
    """
    return kl_to_standard((mean - other_mean) * torch.exp(-other_log_std), log_std - other_log_std)
