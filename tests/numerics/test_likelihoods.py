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
from torch import Tensor, nn
from torch.func import functional_call

from tests.catalogue import LIKELIHOODS
from vae_models.likelihoods.bernoulli import Bernoulli
from vae_models.likelihoods.gaussian import Gaussian
from vae_models.protocols import HasVariance, Likelihood

FINITE = st.floats(-50, 50)
SIGMA = st.floats(1e-3, 1e3)


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1)


def case(name: str, *, batch: int, training: bool) -> tuple[Likelihood, Tensor, Tensor]:
    """A likelihood of images [1, 2, 3] in float64, a decoder's output, and x = k/255 (0 and 1 included)."""
    likelihood = LIKELIHOODS[name].build((1, 2, 3))
    if isinstance(likelihood, nn.Module):
        likelihood.double().train(training)
    generator = torch.Generator().manual_seed(1)
    outputs = likelihood.parameters_per_element()
    decoded = torch.randn(batch, outputs, 2, 3, generator=generator, dtype=torch.float64)
    x = torch.randint(256, (batch, 1, 2, 3), generator=generator).double() / 255
    x[0, 0, 0, 0], x[1, 0, 0, 1] = 0, 1
    return likelihood, decoded, x


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


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_prob_is_of_each_datum_and_summed_over_it(name: str) -> None:
    """Of a batch: each row alone. Of an image: its elements one by one, where they do not share a sigma."""
    likelihood, decoded, x = case(name, batch=5, training=False)
    whole = likelihood.log_prob(decoded, x)
    alone = [likelihood.log_prob(decoded[i : i + 1], x[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(whole, torch.cat(alone), rtol=1e-12, atol=1e-12)
    if "iso-datum" in name or "predicted-iso" in name or "diag" in name.removesuffix("-datum"):
        return  # the elements share a sigma, or have one for their place
    columns = decoded.reshape(5, -1, 6).permute(0, 2, 1).reshape(30, -1, 1, 1)
    parts = likelihood.log_prob(columns, x.reshape(30, 1, 1, 1))
    torch.testing.assert_close(whole, parts.view(5, 6).sum(1), rtol=1e-12, atol=1e-12)


def test_only_masses_stay_below_zero() -> None:
    assert (Bernoulli().measure, Gaussian().measure) == ("mass", "density")
    assert Gaussian(sigma=0.01).log_prob(column([0.5]), column([0.5])).item() > 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_against_finite_differences(name: str, training: bool) -> None:
    """By the decoder's output and the likelihood's own parameters; in training variances couple the batch."""
    likelihood, decoded, x = case(name, batch=3, training=training)
    names = list(dict(likelihood.named_parameters())) if isinstance(likelihood, nn.Module) else []

    def log_prob(decoded: Tensor, *values: Tensor) -> Tensor:
        if not isinstance(likelihood, nn.Module):
            return likelihood.log_prob(decoded, x)
        return functional_call(Bound(likelihood), {f"part.{k}": v for k, v in zip(names, values)}, (decoded, x))  # noqa: B905

    parameters = [p.detach().requires_grad_() for p in likelihood.parameters()] if names else []
    assert torch.autograd.gradcheck(log_prob, (decoded.requires_grad_(), *parameters))


class Bound(nn.Module):
    """`log_prob` as a module's call, for `functional_call`."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, decoded: Tensor, x: Tensor) -> Tensor:
        return self.part.log_prob(decoded, x)


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


SAMPLED = [name for name in LIKELIHOODS if "mle" not in name or "datum" not in name]


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_are_finite_at_the_ends_of_the_noise(name: str, dtype: torch.dtype) -> None:
    likelihood = LIKELIHOODS[name].build((1, 1, 3))
    noise = torch.tensor([0.0, 1 - torch.finfo(dtype).eps / 2, 1.0], dtype=dtype).view(1, 1, 1, 3)
    x = likelihood.sample(torch.zeros(1, likelihood.parameters_per_element(), 1, 3, dtype=dtype), noise)
    assert torch.isfinite(x).all()
    assert x.dtype == dtype
    if name != "bitwise":  # whose order is not that of the noise
        assert (x.diff() * (-1 if name == "bernoulli" else 1) >= 0).all()


def test_a_variance_of_the_datum_itself_gives_no_samples() -> None:
    for name in LIKELIHOODS.keys() - SAMPLED:
        with pytest.raises(NotImplementedError, match="without x there is none"):
            LIKELIHOODS[name].build((1, 1, 3)).sample(torch.zeros(1, 1, 1, 3), torch.zeros(1, 1, 1, 3))


SAMPLED = [name for name in LIKELIHOODS if getattr(LIKELIHOODS[name].build((1, 2, 3)), "sampled", True)]


@pytest.mark.parametrize("name", SAMPLED)
def test_variances_are_those_of_what_is_drawn(name: str) -> None:
    """Over a fine grid of the noise, which is the integral by the inverse distribution function."""
    likelihood, decoded, x = case(name, batch=2, training=False)
    assert isinstance(likelihood, HasVariance)
    grid = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    found = likelihood.variance(decoded, x)
    assert found.shape == x.shape
    for row in range(2):
        copies = decoded[row : row + 1].expand(len(grid), *decoded.shape[1:])
        drawn = likelihood.sample(copies, grid.view(-1, 1, 1, 1).expand(-1, 1, 2, 3))
        torch.testing.assert_close(found[row], drawn.var(0, unbiased=False), rtol=2e-3, atol=2e-6)


@pytest.mark.parametrize("tie", ["iso", "diag"])
def test_a_variance_of_the_datum_itself_is_its_squared_error(tie: str) -> None:
    likelihood, decoded, x = case(f"gaussian-mle-{tie}-datum", batch=2, training=False)
    assert isinstance(likelihood, HasVariance)
    squared = (x - decoded).square()
    expected = squared if tie == "diag" else squared.mean((1, 2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(likelihood.variance(decoded, x), expected + 1e-6)
