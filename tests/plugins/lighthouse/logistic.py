"""p(z), a product of logistic densities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vae_models.records import NoiseSpec


@dataclass(frozen=True, kw_only=True)
class Logistic:
    """p(z) = prod_i e^-z_i / (1 + e^-z_i)^2. latent: dimensions of z."""

    latent: int

    def noise(self):
        return {}

    def bind(self, encode, noise):
        return self

    def log_prob(self, z):
        """-sum_i [z_i + 2 log(1 + e^-z_i)], [batch], nats per datum."""
        return -(z + 2 * F.softplus(-z)).sum(1)

    def normal_kl(self, mean, log_std):
        """None: there is no closed form."""
        return

    def sample_noise(self):
        return {"u": NoiseSpec(shape=(self.latent,), kind="uniform")}

    def sample(self, noise, encode):
        return torch.logit(noise["u"], eps=1e-6)
