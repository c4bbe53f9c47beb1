"""Precision, recall, density and coverage against their definitions in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vae_models.metrics import manifold
from vae_models.metrics.manifold import agreement


def cloud(rows: int, *, shift: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, generator=generator, dtype=torch.float64) + shift


def radii(rows: list[list[float]], neighbours: int) -> list[float]:
    return [
        sorted(math.dist(row, other) for place, other in enumerate(rows) if place != own)[neighbours - 1]
        for own, row in enumerate(rows)
    ]


def brute_force(data: Tensor, samples: Tensor, neighbours: int, density_neighbours: int) -> list[float]:
    xs, ys = data.tolist(), samples.tolist()
    small, large, own = radii(xs, neighbours), radii(xs, density_neighbours), radii(ys, neighbours)
    balls = [[math.dist(y, x) <= radius for x, radius in zip(xs, large, strict=True)] for y in ys]
    precise = [any(math.dist(y, x) <= radius for x, radius in zip(xs, small, strict=True)) for y in ys]
    recalled = [any(math.dist(x, y) <= radius for y, radius in zip(ys, own, strict=True)) for x in xs]
    return [
        sum(precise) / len(ys),
        sum(recalled) / len(xs),
        sum(map(sum, balls)) / (density_neighbours * len(ys)),
        sum(any(column) for column in zip(*balls, strict=True)) / len(xs),
    ]


@pytest.mark.parametrize(
    ("rows", "others", "shift", "ks", "chunk"),
    [(40, 30, 0.0, (3, 5), 1024), (30, 40, 1.0, (3, 5), 7), (25, 25, 2.0, (1, 2), 10), (7, 6, 0.5, (3, 5), 1024)],
)
def test_shares_are_the_definitions(
    rows: int, others: int, shift: float, ks: tuple[int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifold, "CHUNK", chunk)
    data, samples = cloud(rows, seed=1), cloud(others, shift=shift, seed=2)
    found = agreement(data, samples, *ks)
    assert [found.precision, found.recall, found.density, found.coverage] == brute_force(data, samples, *ks)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    assert agreement(data[order], samples.flip(0), *ks) == found


def test_the_same_cloud_agrees_and_a_far_one_does_not() -> None:
    data = cloud(50) + 1e6  # far from the origin, where squares of float64 have lost the digits after the point
    same, far = agreement(data, data), agreement(data, data + 1e3)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density > 1  # each sample is in its datum's own ball too
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_samples_in_one_place_are_precise_and_recall_nothing() -> None:
    data = cloud(200)
    found = agreement(data, cloud(200, seed=3) * 1e-3)
    assert found.precision > 0.9
    assert found.recall < 0.05
    assert found.coverage < 0.2


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="5 nearest neighbours of a row need more than 5 rows of each: there are 9"):
        agreement(cloud(9), cloud(5))
    bad = cloud(9)
    bad[0, 0] = math.inf
    with pytest.raises(ValueError, match="1 of 9 rows of features are not finite: 0"):
        agreement(bad, cloud(9))
