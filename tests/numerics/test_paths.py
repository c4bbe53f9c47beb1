"""Ways through the latent space: against scipy's great circles, and geometry with known lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp

from vae_models.metrics import paths


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_slerp_is_scipys_on_the_sphere() -> None:
    a, b = (torch.nn.functional.normalize(normal(5, 4, seed=seed), dim=1) for seed in (0, 1))
    found = paths.path(a, b, 7, "slerp")
    for start, end, points in zip(a.numpy(), b.numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(points, geometric_slerp(start, end, np.linspace(0, 1, 7)), atol=1e-12)


def test_each_pair_may_have_its_own_time() -> None:
    a, b, t = normal(6, 3), normal(6, 3, seed=1), torch.linspace(0, 1, 6, dtype=torch.float64)
    for way in (paths.linear, paths.slerp):
        each = torch.stack([way(a[i], b[i], t[i]) for i in range(6)])
        torch.testing.assert_close(way(a, b, t), each, rtol=0, atol=1e-15)
        torch.testing.assert_close(way(a, b, torch.zeros(6).double()), a)
        torch.testing.assert_close(way(a, b, torch.ones(6).double()), b)


@pytest.mark.parametrize("b", [[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 1e-7]])
def test_where_no_great_circle_is_there_is_a_line(b: list[float]) -> None:
    start, end = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([b]).double()
    found = paths.path(start, end, 5, "slerp")
    torch.testing.assert_close(found, paths.path(start, end, 5, "linear"), rtol=0, atol=1e-12)


def test_a_path_has_two_ends() -> None:
    with pytest.raises(ValueError, match="2 steps at least, not 1"):
        paths.path(normal(1, 2), normal(1, 2), 1)


# --- lengths --------------------------------------------------------------------------------------------------------


def circle(z: torch.Tensor) -> torch.Tensor:
    """The plane rolled up along its second axis: isometric, so lines keep their lengths and geodesics are lines."""
    return torch.stack([z[:, 0], torch.cos(z[:, 1]), torch.sin(z[:, 1])], dim=1)


def test_a_linear_decoders_lengths_are_exact_with_one_point() -> None:
    weight, a, b = normal(7, 3), normal(20, 3, seed=1), normal(20, 3, seed=2)
    found = paths.segment_lengths(lambda z: (z @ weight.T + 1).view(-1, 7, 1), a, b, points=1)
    torch.testing.assert_close(found, ((b - a) @ weight.T).norm(dim=1))


@pytest.mark.parametrize("points", [1, 4])
def test_lines_of_a_rolled_plane_keep_their_lengths(points: int) -> None:
    a, b = 3 * normal(20, 2), 3 * normal(20, 2, seed=1)
    torch.testing.assert_close(paths.segment_lengths(circle, a, b, points), (b - a).norm(dim=1))


def test_more_points_come_to_the_integral_that_chords_come_to() -> None:
    """x = (z, z^2): the parabola's arc from 0 to 2 is sqrt(17) + arsinh(4) / 4."""
    a, b = torch.zeros(1, 1).double(), torch.full((1, 1), 2.0).double()
    exact = 17**0.5 + np.arcsinh(4) / 4

    def parabola(z: torch.Tensor) -> torch.Tensor:
        return torch.cat([z, z**2], dim=1)

    errors = [abs(float(paths.segment_lengths(parabola, a, b, points)) - exact) for points in (1, 2, 4, 8, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-9
    chords = paths.jumps(parabola(paths.path(a, b, 5001)[0]).unsqueeze(0)).sum()
    assert float(chords) == pytest.approx(exact, rel=1e-7)


def test_points_along_a_polyline_are_at_equal_distances() -> None:
    corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 1.0]]).double()
    expected = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [3.0, 1.0]]).double()
    torch.testing.assert_close(paths.spaced(corners, 5), expected)
    torch.testing.assert_close(paths.spaced(corners[:1], 3), corners[:1].expand(3, 2))


def test_jumps_are_the_distances_of_successive_pictures() -> None:
    decoded = normal(2, 4, 3, 5)
    expected = [[float((decoded[i, k + 1] - decoded[i, k]).square().sum().sqrt()) for k in range(3)] for i in range(2)]
    np.testing.assert_allclose(paths.jumps(decoded).numpy(), expected, rtol=1e-12)
