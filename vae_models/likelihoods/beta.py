"""p(x|z) on a closed range: the Beta density (sigma-VAE table 2, appendix C)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vae_models.likelihoods.intervals import LEVELS
from vae_models.normal import sum_per_datum
from vae_models.protocols import Measure

SLOPE = (LEVELS - 1) / LEVELS  # of y in x


@dataclass(frozen=True, kw_only=True)
class Beta:
    """p(x|z) = (255/256) Beta(y; a, b) with y = (255 x + 1/2) / 256, a = 1 + softplus(d_1), b = 1 + softplus(d_2).

    d are the decoder's two values for each element of x. Both concentrations above 1 keep the density finite, and make
    it 0 at y = 0 and 1; black and white pixels, x = 0 and x = 1, must therefore lie inside: y is the middle of the
    k-th of 256 equal bins of (0, 1). The factor is dy/dx, so this is a density in x, on (-1/510, 1 + 1/510).
    """

    measure: ClassVar[Measure] = "density"

    def parameters_per_element(self) -> int:
        return 2

    def log_prob(
        self,
        decoded: Float[Tensor, "batch channels_out *rest"],
        x: Float[Tensor, "batch channels *rest"],
        mask: Tensor | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return log p(x|z), [batch], nats per datum."""
        a, b = self._concentrations(decoded)
        y = x * SLOPE + 0.5 / LEVELS
        log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        return sum_per_datum((a - 1) * torch.log(y) + (b - 1) * torch.log1p(-y) - log_beta + math.log(SLOPE), mask)

    def mean(self, decoded: Float[Tensor, "batch channels_out *rest"]) -> Float[Tensor, "batch channels *rest"]:
        """Return E[x|z], from E[y|z] = a / (a + b)."""
        a, b = self._concentrations(decoded)
        return _x(a / (a + b))

    def variance(
        self, decoded: Float[Tensor, "batch channels_out *rest"], x: Tensor
    ) -> Float[Tensor, "batch channels *rest"]:
        """Return Var[x|z], from Var[y|z] = a b / [(a + b)^2 (a + b + 1)]."""
        a, b = self._concentrations(decoded)
        total = a + b
        return a * b / (total.square() * (total + 1)) / SLOPE**2

    def sample(
        self, decoded: Float[Tensor, "batch channels_out *rest"], noise: Float[Tensor, "batch channels *rest"]
    ) -> Float[Tensor, "batch channels *rest"]:
        """Draw x from uniform `noise` in [0, 1), by scipy's inverse of the regularized incomplete beta function."""
        from scipy.special import betaincinv

        a, b = (value.detach().double().cpu().numpy() for value in self._concentrations(decoded))
        y = torch.from_numpy(betaincinv(a, b, noise.double().cpu().numpy()))
        return _x(y).to(decoded.device, decoded.dtype)

    def _concentrations(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        first, second = decoded.chunk(2, dim=1)
        return 1 + F.softplus(first), 1 + F.softplus(second)


def _x(y: Tensor) -> Tensor:
    return (y - 0.5 / LEVELS) / SLOPE
