"""The kernel distance between two clouds of features: unbiased where the Fréchet distance depends on their size.

Of Inception's features it is the KID (Binkowski et al. 2018): the squared maximum mean discrepancy under the kernel
k(x, y) = (x.y / d + 1)^3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vae_models.metrics.frechet import check_finite

BLOCK = 1000  # rows of each cloud from which one value of the error's sample is computed
CHUNK = 1024  # rows of a kernel matrix that are held at a time


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """value: the estimate from all rows, which may be below 0. error: its standard error, None of a single block."""

    value: float
    error: float | None


def kernel_distance(one: Float[Tensor, "n d"], other: Float[Tensor, "m d"], block: int = BLOCK) -> KernelDistance:
    """Return the unbiased squared discrepancy of two clouds of at least 2 rows each; no unit but the kernel's.

    error: the standard deviation over disjoint blocks of `block` rows of each, over the root of their number. An
           average over blocks has this standard error; the estimate from all rows, which has more pairs, no larger one.
           Rows must be in random order for it

    Raise ValueError for fewer than 2 rows, and where one is not finite.
    """
    if min(len(one), len(other)) < 2:
        raise ValueError(f"a kernel distance needs 2 rows of each: there are {len(one)} and {len(other)}")
    check_finite(one)
    check_finite(other)
    blocks = min(len(one), len(other)) // block
    error = None
    if blocks > 1 and block > 1:
        pairs = zip(torch.split(one, block)[:blocks], torch.split(other, block)[:blocks], strict=True)
        values = torch.tensor([_squared_discrepancy(*pair) for pair in pairs], dtype=torch.float64)
        error = float(values.std(unbiased=True)) / math.sqrt(blocks)
    return KernelDistance(value=_squared_discrepancy(one, other), error=error)


def _squared_discrepancy(one: Tensor, other: Tensor) -> float:
    """Return the mean of k within each cloud, without a row's own, less twice that between the two."""
    n, m = len(one), len(other)
    within = _kernel_sum(one, one, own=False) / (n * (n - 1)) + _kernel_sum(other, other, own=False) / (m * (m - 1))
    return within - 2 * _kernel_sum(one, other, own=True) / (n * m)


def _kernel_sum(one: Tensor, other: Tensor, *, own: bool) -> float:
    """Return the sum of k over all pairs. own: whether pairs of equal numbers count."""
    right, d, total = other.double(), one.shape[1], 0.0
    for start, chunk in zip(range(0, len(one), CHUNK), torch.split(one, CHUNK), strict=True):
        kernel = (chunk.double() @ right.T).div_(d).add_(1).pow_(3)
        total += float(kernel.sum())
        if not own:
            total -= float(kernel.diagonal(start).sum())
    return total
