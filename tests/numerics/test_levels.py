"""Masses over the 256 levels: they sum to one anywhere, agree with scipy, and their samples follow them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from tests.catalogue import LIKELIHOODS
from vae_models.likelihoods.intervals import log1mexp, log_upper_tail, logistic_log_mass, normal_log_mass
from vae_models.likelihoods.specs import LikelihoodConfig

NAMES = [name for name, config in LIKELIHOODS.items() if config.levels == 256]
X = torch.arange(256, dtype=torch.float64) / 255
MASSES = {"normal": (normal_log_mass, stats.norm), "logistic": (logistic_log_mass, stats.logistic)}
LOCATIONS = (-1e4, -3.0, -0.5 / 255, 0.0, 0.2, 100.5 / 255, 1.0, 1.7, 1e4)
LOG_SCALES = (-9.0, -6.0, -3.0, 0.0, 3.0, 9.0)


def levels(config: LikelihoodConfig, row: Tensor) -> tuple[Tensor, Tensor]:
    """log P of every level, [256], and x, for one element with the decoder's output `row` [parameters]."""
    likelihood = config.build((1, 1, 1))
    if isinstance(likelihood, torch.nn.Module):
        likelihood.to(row.dtype)
    x = X.to(row.dtype).view(-1, 1, 1, 1)
    return likelihood.log_prob(row.view(1, -1, 1, 1).expand(256, -1, 1, 1), x), x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize("name", NAMES)
def test_all_256_levels_sum_to_one(name: str, spread: float, dtype: torch.dtype) -> None:
    likelihood = LIKELIHOODS[name].build((1, 1, 1))
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        row = spread * torch.randn(likelihood.parameters_per_element(), generator=generator, dtype=dtype)
        log_prob, _ = levels(LIKELIHOODS[name], row)
        assert (log_prob <= 0).all()
        single = 2e-4 if name == "categorical" else 1e-6  # torch's log_softmax, of logits in the thousands
        assert log_prob.double().exp().sum().item() == pytest.approx(1, abs=1e-9 if dtype == torch.float64 else single)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("log_scale", LOG_SCALES)
@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("kind", MASSES)
def test_intervals_sum_to_one_with_finite_gradients(
    kind: str, location: float, log_scale: float, dtype: torch.dtype
) -> None:
    centre, log_s = (torch.tensor(value, dtype=dtype, requires_grad=True) for value in (location, log_scale))
    log_mass = MASSES[kind][0](X.to(dtype), centre, log_s)
    assert torch.isfinite(log_mass).all()
    assert log_mass.double().exp().sum().item() == pytest.approx(1, abs=1e-9 if dtype == torch.float64 else 1e-6)
    for gradient in torch.autograd.grad(log_mass.sum(), (centre, log_s)):
        assert torch.isfinite(gradient).all()


