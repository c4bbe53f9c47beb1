"""Distances of a cloud of features from the data's, as values of a report."""

from __future__ import annotations

from torch import Tensor

from vae_models.evaluation.distances.neighbours import DENSITY_NEIGHBOURS, FEWEST, NEIGHBOURS
from vae_models.evaluation.features.compute import Reference
from vae_models.evaluation.findings import Value
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.measures import Mode
from vae_models.metrics.frechet import Moments, frechet_distance
from vae_models.metrics.kernel_distance import kernel_distance
from vae_models.metrics.manifold import agreement


def check_enough(subject: Subject) -> None:
    """Raise Inapplicable where the split has too few data to compare anything with."""
    if subject.count() < FEWEST:
        raise Inapplicable(
            f"distances between images need at least {FEWEST} data, and there are {subject.count()} of "
            f"{subject.plan.split}: raise the limit, or name another split"
        )


def frechet(data: Reference, features: Tensor, name: str, before: str = "") -> Value:
    """Return the FID of `features`. name: <extractor>/<what the images are>."""
    distance = frechet_distance(Moments.of(features), data.moments)
    note = f"to {data.moments.count:,} data"
    fewer, size = min(len(features), data.moments.count), features.shape[1]
    if fewer <= size:
        note += f"; {fewer:,} images of {size:,} features: a covariance is singular, and the distance too large"
    return Value(
        name=f"{before}fid_{name}", value=distance, unit="features squared", mode="min", count=len(features), note=note
    )


def all_distances(data: Reference, features: Tensor, name: str, before: str = "") -> tuple[Value, ...]:
    """Return FID, KID, precision, recall, density and coverage of `features`. Names as in `frechet`."""
    kernel = kernel_distance(data.features, features)
    covers = agreement(data.features, features, NEIGHBOURS, DENSITY_NEIGHBOURS)
    count, note = len(features), f"to {len(data.features):,} data"

    def value(kind: str, number: float, mode: Mode, error: float | None = None, more: str = "") -> Value:
        return Value(
            name=f"{before}{kind}_{name}", value=number, unit="1", mode=mode, error=error, count=count, note=note + more
        )

    near = f", {NEIGHBOURS} neighbours"
    dense = f", {DENSITY_NEIGHBOURS} neighbours"
    return (
        frechet(data, features, name, before),
        value("kid", kernel.value, "min", kernel.error, "" if kernel.error is None else "; its error is over blocks"),
        value("precision", covers.precision, "max", more=near),
        value("recall", covers.recall, "max", more=near),
        value("density", covers.density, "max", more=dense),
        value("coverage", covers.coverage, "max", more=dense),
    )
