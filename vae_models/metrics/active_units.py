"""How many latent dimensions a model uses: by the variance of the posterior's means, or by each dimension's KL."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

ACTIVE_VARIANCE = 0.01  # Burda et al.'s threshold, in units of the prior's variance
ACTIVE_KL = 0.01  # nats per datum. Ours: VHP's figure 20 shows the KL of every dimension and counts none


def active_units(means: Float[Tensor, "data latent"], threshold: float = ACTIVE_VARIANCE) -> int:
    """Return #{u : Var_x(E_q[z_u | x]) > threshold}, over all data of a split (Burda et al. 2016, section 5).

    `means` are the posterior means, `Latent.mean`, of at least two data. The variance is the unbiased one, in float64.
    """
    if means.shape[0] < 2:
        raise ValueError(f"active units need the posterior means of at least 2 data, got {means.shape[0]}")
    return int((means.double().var(0) > threshold).sum())


def dimension_kl(
    means: Float[Tensor, "data latent"], log_stds: Float[Tensor, "data latent"]
) -> Float64[Tensor, " latent"]:
    """Return E_x KL(q(z_j|x) || N(0, 1)) of each dimension j, largest first, [latent],
    nats per datum (VHP D.2, figure 20).

    KL_j = (mean_j^2 + sigma_j^2 - 1) / 2 - log sigma_j. Of a VAE's own latent: `Latent.mean`, `Latent.log_std`. VHP
    measures the inner one, q(zeta|x): `inner_posterior` of its prior gives the two for samples z ~ q(z|x).
    """
    return each_dimension_kl(means, log_stds).sort(descending=True).values


def each_dimension_kl(
    means: Float[Tensor, "data latent"], log_stds: Float[Tensor, "data latent"]
) -> Float64[Tensor, " latent"]:
    """Return the KL of each dimension in its own place: `dimension_kl` unsorted."""
    if means.shape[0] < 1:
        raise ValueError("the KL of each dimension needs the posterior of at least 1 datum")
    mean, log_std = means.double(), log_stds.double()
    each = (mean.square() + torch.exp(2 * log_std) - 1) / 2 - log_std
    return each.mean(0)


def active_units_by_kl(
    means: Float[Tensor, "data latent"], log_stds: Float[Tensor, "data latent"], threshold: float = ACTIVE_KL
) -> int:
    """Return #{j : E_x KL(q(z_j|x) || N(0, 1)) > threshold}: see `dimension_kl`."""
    return int((dimension_kl(means, log_stds) > threshold).sum())
