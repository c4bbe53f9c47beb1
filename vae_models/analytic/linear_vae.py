"""The linear VAE's optimum in closed form, for every beta (Lucas et al. 2019; MR-VAE appendix A, eqs 12-39).

p(x|z) = N(D z + mu, I), q(z|x) = N(E (x - mu), C) with C diagonal, p(z) = N(0, I). Nats per datum; S is the data's
covariance with 1/N. All in float64.

Two slips of the text: eq 18 has W V for D E, and eq 15 a constant inside the half (it is d/2 log 2 pi in all).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LinearVAE:
    """decoder D [dimensions, latent], encoder E [latent, dimensions], covariance: C's diagonal [latent]."""

    decoder: Float64[Tensor, "dimensions latent"]
    encoder: Float64[Tensor, "latent dimensions"]
    covariance: Float64[Tensor, " latent"]


def optimum(s: Float64[Tensor, "dimensions dimensions"], latent: int, beta: float) -> LinearVAE:
    """Return the global minimum of distortion + beta x rate, with R = I,
    for which q's diagonal C is the true posterior's.

    D* = U (max(0, Lambda - beta))^(1/2), U and Lambda the first eigenvectors and values of S (eq 23);
    C* = beta (diag(D^T D) + beta)^-1 (eq 21), E* = (D^T D + beta)^-1 D^T (eq 22).
    """
    values, vectors = leading(s, latent)
    decoder = vectors * torch.sqrt(torch.relu(values - beta))
    squares = decoder.square().sum(0)
    return LinearVAE(
        decoder=decoder,
        encoder=(decoder / (squares + beta)).T,
        covariance=beta / (squares + beta),
    )


def leading(s: Float64[Tensor, "dimensions dimensions"], latent: int) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalues of S, descending, [latent], and their eigenvectors, [dimensions, latent]."""
    values, vectors = torch.linalg.eigh(s.double())
    return values.flip(0)[:latent], vectors.flip(1)[:, :latent]


def rate(model: LinearVAE, s: Float64[Tensor, "dimensions dimensions"]) -> Float64[Tensor, ""]:
    """Return E KL(q(z|x) || p(z)) = (-log det C + tr(E S E^T) + tr C - k) / 2 (eq 14, mean over the data)."""
    c = model.covariance
    means = torch.einsum("ki,ij,kj->", model.encoder, s, model.encoder)
    return 0.5 * (-torch.log(c).sum() + means + c.sum() - c.shape[0])


def distortion(model: LinearVAE, s: Float64[Tensor, "dimensions dimensions"]) -> Float64[Tensor, ""]:
    """Return -E log p(x|z) = [tr(D C D^T) + tr((I - D E) S (I - D E)^T) + d log 2 pi] / 2 (eqs
    15-18, mean over the data).
    """
    dimensions = s.shape[0]
    rest = torch.eye(dimensions, dtype=s.dtype) - model.decoder @ model.encoder
    spread = (model.decoder.square() * model.covariance).sum()
    return 0.5 * (spread + torch.einsum("ij,jk,ik->", rest, s, rest) + dimensions * math.log(2 * math.pi))


def optimal_rate_distortion(
    s: Float64[Tensor, "dimensions dimensions"], latent: int, beta: float
) -> tuple[float, float]:
    """Return (rate, distortion) at the optimum, nats per datum.

    rate = sum_i log(lambda_i / beta) / 2 over lambda_i > beta, and
    distortion = [sum of the other eigenvalues + beta x (number of lambda_i > beta) + d log 2 pi] / 2.
    """
    values = torch.linalg.eigvalsh(s.double())
    kept = values.flip(0)[:latent]
    kept = kept[kept > beta]
    others = values.sum() - kept.sum()
    rate_ = 0.5 * torch.log(kept / beta).sum()
    distortion_ = 0.5 * (others + beta * kept.shape[0] + s.shape[0] * math.log(2 * math.pi))
    return float(rate_), float(distortion_)
