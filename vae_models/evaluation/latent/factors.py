"""What is known of each datum beside x, a column of the labels at a time: classes, or a quantity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models.evaluation.subject import Inapplicable, Subject

RADIANS = "rad"
MOST_FACTORS = 32  # columns of labels that are looked at: each costs its own fits


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One column of the labels.

    values:  [n]: int64 of classes; float64 of a quantity
    unit:    of a quantity
    classes: names of the classes 0, 1, ...; none: they have none
    """

    name: str
    values: Tensor
    unit: str | None = None
    classes: tuple[str, ...] | None = None

    @property
    def is_class(self) -> bool:
        """Return whether its values are classes."""
        return not self.values.is_floating_point()

    @property
    def is_angle(self) -> bool:
        """Return whether it is a quantity in radians, of which -pi and pi are the same."""
        return not self.is_class and self.unit == RADIANS

    def targets(self) -> Tensor:
        """Return the quantity as what a regression predicts, [n, outputs]: cosine and sine of an angle."""
        if self.is_angle:
            return torch.stack([self.values.cos(), self.values.sin()], 1)
        return self.values.reshape(-1, 1)

    def name_of(self, value: int) -> str:
        """Return a class's name."""
        return self.classes[value] if self.classes and 0 <= value < len(self.classes) else str(value)

    def at(self, rows: Tensor) -> Factor:
        """Return the factor of some data."""
        return Factor(name=self.name, values=self.values[rows], unit=self.unit, classes=self.classes)

    def binned(self, most: int) -> Tensor:
        """Return int64 [n]: the class, or which of the values; of a quantity with more than `most` values the bin of
        about as many data each.
        """
        places: Tensor
        _, places, counts = torch.unique(self.values, return_inverse=True, return_counts=True)
        if self.is_class or len(counts) <= most:
            return places
        below = counts.cumsum(0) - counts  # data with smaller values
        bins: Tensor = below * most // len(self.values)
        return bins[places]


def factors(subject: Subject, split: str | None = None) -> tuple[Factor, ...]:
    """Return the labels of a split by column, at most `MOST_FACTORS`. Raise Inapplicable where there are none."""
    labels, spec = subject.labels(split)
    names = (spec.name,) if isinstance(spec.name, str) else spec.name
    columns = labels.reshape(len(labels), -1).unbind(1)
    known_factors = []
    for name, column in list(zip(names, columns, strict=True))[:MOST_FACTORS]:
        values = column.double() if column.is_floating_point() else column.long()
        if not bool(values.isfinite().all()):
            raise Inapplicable(f"the labels {name} of {subject.config.data.name} are not all finite: leave them out")
        known_factors.append(Factor(name=name, values=values, unit=spec.unit, classes=spec.classes))
    return tuple(known_factors)


def must_differ(factor: Factor, where: str) -> None:
    """Raise Inapplicable where all data have the same value."""
    if len(factor.values) < 2 or bool((factor.values == factor.values[0]).all()):
        raise Inapplicable(
            f"all {len(factor.values):,} data of the {where} have one {factor.name}: nothing can be learnt of it"
        )


def chance(factor: Factor) -> float:
    """Return the accuracy of who always names the most frequent class."""
    return float(torch.bincount(factor.values - factor.values.min()).max()) / len(factor.values)


def binomial_error(share: float, count: int) -> float:
    """Return the standard error of a share of so many independent data."""
    return math.sqrt(share * (1 - share) / count)
