"""Means over data with their standard errors, as values; what is not finite is named and never averaged."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from vae_models.evaluation import averages
from vae_models.evaluation.findings import NotFinite, Value
from vae_models.evaluation.likelihood.scale import Scale
from vae_models.evaluation.subject import Subject
from vae_models.measures import Mode

NATS = "nats per datum"
BITS = "bits per dimension"


def finite(name: str, per_datum: Tensor, subject: Subject) -> Tensor:
    """Return `per_datum`, [data], as it is. Raise NotFinite where one of it is NaN or infinite."""
    wrong = torch.nonzero(~per_datum.isfinite()).flatten()
    if not len(wrong):
        return per_datum
    first = int(wrong[0])
    parameters = subject.module.state_dict().items()
    broken = [key for key, value in parameters if value.is_floating_point() and not value.isfinite().all()]
    why = (
        f"{broken[0]} of the model is not finite itself: evaluate an earlier checkpoint"
        if broken
        else "the model is finite, and a number on the way is not: look at that datum"
    )
    raise NotFinite(
        f"{name} is {float(per_datum[first])} of datum {first} of the {subject.plan.split} split, and not finite of "
        f"{len(wrong)} of {len(per_datum)}: {why}"
    )


def mean(
    name: str, per_datum: Tensor, *, unit: str, mode: Mode | None, scale: Scale | None = None, note: str = ""
) -> Value:
    """Return the mean over the data with its standard error, none of one datum. scale: of a log-likelihood."""
    value = averages.mean(name, per_datum, unit=unit, mode=mode, note=note)
    return value if scale is None else replace(value, measure=scale.measure, levels=scale.levels)


def bits_per_dim(name: str, nats: Tensor, dimensions: Tensor, scale: Scale) -> Value:
    """Return sum_i nats_i / (log 2 sum_i d_i) of a mass's -log p, with the standard error of that ratio.

    nats, dimensions: [data], of each datum -log p and its number of elements that are no padding. The error is that of
    the mean of nats_i - r d_i over mean d, r the ratio: of data of one size that of the mean of nats.
    """
    ratio, error = _ratio(nats / math.log(2), dimensions)
    return Value(
        name=name,
        value=ratio,
        unit=BITS,
        mode="min",
        error=error,
        measure=scale.measure,
        levels=scale.levels,
        count=len(nats),
    )


def perplexity(name: str, nats: Tensor, tokens: Tensor, scale: Scale) -> Value:
    """Return exp(sum_i nats_i / sum_i t_i) of -log p or a bound on it, with its standard error by the delta method.

    tokens: [data], how many tokens of each sentence are predicted, the end of the sentence among them. A model that
    knows nothing has the size of the vocabulary.
    """
    ratio, error = _ratio(nats, tokens)
    value = math.exp(ratio)
    return Value(
        name=name,
        value=value,
        unit="tokens",
        mode="min",
        error=None if error is None else value * error,
        measure=scale.measure,
        levels=scale.levels,
        count=len(nats),
    )


def _ratio(sums: Tensor, counts: Tensor) -> tuple[float, float | None]:
    """Return sum_i s_i / sum_i c_i and its standard error, that of the mean of s_i - r c_i over mean c."""
    counts = counts.to(sums)
    ratio = sums.sum() / counts.sum()
    rest = (sums - ratio * counts) / counts.mean()
    return float(ratio), averages.standard_error(rest)
