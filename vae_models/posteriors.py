"""q(z|x): from the encoder's outputs and noise to a `Latent`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vae_models.normal import log_density
from vae_models.protocols import BoundPrior
from vae_models.records import Latent


@dataclass(frozen=True, kw_only=True)
class DiagonalNormal:
    """q(z|x) = N(mean(x), diag sigma(x)^2) with log sigma = raw / 2: the encoder's second output is the log-variance.

    Reparameterized, z = mean + sigma * noise (Kingma & Welling 2013, section 2.4 and appendix C).
    """

    scale: ClassVar[bool] = True
    bound: ClassVar[bool] = True

    def normal(
        self, mean: Float[Tensor, "batch latent"], raw: Float[Tensor, "batch latent"] | None
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """(mean, log sigma)."""
        assert raw is not None, "the backbone was built without a scale head"
        return mean, raw / 2

    def latent(
        self,
        name: str,
        mean: Float[Tensor, "batch latent"],
        raw: Float[Tensor, "batch latent"] | None,
        noise: Float[Tensor, "batch latent"],
        prior: BoundPrior,
    ) -> Latent:
        """One stochastic layer. The rate is the prior's closed form if it has one, else log q(z|x) - log p(z)."""
        mean, log_std = self.normal(mean, raw)
        z = mean + torch.exp(log_std) * noise
        log_q = log_density(z, mean, log_std)
        log_p = prior.log_prob(z)
        closed_form = prior.normal_kl(mean, log_std)
        rate = log_q - log_p if closed_form is None else closed_form
        return Latent(name=name, sample=z, mean=mean, log_std=log_std, log_q=log_q, log_p=log_p, rate=rate)
