"""Whether each latent dimension stands for one factor of the data, and each factor for one dimension.

Tables are [latent, factors]: how much dimension j tells of factor k. Factors are int64 [data, factors], classes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from vae_models.metrics.estimate import Estimate
from vae_models.normal import HALF_LOG_TWO_PI

BYTES_PER_PAIR = 4 * 8  # of a block: q(z_i|x_j) and what makes it, in float64


def equal_width(values: Float[Tensor, "data latent"], bins: int) -> Int64[Tensor, "data latent"]:
    """Return the bin of each value, 0 .. bins - 1, of equal width between the smallest and the largest of its column.

    As Locatello et al. 2019 have it. A column of one value is in bin 0.
    """
    low, high = values.double().aminmax(dim=0)
    width = torch.where(high > low, high - low, 1)
    return ((values.double() - low) / width * bins).long().clamp(max=bins - 1)


def surprisal(classes: Int64[Tensor, "data factors"]) -> Float64[Tensor, "data factors"]:
    """Return -log p of each datum's class, nats: its mean is the entropy of the factor."""
    return torch.stack([-_log_shares(column) for column in classes.unbind(1)], 1)


def binned_information(
    bins: Int64[Tensor, "data latent"], factors: Int64[Tensor, "data factors"]
) -> Float64[Tensor, "data latent factors"]:
    """Return log p(b, v) - log p(b) - log p(v) of each datum's bin and class, by the shares of the data, nats.

    Its mean over data is the mutual information of each binned dimension and each factor.
    """
    information = bins.new_zeros(*bins.shape, factors.shape[1], dtype=torch.float64)
    for j, ours in enumerate(bins.unbind(1)):
        for k, theirs in enumerate(factors.unbind(1)):
            joint = ours * (int(theirs.max()) + 1) + theirs
            information[:, j, k] = _log_shares(joint) - _log_shares(ours) - _log_shares(theirs)
    return information


def _log_shares(classes: Tensor) -> Tensor:
    """Return the logarithm of the share of each datum's class."""
    _, places, counts = torch.unique(classes, return_inverse=True, return_counts=True)
    log_shares: Tensor = (counts.double() / len(classes)).log()
    return log_shares[places]


def posterior_information(
    samples: Float[Tensor, "data latent"],
    means: Float[Tensor, "data latent"],
    log_stds: Float[Tensor, "data latent"],
    factors: Int64[Tensor, "data factors"],
    *,
    memory_mib: int = 1024,
) -> Float64[Tensor, "data latent factors"]:
    """Return log q(z_j|v_k) - log q(z_j) at one sample of each datum, nats (Chen et al. 2018, appendix C).

    Its mean over data is I(z_j; v_k). q(z_j) is the mixture of all data's posteriors, q(z_j|v_k) of those with the same
    v_k. The sample's own posterior is in both, hence informations of narrow posteriors are too large, by at most the
    logarithm of the number of data over that of a class. memory_mib: what the densities of a block of data may take.
    """
    z, mean, log_std, count = samples.double(), means.double(), log_stds.double(), len(samples)
    kinds = [_indicators(column) for column in factors.unbind(1)]
    information = z.new_zeros(*z.shape, len(kinds))
    block = max(1, memory_mib * 2**20 // (BYTES_PER_PAIR * count))
    for j in range(z.shape[1]):
        for rows in torch.split(torch.arange(count), block):
            density = _densities(z[rows, j], mean[:, j], log_std[:, j])
            marginal = density.mean(1).log()
            for k, kind in enumerate(kinds):
                conditional = ((density @ kind) * kind[rows]).sum(1) / (kind[rows] @ kind.sum(0))
                information[rows, j, k] = conditional.log() - marginal
    return information


def _indicators(classes: Tensor) -> Tensor:
    """Return which class each datum is of, as 0 and 1, float64 [data, classes]."""
    return torch.nn.functional.one_hot(torch.unique(classes, return_inverse=True)[1]).double()


def _densities(z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return q(z_i|x_j) of one dimension, [data, data], rows of it, each scaled so that its largest is 1."""
    standard = (z[:, None] - mean) * torch.exp(-log_std)
    log_q = -0.5 * standard.square() - log_std - HALF_LOG_TWO_PI
    return torch.exp(log_q - log_q.amax(1, keepdim=True))


def information_gap(
    information: Float64[Tensor, "data latent factors"], surprisals: Float64[Tensor, "data factors"]
) -> Estimate:
    """Return MIG: the mean over factors of (I_1 - I_2) / H, the largest and second largest information of a dimension
    over the factor's entropy (Chen et al. 2018, eq 6); I_2 is 0 where there is one dimension.

    The arguments' means over data are the informations and the entropies. The error is over data, by the delta method,
    with the two dimensions given.
    """
    apart, entropies = _gaps(information), surprisals.mean(0)
    ratio = apart.mean(0) / entropies
    return Estimate.mean((ratio + (apart - ratio * surprisals) / entropies).mean(1))


def score_gap(scores: Float64[Tensor, "data latent factors"]) -> Estimate:
    """Return SAP: the mean over factors of the largest less the second largest score of one dimension alone (Kumar et
    al. 2018). The argument's means over data are the scores; the error is over data, with the two dimensions given.
    """
    return Estimate.mean(_gaps(scores).mean(1))


def _gaps(per_datum: Tensor) -> Tensor:
    """Return each datum's share in the largest mean less the second largest of the dimensions, [data, factors]."""
    best = per_datum.mean(0).topk(min(2, per_datum.shape[1]), dim=0).indices
    places = best[None].expand(len(per_datum), -1, -1)
    ordered = per_datum.gather(1, places)
    return ordered[:, 0] - ordered[:, 1] if len(best) > 1 else ordered[:, 0]


def disentanglement(importance: Float64[Tensor, "latent factors"]) -> float:
    """Return sum_j rho_j (1 - H_K(P_j)): P_j the shares of dimension j's importance among the K >= 2 factors, rho_j its
    share of all importance, H_K the entropy with logarithms of base K (Eastwood and Williams 2018, section 2).
    """
    return float((_concentration(importance) * importance.sum(1)).sum() / importance.sum())


def completeness(importance: Float64[Tensor, "latent factors"]) -> float:
    """Return the mean over factors of 1 - H_d(P_k): P_k the shares of factor k's importance among the d dimensions, of
    which a single one makes 1 (Eastwood and Williams 2018, section 2).
    """
    return float(_concentration(importance.T).mean())


def _concentration(importance: Tensor) -> Tensor:
    """Return 1 less the entropy of each row's shares, in units of the largest there can be; 0 of an empty row."""
    if importance.shape[1] < 2:
        return torch.ones(importance.shape[0], dtype=importance.dtype)
    total = importance.sum(1, keepdim=True)
    shares = torch.where(total > 0, importance / total.clamp(min=torch.finfo(importance.dtype).tiny), 0)
    result: Tensor = 1 + torch.xlogy(shares, shares).sum(1) / math.log(importance.shape[1])
    return torch.where(total[:, 0] > 0, result, 0)
