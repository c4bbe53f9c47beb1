"""The kernel distance against its definition in plain Python, and its error against repetitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from vae_models.metrics import kernel_distance as module
from vae_models.metrics.kernel_distance import kernel_distance


def cloud(rows: int, size: int = 5, *, shift: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, size, generator=generator, dtype=torch.float64) + shift


def kernel(x: Sequence[float], y: Sequence[float]) -> float:
    return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3


def brute_force(one: Tensor, other: Tensor) -> float:
    xs, ys = one.tolist(), other.tolist()
    xx = [kernel(xs[i], xs[j]) for i in range(len(xs)) for j in range(len(xs)) if i != j]
    yy = [kernel(ys[i], ys[j]) for i in range(len(ys)) for j in range(len(ys)) if i != j]
    xy = [kernel(x, y) for x in xs for y in ys]
    return sum(xx) / len(xx) + sum(yy) / len(yy) - 2 * sum(xy) / len(xy)


@pytest.mark.parametrize(("rows", "others", "chunk"), [(2, 2, 1024), (17, 30, 1024), (30, 17, 7), (40, 40, 16)])
def test_value_is_the_definitions(rows: int, others: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    one, other = cloud(rows, seed=1), cloud(others, shift=0.3, seed=2)
    assert kernel_distance(one, other).value == pytest.approx(brute_force(one, other), rel=1e-10)


def test_order_does_not_change_the_value() -> None:
    one, other = cloud(50, seed=1), cloud(60, shift=0.3, seed=2)
    turned = kernel_distance(one.flip(0), other.roll(7, 0)).value
    assert turned == pytest.approx(kernel_distance(one, other).value, rel=1e-12)


def test_error_is_that_of_the_mean_over_blocks() -> None:
    one, other = cloud(36, seed=1), cloud(47, shift=0.3, seed=2)
    blocks = [brute_force(one[start : start + 9], other[start : start + 9]) for start in range(0, 36, 9)]
    mean = sum(blocks) / 4
    deviation = math.sqrt(sum((block - mean) ** 2 for block in blocks) / 3)
    assert kernel_distance(one, other, block=9).error == pytest.approx(deviation / 2, rel=1e-9)
    assert kernel_distance(one, other, block=20).error is None  # a single block


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_value_is_unbiased_and_varies_no_more_than_its_error_says(shift: float) -> None:
    found = [
        kernel_distance(cloud(200, seed=2 * seed), cloud(200, shift=shift, seed=2 * seed + 1), block=20)
        for seed in range(100)
    ]
    values = torch.tensor([each.value for each in found])
    error = torch.tensor([each.error for each in found]).square().mean().sqrt()
    expected = float(torch.tensor([exact(shift, 5)]))
    assert abs(float(values.mean()) - expected) < 4 * float(values.std()) / 10
    assert float(values.std()) < 1.2 * float(error)


def exact(shift: float, size: int) -> float:
    """The squared discrepancy of N(0, I) and N(m, I): k is a polynomial, and E (x.y)^j is known.

    With x, x' ~ N(a, I), N(b, I): E x.x' = a.b, E (x.x')^2 = d + |a|^2 + |b|^2 + (a.b)^2,
    E (x.x')^3 = (a.b)^3 + 3 a.b (d + |a|^2 + |b|^2) + 6 a.b.
    """

    def mean(a: float, b: float) -> float:
        dot, squares = size * a * b, size * (1 + a * a + b * b)
        second, third = squares + dot**2, dot**3 + 3 * dot * squares + 6 * dot
        return third / size**3 + 3 * second / size**2 + 3 * dot / size + 1

    return mean(0, 0) + mean(shift, shift) - 2 * mean(0, shift)


def test_what_has_no_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="2 rows of each: there are 1 and 5"):
        kernel_distance(cloud(1), cloud(5))
    bad = cloud(5)
    bad[3, 0] = math.nan
    with pytest.raises(ValueError, match="1 of 5 rows of features are not finite: 3"):
        kernel_distance(cloud(5), bad)
