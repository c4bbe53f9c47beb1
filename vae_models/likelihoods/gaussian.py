"""p(x|z) of continuous data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vae_models.normal import log_standard
from vae_models.protocols import Measure


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """p(x|z) = N(x; link(d), sigma^2 I), d [batch, *data] the decoder's raw output, sigma fixed and in units of x.

    A density: its values may be positive and may not be compared with those of a mass.
    link: "identity", or "sigmoid" for a mean inside (0, 1).
    """

    measure: ClassVar[Measure] = "density"

    sigma: float = 1.0
    link: Literal["identity", "sigmoid"] = "identity"

    def parameters_per_element(self) -> int:
        return 1

    def log_prob(
        self, decoded: Float[Tensor, "batch *data"], x: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, " batch"]:
        """-sum_i [((x_i - mean_i) / sigma)^2 / 2 + log sigma + log(2 pi) / 2], [batch], nats per datum."""
        dimensions = math.prod(x.shape[1:])
        return log_standard((x - self.mean(decoded)) / self.sigma) - dimensions * math.log(self.sigma)

    def mean(self, decoded: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        """E[x|z]."""
        return torch.sigmoid(decoded) if self.link == "sigmoid" else decoded

    def sample(
        self, decoded: Float[Tensor, "batch *data"], noise: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *data"]:
        """x from uniform `noise` in [0, 1): mean + sigma * Phi^-1(noise)."""
        # 0 and 1 would map to infinity: a generator may return the one, and rounding to float32 make the other
        info = torch.finfo(noise.dtype)
        standard: Tensor = torch.special.ndtri(noise.clamp(info.tiny, 1 - info.eps / 2))
        return self.mean(decoded) + self.sigma * standard
