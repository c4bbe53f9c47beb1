"""Likelihoods against counting, quadrature, scipy and finite differences."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from tests.catalogue import LIKELIHOODS
from vae_models.likelihoods.bernoulli import Bernoulli
from vae_models.likelihoods.gaussian import Gaussian
from vae_models.protocols import Likelihood

FINITE = st.floats(-50, 50)
SIGMA = st.floats(1e-3, 1e3)


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 300.0])
def test_bernoulli_sums_to_one_over_all_images(scale: float) -> None:
    """All 2^9 images of 3 x 3 pixels, also where the probabilities are 0 and 1 to machine precision."""
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=9)), dtype=torch.float64).view(-1, 1, 3, 3)
    logits = scale * torch.randn(1, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_prob = Bernoulli().log_prob(logits.expand_as(images), images)
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-13)


@settings(deadline=None)
@given(logits=st.lists(FINITE, min_size=1, max_size=8), data=st.data())
def test_bernoulli_against_scipy(logits: list[float], data: st.DataObject) -> None:
    x = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(logits), max_size=len(logits)))
    found = Bernoulli().log_prob(torch.tensor([logits], dtype=torch.float64), torch.tensor([x], dtype=torch.float64))
    # log p by the tail that does not round to 0: log sigmoid(l) for x = 1, log sigmoid(-l) for x = 0
    expected = stats.logistic.logcdf(np.where(np.array(x) == 1, logits, np.negative(logits))).sum()
    assert found.item() == pytest.approx(expected, rel=1e-12, abs=1e-300)


@settings(deadline=None)
@given(logit=FINITE, x=st.floats(0, 1))
def test_bernoulli_on_grey_values_is_the_cross_entropy(logit: float, x: float) -> None:
    found = Bernoulli().log_prob(column([logit]), column([x])).item()
    on, off = stats.logistic.logcdf(logit), stats.logistic.logcdf(-logit)
    assert found == pytest.approx(x * on + (1 - x) * off, rel=1e-12, abs=1e-300)


def test_bernoulli_is_finite_with_the_right_gradient_at_any_logit() -> None:
    logits = torch.tensor([[-1e30, -1e4, -90.0, 0.0, 90.0, 1e4, 1e30]], requires_grad=True)
    for value in (0.0, 1.0):
        x = torch.full_like(logits, value).detach()
        log_prob = Bernoulli().log_prob(logits, x)
        (gradient,) = torch.autograd.grad(log_prob.sum(), logits)
        assert torch.isfinite(log_prob).all()
        torch.testing.assert_close(gradient, x - torch.sigmoid(logits.detach()))


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 1.0, 50.0])
@pytest.mark.parametrize("link", ["identity", "sigmoid"])
def test_gaussian_integrates_to_one_in_two_dimensions(sigma: float, link: str) -> None:
    """Trapezoids on a grid of +-12 sigma: exact to rounding for a normal density."""
    likelihood = Gaussian(sigma=sigma, link=link)  # type: ignore[arg-type]
    decoded = torch.tensor([0.3, -1.7], dtype=torch.float64)
    step = 0.25 * sigma
    axis = torch.arange(-48, 49, dtype=torch.float64) * step
    mean = likelihood.mean(decoded)
    x = torch.cartesian_prod(mean[0] + axis, mean[1] + axis)
    density = likelihood.log_prob(decoded.expand_as(x), x).exp()
    assert (density.sum() * step**2).item() == pytest.approx(1, abs=1e-10)


@settings(deadline=None)
@given(mean=FINITE, sigma=SIGMA, standard=st.floats(-30, 30))
def test_gaussian_against_scipy(mean: float, sigma: float, standard: float) -> None:
    x = mean + sigma * standard
    found = Gaussian(sigma=sigma).log_prob(column([mean]), column([x])).item()
    assert found == pytest.approx(stats.norm.logpdf(x, mean, sigma), rel=1e-9, abs=1e-9)


def test_log_prob_is_summed_over_the_datum_and_not_over_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    decoded, x = torch.randn(2, 5, 2, 3, 4, generator=generator, dtype=torch.float64)
    for config in LIKELIHOODS.values():
        likelihood = config.build()
        whole = likelihood.log_prob(decoded, x.sigmoid())
        parts = likelihood.log_prob(decoded.reshape(-1, 1), x.sigmoid().reshape(-1, 1))
        torch.testing.assert_close(whole, parts.view(5, -1).sum(1), rtol=1e-12, atol=1e-12)


def test_only_masses_stay_below_zero() -> None:
    assert (Bernoulli().measure, Gaussian().measure) == ("mass", "density")
    assert Gaussian(sigma=0.01).log_prob(column([0.5]), column([0.5])).item() > 0


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_against_finite_differences(name: str) -> None:
    likelihood: Likelihood = LIKELIHOODS[name].build((1, 2, 3))
    generator = torch.Generator().manual_seed(1)
    decoded = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.rand(3, 1, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(likelihood.log_prob, (decoded, x))
    assert torch.autograd.gradcheck(likelihood.mean, (decoded,))


# --- samples --------------------------------------------------------------------------------------------------------


def test_gaussian_samples_follow_the_density() -> None:
    noise = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    likelihood = Gaussian(sigma=0.7, link="sigmoid")
    decoded = torch.full_like(noise, -0.4)
    x = likelihood.sample(decoded, noise)
    mean = 1 / (1 + math.exp(0.4))
    assert stats.kstest(x.numpy().ravel(), stats.norm(mean, 0.7).cdf).pvalue > 0.01


@settings(max_examples=20, deadline=None)
@given(logit=st.floats(-4, 4))
def test_bernoulli_samples_follow_the_mass(logit: float) -> None:
    """Evenly spread noise must give the probability itself, to the spacing of the noise."""
    noise = ((torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000).view(-1, 1)
    x = Bernoulli().sample(torch.full_like(noise, logit), noise)
    assert set(x.unique().tolist()) <= {0.0, 1.0}
    assert x.mean().item() == pytest.approx(stats.logistic.cdf(logit), abs=1e-4)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_are_finite_at_the_ends_of_the_noise(name: str, dtype: torch.dtype) -> None:
    noise = torch.tensor([[0.0, 1 - torch.finfo(dtype).eps / 2, 1.0]], dtype=dtype)
    x = LIKELIHOODS[name].build((1, 2, 3)).sample(torch.zeros_like(noise), noise)
    assert torch.isfinite(x).all()
    assert x.dtype == dtype
    assert (x.diff() * (1 if name.startswith("gaussian") else -1) >= 0).all()
