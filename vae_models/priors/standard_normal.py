"""p(z) = N(0, I)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vae_models.normal import kl_to_standard, log_standard


@dataclass(frozen=True, kw_only=True)
class StandardNormal:
    """p(z) = N(z; 0, I)."""

    def log_prob(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, " batch"]:
        """-|z|^2 / 2 - (latent / 2) log(2 pi), [batch], nats per datum."""
        return log_standard(z)

    def normal_kl(
        self, mean: Float[Tensor, "batch latent"], log_std: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, " batch"]:
        """KL(N(mean, sigma^2) || N(0, I)), closed form, [batch], nats per datum."""
        return kl_to_standard(mean, log_std)

    def sample(self, noise: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """z from standard normal `noise`: z is the noise."""
        return noise
