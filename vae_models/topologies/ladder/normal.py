"""NVAE's normals: soft-clamped parameters, and posteriors relative to their priors (Vahdat and Kautz 2020, 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models.normal import log_density, sum_per_datum

LARGEST = 5.0  # of |mean| and |log sigma|, never reached
FLOOR = 0.01  # added to sigma


def soft_clamp(v: Tensor) -> Tensor:
    """Return 5 tanh(v / 5): v near zero, never beyond 5."""
    return LARGEST * torch.tanh(v / LARGEST)


@dataclass(frozen=True)
class Normal:
    """N(mean, diag std^2), each [batch, latent, height, width], sampled and measured per datum, nats."""

    mean: Tensor
    std: Tensor

    @classmethod
    def clamped(cls, mean: Tensor, log_std: Tensor) -> Normal:
        """Return the normal of raw parameters: both soft-clamped, sigma = exp(log sigma) + 0.01."""
        return cls(soft_clamp(mean), torch.exp(soft_clamp(log_std)) + FLOOR)

    @property
    def log_std(self) -> Tensor:
        """Return log sigma."""
        return torch.log(self.std)

    def sample(self, noise: Tensor) -> Tensor:
        """Return mean + sigma noise."""
        return self.mean + self.std * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log N(z; mean, sigma^2), [batch], nats per datum."""
        return log_density(z, self.mean, self.log_std)

    def kls(self, other: Normal) -> Tensor:
        """Return ((mean - mean')^2 / sigma'^2 + r^2 - 1) / 2 - log r, r = sigma / sigma', of each element."""
        ratio = self.std / other.std
        apart = (self.mean - other.mean) / other.std
        return 0.5 * (apart.square() + ratio.square() - 1) - torch.log(ratio)

    def kl(self, other: Normal) -> Tensor:
        """Return KL(self || other), [batch]: the sum of `kls`."""
        return sum_per_datum(self.kls(other))
