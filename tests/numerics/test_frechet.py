"""The Fréchet distance against pytorch-fid's, scipy's matrix square root, singular values, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from tests import pytorch_fid_package
from vae_models.metrics import frechet
from vae_models.metrics.frechet import Moments, frechet_distance, sqrt_product_trace


def features(rows: int, size: int, *, decades: float = 0.0, seed: int = 0) -> Tensor:
    """Rows whose standard deviations span so many decades, correlated, about a mean of their own."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    mixed = torch.randn(size, size, generator=generator, dtype=torch.float64) / math.sqrt(size)
    return draws @ (torch.logspace(0, -decades, size, dtype=torch.float64)[:, None] * mixed) + seed / 10


def by_package(one: Moments, other: Moments) -> float:
    return pytorch_fid_package.frechet_distance(
        one.mean.numpy(), one.covariance.numpy(), other.mean.numpy(), other.covariance.numpy()
    )


def by_singular_values(one: Tensor, other: Tensor) -> float:
    """tr (S1 S2)^(1/2) is the sum of the singular values of C1 C2^T, C the centred rows over sqrt(n - 1)."""
    a, b = ((x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (one, other))
    root = torch.linalg.svdvals(a @ b.T).sum()
    apart = (one.mean(0) - other.mean(0)).square().sum()
    return float(apart + a.square().sum() + b.square().sum() - 2 * root)


@pytest.mark.parametrize(
    ("rows", "others", "size", "decades", "tolerance"),
    [
        (300, 200, 16, 0.0, 1e-9),
        (300, 400, 64, 2.0, 1e-9),
        (400, 300, 48, 5.0, 1e-6),  # covariances whose eigenvalues span ten decades
        (20, 300, 64, 1.0, 1e-6),  # singular: the general square root is exact to 1e-7 there
        (300, 20, 64, 1.0, 1e-6),
        (20, 30, 64, 1.0, 1e-6),
        (2, 2, 5, 0.0, 1e-6),
    ],
)
def test_distance_is_the_packages_and_the_singular_values(
    rows: int, others: int, size: int, decades: float, tolerance: float
) -> None:
    one, other = features(rows, size, decades=decades, seed=1), features(others, size, decades=decades, seed=2)
    moments = Moments.of(one), Moments.of(other)
    assert frechet_distance(*moments) == pytest.approx(by_singular_values(one, other), rel=1e-9)
    assert frechet_distance(*moments) == pytest.approx(by_package(*moments), rel=tolerance)


def test_trace_is_that_of_scipys_square_root() -> None:
    one, other = (Moments.of(features(90, 30, seed=seed)).covariance for seed in (1, 2))
    root = scipy.linalg.sqrtm(one.numpy() @ other.numpy())
    assert float(sqrt_product_trace(one, other)) == pytest.approx(float(np.trace(root).real), rel=1e-10)


def test_closed_forms() -> None:
    scales, rotation = (
        torch.tensor([[1.0, 4.0, 0.0], [9.0, 1.0, 2.0]], dtype=torch.float64),
        torch.linalg.qr(features(3, 3, seed=3)).Q,
    )
    one, other = (rotation @ torch.diag(scale) @ rotation.T for scale in scales)
    assert float(sqrt_product_trace(one, other)) == pytest.approx(3.0 + 2.0)  # they commute: sum of sqrt(s t)
    assert float(sqrt_product_trace(one, torch.zeros_like(one))) == 0
    x = features(50, 4)
    assert frechet_distance(Moments.of(x), Moments.of(x)) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(Moments.of(x), Moments.of(x + 3)) == pytest.approx(4 * 9)
    trace = float(Moments.of(x).covariance.trace())
    apart = float((2 * x).mean(0).sub(x.mean(0)).square().sum())
    assert frechet_distance(Moments.of(x), Moments.of(2 * x)) == pytest.approx(trace + apart)  # (2 - 1)^2 tr S


@pytest.mark.parametrize("cuts", [(1000,), (1, 999), (300, 300, 400), (7,) * 100 + (300,)])
def test_moments_do_not_depend_on_the_blocks(cuts: tuple[int, ...]) -> None:
    x = features(1000, 12, seed=4) + 1e4  # far away: sums of squares would lose half of the digits
    first, *others = (Moments.of(block) for block in x.split(cuts))
    whole = sum(others, first)
    assert whole.count == 1000
    torch.testing.assert_close(whole.mean, x.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(whole.covariance, torch.from_numpy(np.cov(x.numpy(), rowvar=False)), rtol=1e-9, atol=0)


def test_moments_of_many_rows_in_float32_are_those_of_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "BLOCK", 64)
    x = features(500, 6, seed=5).float()
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    for rows in (x, x[order]):
        np.testing.assert_allclose(
            Moments.of(rows).covariance.numpy(), np.cov(x.double().numpy(), rowvar=False), rtol=1e-10
        )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_are_named(bad: float) -> None:
    x = features(9, 3)
    x[[2, 7], 1] = bad
    with pytest.raises(ValueError, match="2 of 9 rows of features are not finite: 2, 7"):
        Moments.of(x)


def test_what_has_no_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="no features"):
        Moments.of(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="at least 2 rows"):
        frechet_distance(Moments.of(features(1, 3)), Moments.of(features(5, 3)))
    with pytest.raises(ValueError, match="of 3 and of 4 dimensions"):
        frechet_distance(Moments.of(features(5, 3)), Moments.of(features(5, 4)))
    x = Moments.of(features(5, 3))
    wrong = Moments(count=5, mean=x.mean, scatter=x.scatter * math.nan)
    with pytest.raises(ValueError, match="moments of the features are not finite"):
        frechet_distance(x, wrong)
