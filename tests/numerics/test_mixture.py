"""The mixture of Gaussians as a law of z: against closed forms, scipy, and scikit-learn's sampling and densities."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture as Estimator
from torch import Tensor

from vae_models import random
from vae_models.protocols import Model
from vae_models.records import Encoding
from vae_models.samplers.laws import tempered
from vae_models.samplers.mixture import GaussianMixture
from vae_models.samplers.specs import MixtureConfig

CPU = torch.device("cpu")
NO_MODEL = cast(Model, None)  # a mixture reads nothing of the model
WEIGHTS = (0.2, 0.5, 0.3)
DRAWN = 40_000


def blobs(n: int = 3000) -> Tensor:
    """Three correlated Gaussians in two dimensions, far enough apart to be told apart."""
    generator = torch.Generator().manual_seed(0)
    which = torch.multinomial(torch.tensor(WEIGHTS), n, replacement=True, generator=generator)
    centres = torch.tensor([[-6.0, 0.0], [0.0, 1.0], [5.0, -4.0]], dtype=torch.float64)
    factors = torch.tensor([[[1.0, 0], [0.8, 0.3]], [[0.5, 0], [0, 1.5]], [[1.2, 0], [-0.9, 0.4]]], dtype=torch.float64)
    standard = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return centres[which] + torch.einsum("nij,nj->ni", factors[which], standard)


def fitted(means: Tensor, seed: int = 0, **settings: Any) -> dict[str, Tensor]:
    encoding = Encoding(mean=means, log_std=None, raw=None)
    fit = MixtureConfig(**settings).fitter().fit(encoding, seed=seed, device=CPU, tell=lambda done, total: None)
    return dict(fit)


def law(means: Tensor, **settings: Any) -> GaussianMixture:
    return cast(GaussianMixture, MixtureConfig(**settings).fitter().law(fitted(means, **settings), CPU))


@pytest.fixture(scope="module")
def mixture() -> GaussianMixture:
    return law(blobs(), components=3)


def sampled(mixture: GaussianMixture, n: int = DRAWN, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """z and the component of each."""
    specs = mixture.noise(NO_MODEL)
    noise = {
        name: random.draw(spec, n, seed=3, step=0, stream=name, device=CPU, dtype=torch.float64)
        for name, spec in specs.items()
    }
    z = mixture.z(NO_MODEL, tempered(noise, specs, temperature))
    return z, mixture.components(noise["component"][:, 0])


def sklearns(mixture: GaussianMixture) -> Estimator:
    """scikit-learn's mixture with these parameters."""
    covariances = (mixture.factors @ mixture.factors.mT).numpy()
    estimator = Estimator(len(covariances), random_state=1)
    estimator.weights_, estimator.means_, estimator.covariances_ = (
        mixture.weights.numpy(),
        mixture.centres.numpy(),
        covariances,
    )
    estimator.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(covariances))
    return estimator


def test_one_component_is_the_maximum_likelihood_gaussian() -> None:
    data = blobs()
    mixture = law(data, components=1, regularization=0)
    covariance = np.cov(data.numpy().T, bias=True)
    np.testing.assert_allclose(mixture.centres[0], data.mean(0), rtol=1e-12)
    np.testing.assert_allclose(mixture.factors[0] @ mixture.factors[0].mT, covariance, rtol=1e-10)
    expected = stats.multivariate_normal(data.mean(0).numpy(), covariance).logpdf(data.numpy())
    np.testing.assert_allclose(mixture.log_prob(NO_MODEL, data, {}), expected, rtol=1e-10)


def test_three_components_are_found_and_their_density_is_scikit_learns(mixture: GaussianMixture) -> None:
    data = blobs()
    np.testing.assert_allclose(sorted(mixture.weights.tolist()), sorted(WEIGHTS), atol=0.03)
    np.testing.assert_allclose(mixture.log_prob(NO_MODEL, data, {}), sklearns(mixture).score_samples(data), rtol=1e-9)


def test_components_come_as_often_as_their_weights_say(mixture: GaussianMixture) -> None:
    _, chosen = sampled(mixture)
    counts = chosen.bincount(minlength=3)
    assert stats.chisquare(counts.numpy(), DRAWN * mixture.weights.numpy()).pvalue > 0.001
    ends = mixture.weights.cumsum(0)
    edges = torch.stack([torch.zeros(()).double(), ends[0] - 1e-9, ends[0] + 1e-9, torch.tensor(1 - 1e-16).double()])
    assert mixture.components(edges).tolist() == [0, 0, 1, 2]


def test_each_components_samples_have_its_moments(mixture: GaussianMixture) -> None:
    z, chosen = sampled(mixture)
    for component in range(3):
        own = z[chosen == component]
        covariance = mixture.factors[component] @ mixture.factors[component].mT
        error = (covariance.diagonal() / len(own)).sqrt()
        assert ((own.mean(0) - mixture.centres[component]).abs() < 4 * error).all()
        scale = torch.outer(covariance.diagonal(), covariance.diagonal()).sqrt()
        assert ((own.T.cov() - covariance).abs() < 6 * scale / len(own) ** 0.5).all()


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, 1.0), (0.6, -0.8)])
def test_samples_are_distributed_as_scikit_learns(mixture: GaussianMixture, direction: tuple[float, float]) -> None:
    ours = sampled(mixture)[0].numpy() @ direction
    theirs = sklearns(mixture).sample(DRAWN)[0] @ direction
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001


def test_a_temperature_narrows_components_and_moves_none(mixture: GaussianMixture) -> None:
    (z, chosen), (cold, chosen_cold) = sampled(mixture, 100), sampled(mixture, 100, temperature=0.25)
    assert torch.equal(chosen, chosen_cold)
    centres = mixture.centres[chosen]
    torch.testing.assert_close(cold - centres, 0.25 * (z - centres))


def test_a_fit_is_a_function_of_data_and_seed() -> None:
    data = blobs(600)
    one, again = fitted(data, components=5), fitted(data, components=5)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert {one[name].dtype for name in ("weights", "means", "factors")} == {torch.float64}
    other = fitted(data, seed=2**40 + 5, components=5)
    assert not torch.equal(one["means"], other["means"])


def test_a_fit_takes_the_first_data_alone_where_it_is_told_how_many() -> None:
    data = blobs()
    some, same = fitted(data, components=2, data=500), fitted(data[:500], components=2)
    assert all(torch.equal(some[name], same[name]) for name in some)


@pytest.mark.parametrize(
    ("data", "components", "said"),
    [
        (torch.randn(5, 2), 10, "need at least 30 data, 3 each, and there are 5: fit at most 1 components"),
        (torch.randn(2, 2), 1, "and there are 2: give more data"),
        (torch.randn(29, 2), 10, "and there are 29: fit at most 9 components"),
        (torch.zeros(500, 2), 4, "of 500 posterior means 1 do"),
    ],
)
def test_too_few_data_are_refused_with_what_would_do(data: Tensor, components: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fitted(data, components=components)


def test_a_singular_covariance_is_named() -> None:
    line = torch.arange(40.0)[:, None].expand(40, 2)
    with pytest.raises(ValueError, match="is singular: fit fewer components, or set a larger regularization than 0"):
        fitted(line, components=2, regularization=0)


def test_a_fit_that_did_not_converge_says_so() -> None:
    short = MixtureConfig(components=10, iterations=2).fitter()
    (note,) = short.notes(fitted(blobs(), components=10, iterations=2))
    assert note == "gmm-10 has not converged to 0.001 nats in 2 iterations"
    assert short.notes(fitted(blobs(), components=3)) == ()
