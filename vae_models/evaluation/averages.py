"""Means over data, or over other things that are alike, as values with standard errors."""

from __future__ import annotations

import math

from torch import Tensor

from vae_models.evaluation.findings import NotFinite, Value
from vae_models.measures import Mode


def mean(name: str, each: Tensor, *, unit: str, mode: Mode | None = None, note: str = "") -> Value:
    """Return the mean of `each`, [n], with its standard error, none where n is 1. Raise NotFinite: see `finite`."""
    finite(name, each)
    value = float(each.double().mean())
    return Value(name=name, value=value, error=standard_error(each), unit=unit, mode=mode, count=len(each), note=note)


def standard_error(each: Tensor) -> float | None:
    """Return the sample's standard deviation over the root of n; None where n is 1."""
    return float(each.double().std(unbiased=True)) / math.sqrt(len(each)) if len(each) > 1 else None


def finite(name: str, each: Tensor) -> None:
    """Raise NotFinite unless all of `each`, [n, ...], is finite."""
    wrong = int((~each.isfinite()).flatten(1).any(1).sum()) if each.ndim > 1 else int((~each.isfinite()).sum())
    if wrong:
        raise NotFinite(
            f"{name} is NaN or infinite of {wrong:,} of {len(each):,}, so it has no mean: take an earlier checkpoint"
        )
