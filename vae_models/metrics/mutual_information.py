"""The mutual information of x and z under q(z|x) q(x), by the aggregate posterior of N data, in nats.

I(x; z) = E log q(z|x) - E log q(z) with q(z) = E_x q(z|x). Of z_i ~ q(z|x_i), q(z_i) is estimated over the same data,

with the self term:    q(z_i) ~ 1/N sum_j q(z_i|x_j), a lower bound in expectation that cannot exceed log N
without the self term: q(z_i) ~ 1/(N - 1) sum_{j != i} q(z_i|x_j), an upper bound in expectation without a limit

(Poole et al. 2019, "On variational bounds of mutual information", section 2: both by Jensen's inequality). Far below
log N the two agree; what lies between them the data cannot tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vae_models.metrics.estimate import Estimate, standard_error
from vae_models.normal import HALF_LOG_TWO_PI, log_density

BYTES_PER_PAIR = 5 * 8  # of a block: log q(z_i|x_j), two products that make it, and the weights, in float64


@dataclass(frozen=True, kw_only=True)
class AggregatePosterior:
    """log q(z_i) of N samples z_i ~ q(z|x_i), and what each datum adds to it, [N] each.

    log_own:            log q(z_i|x_i)
    log_with_self, log_without_self: log q(z_i), nats
    weight_with_self, weight_without_self: of datum j, sum over i of its share of q(z_i); 1 on average. Every estimate
                        depends on a datum twice, as a sample and as a part of q(z), and its error on both
    """

    log_own: Float64[Tensor, " data"]
    log_with_self: Float64[Tensor, " data"]
    log_without_self: Float64[Tensor, " data"]
    weight_with_self: Float64[Tensor, " data"]
    weight_without_self: Float64[Tensor, " data"]


def aggregate_posterior(
    samples: Float[Tensor, "data latent"],
    means: Float[Tensor, "data latent"],
    log_stds: Float[Tensor, "data latent"],
    *,
    memory_mib: int = 1024,
) -> AggregatePosterior:
    """Return q(z) at z_i ~ q(z|x_i) = N(mean_i, diag sigma_i^2): N x N densities in float64, in blocks of rows.

    The result depends on memory_mib, what a block may take, within rounding. Raise ValueError for fewer than two data.
    """
    count = samples.shape[0]
    if count < 2:
        raise ValueError(f"an aggregate posterior needs at least 2 data, got {count}")
    z, mean, log_std = samples.double(), means.double(), log_stds.double()
    own, pairs = log_density(z, mean, log_std), _Pairs.of(mean, log_std)
    without, share = torch.empty_like(own), torch.empty_like(own)  # share: of all but the self term
    weight_with, weight_without = torch.zeros_like(own), torch.zeros_like(own)
    block = max(1, memory_mib * 2**20 // (BYTES_PER_PAIR * count))
    for rows in torch.split(torch.arange(count, device=z.device), block):
        log_q = pairs.log_density(z[rows])
        log_q[rows - rows[0], rows] = -torch.inf
        total = torch.logsumexp(log_q, 1)
        weights = log_q.sub_(total[:, None]).exp_()
        without[rows] = total
        share[rows] = torch.sigmoid(total - own[rows])
        weight_without += weights.sum(0)
        weight_with += share[rows] @ weights
    return AggregatePosterior(
        log_own=own,
        log_with_self=torch.logaddexp(without, own) - math.log(count),
        log_without_self=without - math.log(count - 1),
        weight_with_self=weight_with + (1 - share),
        weight_without_self=weight_without,
    )


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """log q(z|x_j) of all j, by two matrix products: -1/2 sum_d (z^2 - 2 z mean + mean^2) / sigma^2 + constant."""

    precision: Tensor
    scaled_mean: Tensor
    constant: Tensor

    @classmethod
    def of(cls, mean: Tensor, log_std: Tensor) -> _Pairs:
        precision = torch.exp(-2 * log_std)
        constant = -(0.5 * mean.square() * precision + log_std + HALF_LOG_TWO_PI).sum(1)
        return cls(precision=precision.T, scaled_mean=(mean * precision).T, constant=constant)

    def log_density(self, z: Tensor) -> Tensor:
        """Return log q(z_i|x_j), [rows, data]."""
        return (-0.5 * z.square()) @ self.precision + z @ self.scaled_mean + self.constant


def mutual_information(log_conditional: Float64[Tensor, " data"], log_q: Tensor, weight: Tensor) -> Estimate:
    """Return the mean of log_conditional_i - log_q_i, with its standard error over data by the infinitesimal jackknife.

    log_conditional: log q(z_i|x_i), or what it is on average, `minus_entropy`. log_q, weight: one of the two kinds of
    `AggregatePosterior`. The influence of datum k is log_conditional_k - log_q_k - weight_k but for a constant: more
    data like it make its own sample count more, and q(z) larger where it is.
    """
    per_datum = log_conditional - log_q
    return Estimate(value=float(per_datum.mean()), error=standard_error(per_datum - weight))


def marginal_kl(log_q: Float64[Tensor, " data"], weight: Tensor, log_prior: Tensor) -> Estimate:
    """Return KL(q(z) || p(z)) = E log q(z) - log p(z), which is the rate less the mutual information."""
    per_datum = log_q - log_prior
    return Estimate(value=float(per_datum.mean()), error=standard_error(per_datum + weight))


def minus_entropy(log_stds: Float[Tensor, "data latent"]) -> Float64[Tensor, " data"]:
    """Return E log q(z|x) = -sum_d [log sigma_d + log(2 pi e) / 2], [data], nats.

    With it `mutual_information` is the estimate of AR-ELBO's table 1, for any diagonal normal: (D.1) has one sigma for
    all, and the constants of the two terms cancel but for latent / 2. Its text has the dimensions of x in that place.
    """
    return -(log_stds.double() + HALF_LOG_TWO_PI + 0.5).sum(1)
