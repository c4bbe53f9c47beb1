"""beta-TCVAE (Chen et al. 2018): the rate in three parts, beta on the middle one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vae_models.collectives import gather_rows, global_mean
from vae_models.normal import HALF_LOG_TWO_PI
from vae_models.objectives.elbo import per_row, reduced
from vae_models.protocols import Model
from vae_models.records import Latent, Loss, NoiseSpec, Trace

Estimator = Literal["mws", "mss"]


def log_weights(rows: int, batch: int, start: int, data_size: int, estimator: Estimator, like: Tensor) -> Tensor:
    """Return log w_im, [rows, batch], of the estimate q(z_i) = sum_m w_im q(z_i|x_m) of the aggregate posterior.

    q(z) = (1/N) sum_n q(z|x_n) over all N data. z_i comes from x_i, which is row `start` + i of the batch; the other
    M - 1 data are drawn evenly from the N - 1 others.

    mws (minibatch-weighted sampling): w = 1/(N M) throughout. Biased: the own datum is always there.
    mss (stratified): x_i stands for itself, w_ii = 1/N, and the others for all others, w_im = (N - 1)/(N (M - 1)): in
    the mean over the others the estimate is q(z_i) exactly. (The public code of the paper has the 1/N in a fixed column
    of the matrix, which is not the own datum's.)
    """
    if min(batch, data_size) < 1 or (estimator == "mss" and min(batch, data_size) < 2):
        raise ValueError(
            f"the {estimator} estimate of q(z) compares data, and there are {batch} in the batch and {data_size} in "
            "the training split: both need at least two (mws: one); set batch_size to 2 or more"
        )
    if estimator == "mws":
        return like.new_full((rows, batch), -math.log(data_size * batch))
    others = math.log((data_size - 1) / (data_size * (batch - 1)))
    own = torch.arange(start, start + rows, device=like.device).unsqueeze(1)
    is_own = own == torch.arange(batch, device=like.device)
    return torch.where(is_own, like.new_tensor(-math.log(data_size)), like.new_tensor(others))


def parts(
    latent: Latent, data_size: int, estimator: Estimator
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Return (index-code mutual information, total correlation, dimension-wise KL), [rows], nats per datum.

    They are log q(z|x) - log q(z), log q(z) - sum_j log q(z_j), sum_j log q(z_j) - log p(z): their sum is log q(z|x) -
    log p(z) whatever the estimates are. The batch is the global one: the posteriors of all workers' data are gathered
    first.
    """
    width = latent.mean.shape[1]
    posteriors, start = gather_rows(torch.cat([latent.mean, latent.log_std], dim=1))
    mean, log_std = posteriors[:, :width], posteriors[:, width:]
    standard = (latent.sample.unsqueeze(1) - mean) * torch.exp(-log_std)
    log_each = -0.5 * standard.square() - HALF_LOG_TWO_PI - log_std  # [rows, batch, latent]
    weights = log_weights(log_each.shape[0], log_each.shape[1], start, data_size, estimator, log_each)
    log_joint = torch.logsumexp(weights + log_each.sum(-1), dim=1)
    log_product = torch.logsumexp(weights.unsqueeze(-1) + log_each, dim=1).sum(-1)
    return latent.log_q - log_joint, log_joint - log_product, log_product - latent.log_p


@dataclass(frozen=True, kw_only=True)
class TotalCorrelation:
    """total = mean_i [reconstruction + information + beta_i * total correlation + dimension-wise KL], nats per datum.

    Chen et al. 2018, eq 4 with alpha = gamma = 1. Terms besides the usual ones: information, total_correlation,
    dimension_kl. N is the size of the training split.
    """

    samples: ClassVar[int] = 1

    data_size: int
    estimator: Estimator = "mws"

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: the objective needs none beyond the model's."""
        return {}

    def __call__(self, trace: Trace, beta: Tensor, *, model: Model, noise: Mapping[str, Tensor]) -> Loss:
        information, correlation, dimensions = parts(trace.latents[0], self.data_size, self.estimator)
        loss = reduced(trace.reconstruction + information + per_row(beta, trace) * correlation + dimensions, trace)
        means = global_mean(torch.stack([information, correlation, dimensions], dim=1).detach()).unbind(0)
        names = ("information", "total_correlation", "dimension_kl")
        return Loss(total=loss.total, terms={**loss.terms, **dict(zip(names, means, strict=True))})
