"""A mean over data with its standard error, and what is made of such means."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float, Float64
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
    """Return 1 - sum |y - y_hat|^2 / sum |y - mean y|^2, over data and outputs: see `r_squared_parts`."""
    return Estimate.mean(r_squared_parts(truth, predicted))


def r_squared_parts(
    truth: Float[Tensor, "data outputs"], predicted: Float[Tensor, "data outputs"]
) -> Float64[Tensor, " data"]:
    """Return what each datum adds to R^2: its mean is R^2, and the error of the mean R^2's, by the delta method.

    With r_i and t_i the two squares of datum i it is R^2 - (r_i - (1 - R^2) t_i) / mean t. Raise ValueError where all
    truths are the same.
    """
    y = truth.double()
    residual = (y - predicted.double()).square().sum(1)
    total = (y - y.mean(0)).square().sum(1)
    if float(total.sum()) == 0:
        raise ValueError("R^2 needs truths that differ")
    unexplained = residual.sum() / total.sum()
    return 1 - unexplained - (residual - unexplained * total) / total.mean()
