"""Whether each latent dimension stands for one factor of the data, and each factor for one dimension.

Tables are [latent, factors]: how much dimension j tells of factor k. Factors are int64 [data, factors], classes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from vae_models.normal import HALF_LOG_TWO_PI

BYTES_PER_PAIR = 4 * 8  # of a block: q(z_i|x_j) and what makes it, in float64


def equal_width(values: Float[Tensor, "data latent"], bins: int) -> Int64[Tensor, "data latent"]:
    """Return the bin of each value, 0 .. bins - 1, of equal width between the smallest and the largest of its column.

    As Locatello et al. 2019 have it. A column of one value is in bin 0.
    """
    low, high = values.double().aminmax(dim=0)
    width = torch.where(high > low, high - low, 1)
    return ((values.double() - low) / width * bins).long().clamp(max=bins - 1)


def entropy(classes: Int64[Tensor, " data"]) -> float:
    """Return -sum p log p of the shares of the classes, nats."""
    shares = torch.unique(classes, return_counts=True)[1].double() / len(classes)
    return float(-(shares * shares.log()).sum())


def binned_information(
    bins: Int64[Tensor, "data latent"], factors: Int64[Tensor, "data factors"]
) -> Float64[Tensor, "latent factors"]:
    """Return the mutual information of each binned dimension and each factor, from their joint shares, nats."""
    table = torch.zeros(bins.shape[1], factors.shape[1], dtype=torch.float64)
    for j, ours in enumerate(bins.unbind(1)):
        for k, theirs in enumerate(factors.unbind(1)):
            joint = ours * (int(theirs.max()) + 1) + theirs
            table[j, k] = entropy(ours) + entropy(theirs) - entropy(joint)
    return table


def posterior_information(
    samples: Float[Tensor, "data latent"],
    means: Float[Tensor, "data latent"],
    log_stds: Float[Tensor, "data latent"],
    factors: Int64[Tensor, "data factors"],
    *,
    memory_mib: int = 1024,
) -> Float64[Tensor, "latent factors"]:
    """Return I(z_j; v_k) = E log q(z_j|v_k) - E log q(z_j), nats (Chen et al. 2018, appendix C).

    q(z_j) is the mixture of all data's posteriors, q(z_j|v_k) of those with the same v_k; one sample of each datum. The
    sample's own posterior is in both, hence values of narrow posteriors are too large, by at most the logarithm of the
    number of data over that of a class. memory_mib: what the densities of a block of data may take.
    """
    z, mean, log_std, count = samples.double(), means.double(), log_stds.double(), len(samples)
    kinds = [_indicators(column) for column in factors.unbind(1)]
    table = torch.zeros(samples.shape[1], factors.shape[1], dtype=torch.float64)
    block = max(1, memory_mib * 2**20 // (BYTES_PER_PAIR * count))
    for j in range(samples.shape[1]):
        for rows in torch.split(torch.arange(count), block):
            density = _densities(z[rows, j], mean[:, j], log_std[:, j])
            marginal = density.mean(1).log()
            for k, kind in enumerate(kinds):
                conditional = ((density @ kind) * kind[rows]).sum(1) / (kind[rows] @ kind.sum(0))
                table[j, k] += (conditional.log() - marginal).sum() / count
    return table


def _indicators(classes: Tensor) -> Tensor:
    """Return which class each datum is of, as 0 and 1, float64 [data, classes]."""
    return torch.nn.functional.one_hot(torch.unique(classes, return_inverse=True)[1]).double()


def _densities(z: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return q(z_i|x_j) of one dimension, [data, data], rows of it, each scaled so that its largest is 1."""
    standard = (z[:, None] - mean) * torch.exp(-log_std)
    log_q = -0.5 * standard.square() - log_std - HALF_LOG_TWO_PI
    return torch.exp(log_q - log_q.amax(1, keepdim=True))


def gaps(table: Float64[Tensor, "latent factors"]) -> Float64[Tensor, " factors"]:
    """Return for each factor the largest value less the second largest, which is 0 where there is one dimension.

    Over the factors' entropies and averaged it is MIG (Chen et al. 2018); of scores of prediction by one dimension, SAP
    (Kumar et al. 2018).
    """
    ordered = table.sort(0, descending=True).values
    return ordered[0] - ordered[1] if len(ordered) > 1 else ordered[0]


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
