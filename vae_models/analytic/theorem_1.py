"""Theorem 1 of MR-VAE: two gated linear layers are the linear VAE's optimum for every beta (appendix A.2, eqs 24-39).

eta = log beta. Row-wise gates s(v eta + b) on base weights: the sigmoid in the encoder and the covariance, the square
root sigma_D(t) = sqrt(max(0, 1 - exp t)) in the decoder. What the proof leaves out: a gate "set to 0" is 1/2 by the
sigmoid, so the base weight carries a factor 2; and in the decoder a constant gate of 1/2 needs v = 0 and
b = log(3/4), as sqrt(1 - 3/4) = 1/2. The encoder's part holds with D, hence its singular values, at one beta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from vae_models.analytic.linear_vae import leading


def sqrt_gate(t: Tensor) -> Tensor:
    """Return sigma_D (eq 7)."""
    return torch.sqrt(torch.relu(-torch.expm1(t)))


@dataclass(frozen=True, kw_only=True)
class Gated:
    """rows(eta) = gate(v eta + b) x base, row by row. base [rows, columns]; v, b [rows]."""

    base: Float64[Tensor, "rows columns"]
    v: Float64[Tensor, " rows"]
    b: Float64[Tensor, " rows"]
    square_root: bool = False

    def at(self, eta: float) -> Float64[Tensor, "rows columns"]:
        t = self.v * eta + self.b
        gate = sqrt_gate(t) if self.square_root else torch.sigmoid(t)
        rows: Tensor = gate.unsqueeze(1) * self.base
        return rows


def encoder_response(d: Float64[Tensor, "dimensions latent"], eta: float) -> Float64[Tensor, "latent dimensions"]:
    """Return E*(eta) = (D^T D + e^eta I)^-1 D^T (eq 22)."""
    squares = d.T @ d + math.exp(eta) * torch.eye(d.shape[1], dtype=d.dtype)
    response: Tensor = torch.linalg.solve(squares, d.T)
    return response


def gated_encoder(d: Float64[Tensor, "dimensions latent"]) -> tuple[Gated, Gated]:
    """Return (first, second) with second(eta) first(eta) = E*(eta), from D = A S B^T of full rank (eqs 25-28)."""
    a, singular, b_t = torch.linalg.svd(d, full_matrices=False)
    ones = torch.ones_like(singular)
    first = Gated(base=a.T, v=-ones, b=2 * torch.log(singular))
    second = Gated(base=2 * b_t.T / singular, v=0 * ones, b=0 * ones)
    return first, second


def covariance_response(d: Float64[Tensor, "dimensions latent"], eta: float) -> Float64[Tensor, " latent"]:
    """Return diag C*(eta) = e^eta / (diag(D^T D) + e^eta) (eq 29)."""
    return math.exp(eta) / (d.square().sum(0) + math.exp(eta))


def gated_covariance(d: Float64[Tensor, "dimensions latent"]) -> Gated:
    """Return the one gated layer of C*, base diagonal (eqs 30-32):
    2 and a gate of 1/2 where diag(D^T D) is 0, else 1.
    """
    squares = d.square().sum(0)
    empty = squares == 0
    safe = torch.where(empty, torch.ones_like(squares), squares)
    return Gated(
        base=torch.diag(torch.where(empty, 2.0, 1.0).to(d.dtype)),
        v=torch.where(empty, 0.0, 1.0).to(d.dtype),
        b=torch.where(empty, torch.zeros_like(squares), -torch.log(safe)),
    )


def decoder_response(
    s: Float64[Tensor, "dimensions dimensions"], rotation: Float64[Tensor, "latent latent"], eta: float
) -> Float64[Tensor, "dimensions latent"]:
    """Return D*(eta) = U (max(0, Lambda - e^eta))^(1/2) R (eq 33)."""
    values, vectors = leading(s, rotation.shape[0])
    return vectors * torch.sqrt(torch.relu(values - math.exp(eta))) @ rotation


def gated_decoder(
    s: Float64[Tensor, "dimensions dimensions"], rotation: Float64[Tensor, "latent latent"]
) -> tuple[Gated, Gated]:
    """Return (first, second) with second(eta) first(eta) = D*(eta) (eqs 37-39)."""
    values, vectors = leading(s, rotation.shape[0])
    first = Gated(base=rotation, v=torch.ones_like(values), b=-torch.log(values), square_root=True)
    rows = vectors.new_ones(vectors.shape[0])
    half = math.log(3 / 4)
    second = Gated(base=2 * vectors * torch.sqrt(values), v=0 * rows, b=half * rows, square_root=True)
    return first, second
