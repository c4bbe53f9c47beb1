"""q(z|x): from the encoder's outputs and noise to a `Latent`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.normal import log_density
from vae_models.protocols import BoundPrior
from vae_models.records import Latent


def normal_latent(
    name: str,
    mean: Float[Tensor, "batch latent"],
    log_std: Float[Tensor, "batch latent"],
    noise: Float[Tensor, "batch latent"],
    prior: BoundPrior,
) -> Latent:
    """Return the latent z = mean + sigma * noise. Its rate is the prior's closed form, else log q(z|x) - log p(z)."""
    z = mean + torch.exp(log_std) * noise
    log_q = log_density(z, mean, log_std)
    log_p = prior.log_prob(z)
    closed_form = prior.normal_kl(mean, log_std)
    rate = log_q - log_p if closed_form is None else closed_form
    return Latent(name=name, sample=z, mean=mean, log_std=log_std, log_q=log_q, log_p=log_p, rate=rate)


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
        """Return (mean, log sigma)."""
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
        """Return one stochastic layer: see `normal_latent`."""
        return normal_latent(name, *self.normal(mean, raw), noise, prior)


class IsotropicNormal(nn.Module):
    """q(z|x) = N(mean(x), sigma_z^2 I), one sigma_z for all data and dimensions: given, or a trained parameter.

    AR-ELBO 4 and table 1 ("stochastic encoding" trains sigma_z^2), appendix E (given). The encoder gives only the mean.
    """

    scale: ClassVar[bool] = False
    bound: ClassVar[bool] = True
    log_sigma: Tensor

    def __init__(self, *, sigma: float, trained: bool) -> None:
        super().__init__()
        value = torch.tensor(math.log(sigma))
        if trained:
            self.log_sigma = nn.Parameter(value)
        else:
            self.register_buffer("log_sigma", value)

    def normal(
        self, mean: Float[Tensor, "batch latent"], raw: Tensor | None
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Return (mean, log sigma_z)."""
        return mean, self.log_sigma.to(mean.dtype).expand_as(mean)

    def latent(
        self,
        name: str,
        mean: Float[Tensor, "batch latent"],
        raw: Tensor | None,
        noise: Float[Tensor, "batch latent"],
        prior: BoundPrior,
    ) -> Latent:
        """Return one stochastic layer, as of a diagonal normal."""
        return normal_latent(name, *self.normal(mean, raw), noise, prior)


@dataclass(frozen=True, kw_only=True)
class Delta:
    """z = mean(x): a deterministic encoder (AE, RAE, WAE; AR-ELBO 4.2's deterministic encoding).

    q(z|x) has no density, so there is no rate and no bound: the latent's rate, log_q and log_p are zero, and what reads
    `Trace.bound` reports neither rate nor elbo. `normal` is refused: nothing can be made of such posteriors.
    """

    scale: ClassVar[bool] = False
    bound: ClassVar[bool] = False

    def normal(self, mean: Tensor, raw: Tensor | None) -> tuple[Tensor, Tensor]:
        """Raise TypeError: q(z|x) is no normal distribution."""
        raise TypeError("a deterministic encoder has no normal posterior")

    def latent(
        self,
        name: str,
        mean: Float[Tensor, "batch latent"],
        raw: Tensor | None,
        noise: Float[Tensor, "batch latent"],
        prior: BoundPrior,
    ) -> Latent:
        """Return the mean as sample; log_std, for minus infinity, is the logarithm of the smallest normal number."""
        zero = mean.new_zeros(mean.shape[0])
        log_std = torch.full_like(mean, math.log(torch.finfo(mean.dtype).tiny))
        return Latent(name=name, sample=mean, mean=mean, log_std=log_std, log_q=zero, log_p=zero, rate=zero)
