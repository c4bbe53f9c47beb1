"""SSIM against its definition, window by window."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vae_models.metrics.ssim import ssim


def pair(n: int = 3, channels: int = 2, height: int = 15, width: int = 13) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, channels, height, width, generator=generator)
    return x, (0.7 * x + 0.3 * torch.rand(x.shape, generator=generator)).clamp(0, 1)


def by_windows(x: np.ndarray, y: np.ndarray, span: float) -> float:
    """Of one channel: each window's weighted moments about their own mean."""
    weights = np.array([[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / 4.5) for j in range(11)] for i in range(11)])
    weights /= weights.sum()
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            c_1, c_2 = (0.01 * span) ** 2, (0.03 * span) ** 2
            luminance = (2 * mean_a * mean_b + c_1) / (mean_a**2 + mean_b**2 + c_1)
            values.append(luminance * (2 * covariance + c_2) / (var_a + var_b + c_2))
    return float(np.mean(values))


@pytest.mark.parametrize("span", [1.0, 255.0])
def test_it_is_the_mean_over_windows_and_channels(span: float) -> None:
    x, y = pair()
    x, y = span * x.double(), span * y.double()
    found = ssim(x, y, span=span)
    for i in range(len(x)):
        expected = np.mean([by_windows(x[i, c].numpy(), y[i, c].numpy(), span) for c in range(2)])
        assert float(found[i]) == pytest.approx(expected, rel=1e-11)


def test_it_is_one_of_equal_images_and_symmetric_and_less_of_others() -> None:
    x, y = pair()
    torch.testing.assert_close(ssim(x, x), torch.ones(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(ssim(x, y), ssim(y, x), rtol=0, atol=1e-14)
    assert bool((ssim(x, y) < 0.999).all())
    assert bool((ssim(x, 1 - x) < 0).all())  # structure of the opposite sign


@pytest.mark.parametrize("shape", [(1, 1, 10, 28), (1, 1, 28, 8)])
def test_images_smaller_than_a_window_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 11 x 11 pixels"):
        ssim(torch.zeros(shape), torch.zeros(shape))


def test_images_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 1, 12, 12\] and \[2, 1, 12, 12\]"):
        ssim(torch.zeros(1, 1, 12, 12), torch.zeros(2, 1, 12, 12))
