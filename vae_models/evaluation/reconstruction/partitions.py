"""AR-ELBO 5.3, table 3: the variances that a Gaussian likelihood has fitted, by partition of images of digits.

Digits 0-4 are "small", 5-9 "big", and the halves of an image "upper" and "lower": see `data.noise`. Where noise of
variance s^2 was put into a partition, its variance should be greater by s^2 than that of the same model trained on the
images without noise, whose own variance nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from vae_models.config.run import RunConfig
from vae_models.data.noise import NOISY
from vae_models.data.noises import GaussianNoiseConfig
from vae_models.evaluation.averages import mean
from vae_models.evaluation.findings import Findings, Table, Value
from vae_models.evaluation.subject import Rows, Subject
from vae_models.likelihoods.specs import GaussianConfig, LikelihoodSpec
from vae_models.parts import found_in
from vae_models.protocols import HasVariance, LatentSpace

SQUARE = "units of x squared"
BIGGEST_SMALL = 4
HALVES = ("U", "L")
GROUPS: Mapping[str, tuple[str, ...]] = {
    "all": ("SU", "SL", "BU", "BL"), "upper": ("SU", "BU"), "lower": ("SL", "BL"), "small": ("SU", "SL"),
    "big": ("BU", "BL"), "SU": ("SU",), "SL": ("SL",), "BU": ("BU",), "BL": ("BL",),
}  # fmt: skip


def suits(config: RunConfig) -> bool:
    """Return whether the data are images of digits, and the likelihood a Gaussian whose variances are fitted."""
    facts = config.data.facts
    fitted = any(
        isinstance(likelihood, GaussianConfig) and likelihood.fit != "fixed"
        for _, likelihood in found_in(config.model, LikelihoodSpec, "model")
    )
    return fitted and facts.image and facts.labels is not None and facts.labels.name == "digit"


def findings(subject: Subject) -> Findings:
    """Return the mean fitted variance of every column of the paper's table; nothing where it is of no such data."""
    space = subject.module
    if not suits(subject.config) or not isinstance(space, LatentSpace) or not isinstance(space.likelihood, HasVariance):
        return Findings()
    labels, _ = subject.labels()
    values = tuple(_values(_halves(subject, space, space.likelihood), labels <= BIGGEST_SMALL))
    added = _added(subject.config)
    rows = tuple((name, sum(added[part] for part in GROUPS[name]) / len(GROUPS[name])) for name in map(_group, values))
    table = Table(
        name="fitted_variances",
        columns=("partition", f"noise added [{SQUARE}]", f"fitted variance [{SQUARE}]", f"standard error [{SQUARE}]"),
        rows=tuple((*row, value.value, value.error) for row, value in zip(rows, values, strict=True)),
        note="the images' own variance is in each: compare with the same model of images without noise",
    )
    return Findings(values=values, tables=(table,))


def _halves(subject: Subject, space: LatentSpace, likelihood: HasVariance) -> Tensor:
    """Return the mean fitted variance of each datum's upper and lower half, float64 [n, 2]."""

    def variances(rows: Rows) -> dict[str, Tensor]:
        trace = space.trace(rows.x, space.encode(rows.x), rows.noise, None, rows.mask)
        variance = likelihood.variance(trace.decoded, trace.target).double()
        middle = variance.shape[-2] // 2
        halves = (variance[..., :middle, :], variance[..., middle:, :])
        return {"halves": torch.stack([half.flatten(1).mean(1) for half in halves], dim=1)}

    made = subject.map(variances, what="fitted variances", noise=subject.model.noise(), stream="reconstruction")
    return made["halves"]


def _values(halves: Tensor, small: Tensor) -> Iterator[Value]:
    """Yield the mean over the data of each group of partitions that has any, each datum's elements averaged first."""
    rows = {"S": small, "B": ~small}
    for name, parts in GROUPS.items():
        kinds, where = sorted({part[0] for part in parts}), sorted({HALVES.index(part[1]) for part in parts})
        chosen = torch.stack([rows[kind] for kind in kinds]).any(0)
        if bool(chosen.any()):
            each = halves[chosen][:, where].mean(1)
            value = mean(f"fitted_variance/{name}", each, unit=SQUARE)
            same = bool((each == each[0]).all())  # of all data: one number, and no mean with an error
            yield replace(value, error=None, note="the same of all data") if same else value


def _group(value: Value) -> str:
    return value.name.rpartition("/")[2]


def _added(config: RunConfig) -> dict[str, float]:
    """Return the variance of the noise that each partition was given."""
    noise = config.data.noise
    if not isinstance(noise, GaussianNoiseConfig):
        return dict.fromkeys(GROUPS["all"], 0.0)
    return {part: noise.variance if part in NOISY[noise.pattern] else 0.0 for part in GROUPS["all"]}