def on_a_grid(kind: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """log masses, [256, locations, log scales], and their gradients by both, in scales and in log scales.

    The locations and log scales of both types are the same numbers: those that float32 has.
    """
    locations = torch.cat([torch.linspace(-0.5, 1.5, 101), torch.tensor([0.3, 100.5 / 255, 0.5 / 255, 254.5 / 255])])
    grid = torch.meshgrid(X.to(dtype), locations.to(dtype), torch.linspace(-9, 3, 49).to(dtype), indexing="ij")
    x, location, log_scale = grid[0], grid[1].requires_grad_(), grid[2].requires_grad_()
    log_mass = MASSES[kind][0](x, location, log_scale)
    by_location, by_scale = torch.autograd.grad(log_mass.sum(), (location, log_scale))
    return log_mass.detach().double(), (by_location * log_scale.exp()).detach().double(), by_scale.double()


@pytest.mark.parametrize("kind", MASSES)
def test_fault_11_in_float32_the_masses_sum_to_one_within_a_millionth(kind: str) -> None:
    """Tails, edges of intervals and scales from a thirtieth of a level to twenty times the range; with gradients."""
    masses, *gradients = on_a_grid(kind, torch.float32)
    assert (masses.exp().sum(0) - 1).abs().max() < 1e-6
    exact, *slopes = on_a_grid(kind, torch.float64)
    assert (exact.exp().sum(0) - 1).abs().max() < 1e-9
    assert ((masses - exact).abs() / (1 + exact.abs())).max() < 2e-6
    for found, expected in zip(gradients, slopes, strict=True):
        assert found.isfinite().all()
        assert ((found - expected).abs() / (1 + expected.abs())).max() < 1e-4


@pytest.mark.parametrize("log_scale", [-6.0, -3.0, 0.0, 3.0])
@pytest.mark.parametrize("location", [-0.3, 0.0, 0.2, 100.5 / 255, 1.0, 1.4])
@pytest.mark.parametrize("kind", MASSES)
def test_each_level_against_scipy(kind: str, location: float, log_scale: float) -> None:
    """Differences of scipy's distribution function, taken in the tail where they are exact."""
    mass, distribution = MASSES[kind]
    found = mass(X, torch.tensor(location, dtype=torch.float64), torch.tensor(log_scale, dtype=torch.float64)).numpy()
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    frozen = distribution(location, math.exp(log_scale))
    lower = edges[:-1] + edges[1:] < 2 * location
    by_cdf = np.diff(frozen.cdf(edges))
    by_sf = -np.diff(frozen.sf(edges))
    expected = np.where(lower, by_cdf, by_sf)
    seen = expected > 1e-250
    assert seen.any()
    np.testing.assert_allclose(found[seen], np.log(expected[seen]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", MASSES)
def test_gradients_of_intervals_against_finite_differences(kind: str) -> None:
    """Both sides of the switch between difference and series, and both tails."""
    x = torch.tensor([0.0, 1.0, 37.0, 128.0, 255.0]).double().view(-1, 1) / 255
    location = torch.tensor([-0.4, 0.0, 0.5, 1.3]).double().requires_grad_()
    for log_scale in (-5.0, -2.6, -2.55, -2.5, 0.0, 2.0):
        log_s = torch.tensor(log_scale).double().requires_grad_()
        assert torch.autograd.gradcheck(lambda c, s: MASSES[kind][0](x, c, s), (location, log_s))


def test_the_series_and_the_difference_agree_where_they_meet() -> None:
    location = torch.linspace(-2, 3, 101).double()
    for log_scale in torch.linspace(-3, -1, 41).double():
        mass = normal_log_mass(X[:, None], location, log_scale)
        nearby = normal_log_mass(X[:, None], location, log_scale + 1e-9)
        torch.testing.assert_close(mass, nearby, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_tail_and_its_gradient_against_scipy(dtype: torch.dtype) -> None:
    """d log Q / dt = -phi / Q, which is nearly -t far out."""
    t = torch.tensor([-30, -5, 0, 3, 11.9, 12.1, 40, 300, 2e4, 8e7], dtype=dtype, requires_grad=True)
    value = log_upper_tail(t)
    (gradient,) = torch.autograd.grad(value.sum(), t)
    at = t.detach().double().numpy()
    tolerance = {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 1e-6}
    np.testing.assert_allclose(value.detach().double(), stats.norm.logsf(at), **tolerance)
    np.testing.assert_allclose(
        gradient.double(), -math.sqrt(2 / math.pi) / special.erfcx(at / math.sqrt(2)), **tolerance
    )


def test_log1mexp_keeps_its_digits() -> None:
    value = -torch.logspace(-300, 2, 200, dtype=torch.float64)
    expected = np.where(value > -0.5, np.log(-np.expm1(value)), np.log1p(-np.exp(value)))
    np.testing.assert_allclose(log1mexp(value), expected, rtol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_samples_follow_the_mass(name: str) -> None:
    """Chi-square over the levels (those expected less than five times together) at 0.1%, in three settings."""
    likelihood = LIKELIHOODS[name].build((1, 1, 1))
    if isinstance(likelihood, torch.nn.Module):
        likelihood.double()
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        row = torch.randn(likelihood.parameters_per_element(), generator=generator, dtype=torch.float64)
        log_prob, _ = levels(LIKELIHOODS[name], row)
        n = 20_000
        noise = torch.rand(n, 1, 1, 1, generator=generator, dtype=torch.float64)
        x = likelihood.sample(row.view(1, -1, 1, 1).expand(n, -1, 1, 1), noise)
        k = torch.round(x * 255).long().flatten()
        torch.testing.assert_close(x.detach().flatten(), X[k])
        observed, expected = torch.bincount(k, minlength=256).double(), n * log_prob.exp().detach()
        rare = expected < 5
        cells = torch.cat([observed[~rare], observed[rare].sum()[None]])
        hoped = torch.cat([expected[~rare], expected[rare].sum()[None]])
        keep = hoped > 1e-9
        assert cells[~keep].sum() == 0
        assert stats.chisquare(cells[keep], hoped[keep] * cells.sum() / hoped[keep].sum()).pvalue > 1e-3


@pytest.mark.parametrize("name", ["categorical", "bitwise"])
def test_the_mean_is_that_of_the_levels(name: str) -> None:
    likelihood = LIKELIHOODS[name].build((1, 1, 1))
    row = torch.randn(likelihood.parameters_per_element(), generator=torch.Generator().manual_seed(0)).double()
    log_prob, x = levels(LIKELIHOODS[name], row)
    expected = (log_prob.exp() * x.flatten()).sum()
    torch.testing.assert_close(likelihood.mean(row.view(1, -1, 1, 1)).flatten()[0], expected)


@pytest.mark.parametrize("name", ["discretized-gaussian", "discretized-logistic-predicted", "logistic-mixture"])
def test_the_mean_is_nearly_that_of_the_levels(name: str) -> None:
    """Locations inside the range and narrow scales: nothing is cut off."""
    likelihood = LIKELIHOODS[name].build((1, 1, 1))
    row = torch.full((likelihood.parameters_per_element(),), 0.4, dtype=torch.float64)
    if name != "discretized-gaussian":
        row[-1 if "predicted" in name else slice(4, 6)] = -4.0
    log_prob, x = levels(LIKELIHOODS[name], row)
    expected = (log_prob.exp() * x.flatten()).sum().item()
    assert likelihood.mean(row.view(1, -1, 1, 1)).item() == pytest.approx(expected, abs=5e-3)
