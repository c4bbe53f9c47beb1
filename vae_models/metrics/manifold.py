"""How far two clouds of features cover one another: precision and recall, density and coverage.

A cloud's manifold is the union of balls about its rows, each of which reaches to the row's k-th nearest other row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vae_models.metrics.frechet import check_finite

CHUNK = 1024  # rows of a matrix of distances that are held at a time


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Precision and recall of Kynkäänniemi et al. 2019, density and coverage of Naeem et al. 2020.

    precision: the share of samples in the manifold of the data: how good samples are
    recall:    the share of data in the manifold of the samples: how varied samples are
    density:   in how many of the data's balls a sample lies, over k: no share, it may be above 1
    coverage:  the share of data in whose ball there is a sample
    """

    precision: float
    recall: float
    density: float
    coverage: float


def agreement(
    data: Float[Tensor, "n d"], samples: Float[Tensor, "m d"], neighbours: int = 3, density_neighbours: int = 5
) -> Agreement:
    """Return how far data and samples agree. neighbours: k of precision and recall; density_neighbours: of the others.

    A ball has its surface. Raise ValueError where a cloud has no more rows than a k, or a row is not finite.
    """
    most = max(neighbours, density_neighbours)
    if min(neighbours, density_neighbours) < 1 or min(len(data), len(samples)) <= most:
        raise ValueError(
            f"the {most} nearest neighbours of a row need more than {most} rows of each: there are {len(data)} data "
            f"and {len(samples)} samples"
        )
    check_finite(data)
    check_finite(samples)
    centre = data.double().mean(0)  # distances from far away would be rounded
    data, samples = data.double() - centre, samples.double() - centre
    small, large = _squared_radii(data, neighbours, density_neighbours)
    inside, balls, reached = 0, 0, torch.zeros(len(data), dtype=torch.bool, device=data.device)
    for _, squared in _squared_distances(samples, data):
        inside += int((squared <= small).any(1).sum())
        within = squared <= large
        balls += int(within.sum())
        reached |= within.any(0)
    (own,) = _squared_radii(samples, neighbours)
    recalled = sum(int((squared <= own).any(1).sum()) for _, squared in _squared_distances(data, samples))
    return Agreement(
        precision=inside / len(samples),
        recall=recalled / len(data),
        density=balls / (density_neighbours * len(samples)),
        coverage=int(reached.sum()) / len(data),
    )


def _squared_radii(rows: Float64[Tensor, "n d"], *neighbours: int) -> tuple[Float64[Tensor, " n"], ...]:
    """Return the squared distances of each row from its k-th nearest other one, for each k."""
    nearest = []
    for start, squared in _squared_distances(rows, rows):
        squared.diagonal(start).fill_(torch.inf)
        nearest.append(squared.topk(max(neighbours), dim=1, largest=False).values)
    return tuple(torch.cat(nearest)[:, k - 1] for k in neighbours)


def _squared_distances(
    one: Float64[Tensor, "n d"], other: Float64[Tensor, "m d"]
) -> Iterator[tuple[int, Float64[Tensor, "chunk m"]]]:
    """Yield the place of some rows of `one`, and their squared distances from all rows of `other`."""
    squares = other.square().sum(1)
    for start, chunk in zip(range(0, len(one), CHUNK), torch.split(one, CHUNK), strict=True):
        product = chunk @ other.T
        yield start, (chunk.square().sum(1, keepdim=True) + squares - 2 * product).clamp_(min=0)
