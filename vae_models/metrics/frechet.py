"""The Fréchet distance between two clouds of features, each taken for a normal distribution (Heusel et al. 2017).

Of Inception's features it is the FID. The trace of the matrix square root is taken from the eigenvalues of a symmetric
product, which costs a small part of a general matrix square root and is defined where a covariance is singular.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

BLOCK = 4096  # rows that are read in float64 at a time


@dataclass(frozen=True, kw_only=True)
class Moments:
    """The first two moments of rows, which add up: those of two sets of rows are those of all of them.

    mean:    [d]
    scatter: [d, d], the sum over rows of (x - mean)(x - mean)^T
    """

    count: int
    mean: Float64[Tensor, " d"]
    scatter: Float64[Tensor, "d d"]

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> Moments:
        """Return the moments of at least one row, in float64. Raise ValueError where a row is not finite."""
        if len(features) == 0:
            raise ValueError("there are no features: moments need at least one row")
        check_finite(features)
        first, *others = (cls._of_block(block) for block in torch.split(features, BLOCK))
        return sum(others, first)

    @classmethod
    def _of_block(cls, block: Tensor) -> Moments:
        x = block.double()
        mean = x.mean(0)
        centred = x - mean
        return cls(count=len(x), mean=mean, scatter=centred.T @ centred)

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows (Chan, Golub and LeVeque 1983), without their cancellation."""
        count = self.count + other.count
        shift = other.mean - self.mean
        between = torch.outer(shift, shift) * (self.count * other.count / count)
        return Moments(
            count=count,
            mean=self.mean + shift * (other.count / count),
            scatter=self.scatter + other.scatter + between,
        )

    @property
    def covariance(self) -> Float64[Tensor, "d d"]:
        """Return the unbiased covariance, scatter / (count - 1). Raise ValueError of a single row."""
        if self.count < 2:
            raise ValueError("a covariance needs at least 2 rows, and there is 1")
        return self.scatter / (self.count - 1)


def check_finite(features: Float[Tensor, "n d"]) -> None:
    """Raise ValueError that names the first rows with a number that is not finite."""
    wrong = (~features.isfinite().all(1)).nonzero()[:, 0].tolist()
    if wrong:
        shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise ValueError(f"{len(wrong)} of {len(features)} rows of features are not finite: {shown}")


def frechet_distance(one: Moments, other: Moments) -> float:
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in squared units of the features; 0 or more.

    Raise ValueError where the two are of differing features, have fewer than 2 rows, or are not finite.
    """
    if one.mean.shape != other.mean.shape:
        raise ValueError(f"features of {len(one.mean)} and of {len(other.mean)} dimensions have no distance")
    for each in (one, other):
        if not (each.mean.isfinite().all() and each.scatter.isfinite().all()):
            raise ValueError("the moments of the features are not finite")
    traces = one.covariance.trace() + other.covariance.trace()
    root = sqrt_product_trace(one.covariance, other.covariance)
    return max(0.0, float((one.mean - other.mean).square().sum() + traces - 2 * root))


def sqrt_product_trace(one: Float64[Tensor, "d d"], other: Float64[Tensor, "d d"]) -> Float64[Tensor, ""]:
    """Return tr((S1 S2)^(1/2)) of two symmetric matrices without negative eigenvalues, on the CPU.

    With S = F F^T, F [d, rank], the eigenvalues of S1 S2 that are not 0 are those of P P^T and of P^T P, P = F1^T F2:
    of the smaller one, which is as large as the lower of the two ranks, they are taken. Pivots put large directions
    first, so that small eigenvalues, whose roots count, are not lost in the rounding of large ones.
    """
    product = _factor(one.cpu()).T @ _factor(other.cpu())
    gram = product @ product.T if product.shape[0] <= product.shape[1] else product.T @ product
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.clamp(min=0).sqrt().sum()


def _factor(matrix: Float64[Tensor, "d d"]) -> Float64[Tensor, "d rank"]:
    """Return F with F F^T = matrix, up to its rounding, by Cholesky's method with pivots (LAPACK's dpstrf)."""
    from scipy.linalg.lapack import dpstrf

    packed, pivots, rank, _ = dpstrf(matrix.numpy(), lower=1)
    factor = np.empty((len(matrix), rank))
    factor[pivots - 1] = np.tril(packed)[:, :rank]
    return torch.from_numpy(factor)
