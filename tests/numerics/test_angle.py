"""The angle that a latent has found, against circles made by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vae_models.metrics.angle import angle_fit

ANGLES = torch.linspace(-math.pi, math.pi, 401, dtype=torch.float64)[:-1]


def circle(angles: torch.Tensor, radius: float, centre: tuple[float, float]) -> torch.Tensor:
    return torch.stack([centre[0] + radius * angles.cos(), centre[1] + radius * angles.sin()], dim=1)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("offset", [0.0, 1.0, math.pi, -2.5])
def test_a_perfect_circle_has_no_error(sign: int, offset: float) -> None:
    fit = angle_fit(circle(sign * ANGLES + offset, 1.7, (0.3, -0.8)), ANGLES)
    assert fit.radius == pytest.approx(1.7, abs=1e-12)
    assert fit.radial_deviation == pytest.approx(0, abs=1e-12)
    assert fit.slope == pytest.approx(1, abs=1e-6)
    assert fit.ols_error == pytest.approx(0, abs=1e-7)
    assert fit.angular_error == pytest.approx(0, abs=1e-12)


def test_angular_noise_is_its_own_error() -> None:
    noise = 0.2 * torch.sin(37 * ANGLES)  # mean absolute value 0.4 / pi
    fit = angle_fit(circle(ANGLES + noise, 2.0, (0, 0)), ANGLES)
    assert fit.angular_error == pytest.approx(0.4 / math.pi, rel=0.02)


def test_a_closed_curve_that_is_no_circle_has_the_angle_in_its_neighbours() -> None:
    squeezed = circle(ANGLES, 1.0, (0, 0)) * torch.tensor([1.0, 0.1])
    fit = angle_fit(squeezed, ANGLES)
    step = 2 * math.pi / len(ANGLES)
    assert fit.neighbour_error == pytest.approx(step, rel=1e-6)
    assert fit.angular_error > 0.2


def test_a_latent_that_knows_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    shuffled = ANGLES[torch.randperm(len(ANGLES), generator=generator)]
    fit = angle_fit(circle(shuffled, 1.0, (0, 0)), ANGLES)
    assert fit.angular_error > 1.3
    assert fit.neighbour_error > 1.3
    assert fit.ols_error > 0.6
    assert abs(fit.slope) < 0.3


def test_too_few_data_or_dimensions() -> None:
    with pytest.raises(ValueError, match="at least 3 means in 2 dimensions"):
        angle_fit(torch.zeros(2, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="at least 3 means in 2 dimensions"):
        angle_fit(torch.zeros(5, 3), torch.zeros(5))
