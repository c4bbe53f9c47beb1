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
