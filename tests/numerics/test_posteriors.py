"""The posterior and the KL term against quadrature, scipy, torch.distributions and Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from tests.catalogue import PRIORS, draw
from vae_models.normal import kl_to_standard, log_density, log_standard
from vae_models.posteriors.normal import DiagonalNormal
from vae_models.priors.standard_normal import StandardNormal
from vae_models.records import Latent

MEAN = st.floats(-20, 20)
LOG_STD = st.floats(-6, 3)


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def latent_of(batch: int, latent: int = 3, seed: int = 0) -> tuple[Latent, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, raw, noise = torch.randn(3, batch, latent, generator=generator, dtype=torch.float64)
    return DiagonalNormal().latent("z", mean, raw, noise, StandardNormal(latent=3)), noise


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.5, -2.0), (-3.0, 0.7), (0.01, 0.01)])
def test_kl_against_quadrature(mean: float, log_std: float) -> None:
    """integral of q log(q / p) by trapezoids over +-14 sigma of q, with scipy's densities."""
    q, p = stats.norm(mean, math.exp(log_std)), stats.norm(0, 1)
    z = np.linspace(mean - 14 * q.std(), mean + 14 * q.std(), 4001)
    expected = np.trapezoid(q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), z)
    assert kl_to_standard(row(mean), row(log_std)).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(mean=st.lists(MEAN, min_size=1, max_size=5), data=st.data())
def test_kl_against_torch_distributions(mean: list[float], data: st.DataObject) -> None:
    log_std = data.draw(st.lists(LOG_STD, min_size=len(mean), max_size=len(mean)))
    found = kl_to_standard(row(*mean), row(*log_std))
    q, p = Normal(row(*mean), row(*log_std).exp()), Normal(torch.zeros(1).double(), torch.ones(1).double())
    torch.testing.assert_close(found, kl_divergence(q, p).sum(1), rtol=1e-9, atol=1e-9)
    assert found.item() >= -1e-12


@pytest.mark.parametrize("log_std", [1e-3, -1e-5, 1e-7])
def test_kl_keeps_its_digits_near_a_collapsed_posterior(log_std: float) -> None:
    """KL = s^2 + 2 s^3 / 3 + ... for mean 0 and log sigma = s: differences of rounded exponentials would lose it."""
    expected = log_std**2 + 2 * log_std**3 / 3 + log_std**4 / 3
    assert kl_to_standard(row(0.0), row(log_std)).item() == pytest.approx(expected, rel=1e-8)
    assert kl_to_standard(row(0.0), row(0.0)).item() == 0


@settings(deadline=None)
@given(mean=MEAN, log_std=LOG_STD, standard=st.floats(-8, 8))
def test_log_densities_against_scipy(mean: float, log_std: float, standard: float) -> None:
    x = mean + math.exp(log_std) * standard
    expected = stats.norm.logpdf(x, mean, math.exp(log_std))
    assert log_density(row(x), row(mean), row(log_std)).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert log_standard(row(x)).item() == pytest.approx(stats.norm.logpdf(x), rel=1e-12)


def test_a_latent_is_what_its_record_says() -> None:
    """raw is the log-variance; the sample is reparameterized; log q and log p are scipy's."""
    generator = torch.Generator().manual_seed(0)
    mean, raw, noise = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    latent = DiagonalNormal().latent("z", mean, raw, noise, StandardNormal(latent=3))
    std = np.sqrt(np.exp(raw.numpy()))
    np.testing.assert_allclose(latent.log_std.exp(), std, rtol=1e-13)
    np.testing.assert_allclose(latent.sample, mean.numpy() + std * noise.numpy(), rtol=1e-13)
    np.testing.assert_allclose(latent.log_q, stats.norm.logpdf(latent.sample, mean, std).sum(1), rtol=1e-12)
    np.testing.assert_allclose(latent.log_p, stats.norm.logpdf(latent.sample).sum(1), rtol=1e-12)


def test_the_closed_form_rate_is_the_mean_of_the_sampled_one() -> None:
    n = 200_000
    generator = torch.Generator().manual_seed(0)
    mean, raw = torch.randn(2, 1, 3, generator=generator, dtype=torch.float64).expand(2, n, 3)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    latent = DiagonalNormal().latent("z", mean, raw, noise, StandardNormal(latent=3))
    sampled = latent.log_q - latent.log_p
    error = sampled.std() / math.sqrt(n)
    assert abs(sampled.mean() - latent.rate[0]) < 4 * error


@dataclass(frozen=True, kw_only=True)
class Laplace:
    """A prior without a closed form for the KL term."""

    def log_prob(self, z: Tensor) -> Tensor:
        return (-z.abs() - math.log(2)).sum(1)

    def normal_kl(self, mean: Tensor, log_std: Tensor) -> None:
        return None


def test_without_a_closed_form_the_rate_is_log_q_minus_log_p() -> None:
    latent = DiagonalNormal().latent("z", row(0.3, -1.0), row(0.1, -0.5), row(0.7, 2.0), Laplace())
    torch.testing.assert_close(latent.rate, latent.log_q - latent.log_p, rtol=0, atol=0)
    np.testing.assert_allclose(latent.log_p, stats.laplace.logpdf(latent.sample).sum(1), rtol=1e-12)


@pytest.mark.parametrize("name", ["standard-normal"])  # learned priors: test_priors.py
def test_prior_samples_follow_the_density(name: str) -> None:
    """E_p[-log p] over samples against the entropy by quadrature, and each coordinate by Kolmogorov-Smirnov."""
    prior = PRIORS[name].build((1, 2, 3), 2)
    noise = draw(prior.sample_noise(), 20_000, torch.Generator().manual_seed(0))
    z = prior.sample(noise, lambda x: (x, x))
    axis = torch.linspace(-12, 12, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    density = prior.log_prob(grid).exp() * 0.1**2
    assert density.sum().item() == pytest.approx(1, abs=1e-9)
    entropy = -(density * prior.log_prob(grid)).sum()
    surprise = -prior.log_prob(z)
    assert abs(surprise.mean() - entropy) < 4 * surprise.std() / math.sqrt(len(z))
    marginal = density.view(241, 241).sum(1).cumsum(0)
    for column in z.unbind(1):
        below = (column[:, None] <= axis + 0.05).double().mean(0)
        assert (below - marginal).abs().max() < 1.95 / math.sqrt(len(z))  # Kolmogorov-Smirnov at 0.1%


def test_gradients_against_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    mean, raw, noise = torch.randn(3, 2, 3, generator=generator, dtype=torch.float64).requires_grad_().unbind(0)

    def outputs(mean: Tensor, raw: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        latent = DiagonalNormal().latent("z", mean, raw, noise, StandardNormal(latent=3))
        return latent.sample, latent.log_q, latent.log_p, latent.rate

    inputs = tuple(tensor.detach().requires_grad_() for tensor in (mean, raw, noise))
    assert torch.autograd.gradcheck(outputs, inputs)
