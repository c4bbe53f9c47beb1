"""A mean over data with its standard error, and what is made of such means."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and its standard error over data; None: there is one datum."""

    value: float
    error: float | None

    @classmethod
    def mean(cls, per_datum: Float[Tensor, " data"] | Bool[Tensor, " data"]) -> Estimate:
        """Return the mean, with the deviation over the square root of the number as its error."""
        each = per_datum.double()
        return cls(value=float(each.mean()), error=standard_error(each))


def standard_error(per_datum: Float[Tensor, " data"]) -> float | None:
    """Return the standard error of the mean; None of one datum."""
    count = len(per_datum)
    return float(per_datum.double().std()) / math.sqrt(count) if count > 1 else None


def r_squared(truth: Float[Tensor, "data outputs"], predicted: Float[Tensor, "data outputs"]) -> Estimate:
    """Return 1 - sum |y - y_hat|^2 / sum |y - mean y|^2, over data and outputs, of at least two data.

    Its error is by the delta method: that of the mean of r_i - (1 - R^2) t_i, over the mean of t_i, with r_i and t_i
    the two squares of datum i. Raise ValueError where all truths are the same.
    """
    y = truth.double()
    residual = (y - predicted.double()).square().sum(1)
    total = (y - y.mean(0)).square().sum(1)
    if float(total.sum()) == 0:
        raise ValueError("R^2 needs truths that differ")
    unexplained = float(residual.sum() / total.sum())
    error = standard_error(residual - unexplained * total)
    return Estimate(value=1 - unexplained, error=None if error is None else error / float(total.mean()))
