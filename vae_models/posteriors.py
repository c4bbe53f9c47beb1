"""q(z|x): from the encoder's two outputs and noise to a `Latent`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vae_models.normal import log_density
from vae_models.protocols import Prior
from vae_models.records import Latent


@dataclass(frozen=True, kw_only=True)
class DiagonalNormal:
    """q(z|x) = N(mean(x), diag sigma(x)^2) with log sigma = raw / 2: the encoder's second output is the log-variance.

    Reparameterized, z = mean + sigma * noise (Kingma & Welling 2013, section 2.4 and appendix C).
    """

    def latent(
        self,
        name: str,
        mean: Float[Tensor, "batch latent"],
        raw: Float[Tensor, "batch latent"],
        noise: Float[Tensor, "batch latent"],
        prior: Prior,
    ) -> Latent:
        """One stochastic layer. The rate is the prior's closed form if it has one, else log q(z|x) - log p(z)."""
        log_std = raw / 2
        z = mean + torch.exp(log_std) * noise
        log_q = log_density(z, mean, log_std)
        log_p = prior.log_prob(z)
        closed_form = prior.normal_kl(mean, log_std)
        rate = log_q - log_p if closed_form is None else closed_form
        return Latent(name=name, sample=z, mean=mean, log_std=log_std, log_q=log_q, log_p=log_p, rate=rate)
