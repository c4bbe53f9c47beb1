"""The Gaussian likelihood's variances: by optimizer, by quadrature, by hand, and what evaluation uses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import integrate, optimize, stats
from torch import Tensor

from tests.catalogue import LIKELIHOODS
from vae_models.backbones.specs import MLPConfig
from vae_models.likelihoods.gaussian import DatasetMLE, softclip
from vae_models.likelihoods.specs import BetaLikelihoodConfig, GaussianConfig
from vae_models.objectives.elbo import Elbo
from vae_models.topologies.vae.specs import ModelConfig

SHAPE = (1, 2, 3)
GAUSSIANS = [name for name, config in LIKELIHOODS.items() if isinstance(config, GaussianConfig)]


def batch(rows: int, outputs: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    decoded = torch.randn(rows, outputs, 2, 3, generator=generator, dtype=torch.float64)
    return decoded, torch.rand(rows, *SHAPE, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("tie", ["iso", "diag"])
@pytest.mark.parametrize("per", ["dataset", "datum"])
def test_mle_is_the_argmin_that_an_optimizer_finds(tie: str, per: str) -> None:
    """Minimise the mean negative log-likelihood of scipy's normal over every sigma that the axes leave free."""
    likelihood = GaussianConfig(fit="mle", tie=tie, per=per, softclip=None, epsilon=1e-12).build(SHAPE)  # type: ignore[arg-type]
    likelihood.double().train()
    decoded, x = batch(4)
    error = (x - decoded).numpy()
    shape = {
        "iso dataset": (1, 1, 1, 1),
        "diag dataset": (1, 1, 2, 3),
        "iso datum": (4, 1, 1, 1),
        "diag datum": (4, 1, 2, 3),
    }
    free = shape[f"{tie} {per}"]

    def distortion(log_sigma: np.ndarray) -> float:
        return float(-stats.norm.logpdf(error, 0, np.exp(log_sigma.reshape(free))).sum() / 4)

    best = optimize.minimize(distortion, np.zeros(math.prod(free)), method="BFGS", options={"gtol": 1e-9})
    assert -likelihood.log_prob(decoded, x).mean().item() == pytest.approx(best.fun, rel=1e-9)
    found = likelihood.log_sigma(decoded, x).detach().numpy().reshape(-1)
    np.testing.assert_allclose(found, best.x, atol=1e-5)


def test_iso_is_half_the_dimensions_times_the_log_of_the_mean_squared_error() -> None:
    """AR-ELBO table 2, Iso-I: (d/2) log MSE up to a constant, and its gradient."""
    likelihood = GaussianConfig(fit="mle", softclip=None).build(SHAPE).double().train()
    decoded, x = batch(5)
    decoded.requires_grad_()
    distortion = -likelihood.log_prob(decoded, x).mean()
    expected = 3 * torch.log((x - decoded).square().mean()) + 3 * (1 + math.log(2 * math.pi))
    torch.testing.assert_close(distortion, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, decoded)[0] for value in (distortion, expected)))


def table_2(error: Tensor, tie: str, per: str, c: float) -> Tensor:
    """AR-ELBO's objective from the errors alone, the constants of appendix G included: mean over the batch, nats."""
    squared = error.square().flatten(1)
    rows = {"dataset": 1, "datum": len(squared)}[per]
    shared = squared.mean(0, keepdim=True) if per == "dataset" else squared
    if tie == "iso":
        shared = shared.mean(1, keepdim=True)
    logs = torch.log(shared + c).expand(rows, squared.shape[1])
    return 0.5 * (logs + 1 + math.log(2 * math.pi)).sum(1).mean()


@pytest.mark.parametrize("tie", ["iso", "diag"])
@pytest.mark.parametrize("per", ["dataset", "datum"])
@pytest.mark.parametrize("size", [1e-4, 1e-3, 0.1])
def test_fault_10_the_objective_is_table_2_and_the_density_stays_one(tie: str, per: str, size: float) -> None:
    """4 data of 6 elements, c = 1e-6: value and gradient of what is minimised; what is reported is scipy's normal."""
    c = 1e-6
    likelihood = GaussianConfig(fit="mle", tie=tie, per=per, softclip=None, epsilon=c).build(SHAPE).double().train()  # type: ignore[arg-type]
    decoded, x = batch(4)
    decoded = (x + size * decoded).requires_grad_()
    minimised, reported = (value.mean() for value in likelihood.distortions(decoded, x))  # type: ignore[union-attr]
    expected = table_2(x - decoded, tie, per, c)
    torch.testing.assert_close(minimised, expected, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad(value, decoded, retain_graph=True)[0] for value in (minimised, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)
    sigma = likelihood.log_sigma(decoded, x).exp().expand_as(x).detach()
    density = stats.norm.logpdf(x.numpy(), decoded.detach().numpy(), sigma.numpy()).sum() / 4
    assert -reported.item() == pytest.approx(density, rel=1e-12)
    less = 0.5 * (c / sigma.square()).sum() / 4
    assert (minimised - reported).item() == pytest.approx(less.item(), rel=1e-9)
    likelihood.eval()
    in_evaluation = likelihood.distortions(decoded, x)  # type: ignore[union-attr]
    assert torch.equal(*in_evaluation)


@pytest.mark.parametrize(("error", "slope"), [(1e-3, 500.0), (1e-4, 1e-4 / (1e-8 + 1e-6))])
def test_fault_10_the_slope_of_one_element(error: float, slope: float) -> None:
    """e / (e^2 + c): 500 and 99.0, where the density's are 750 and 197. Through a whole model's objective."""
    config = GaussianConfig(fit="mle", tie="diag", per="datum", softclip=None, epsilon=1e-6)
    model = ModelConfig(latent=1, backbone=MLPConfig(hidden=()), likelihood=config).build((1, 1, 1)).double().train()
    x, noise = torch.full((1, 1, 1, 1), 0.5).double(), {"z": torch.zeros(1, 1).double()}
    with torch.no_grad():
        (bias,) = (p for name, p in model.named_parameters() if "decoder" in name and p.shape == (1,))
        bias.add_(x.flatten() - error - model(x, noise).mean.flatten())
    loss = Elbo()(model(x, noise), torch.tensor(0.0), model=model, noise=noise)
    (found,) = torch.autograd.grad(loss.total, bias)
    assert -found.item() == pytest.approx(slope, rel=1e-6)
    density = 0.5 * (math.log(2 * math.pi * (error**2 + 1e-6)) + error**2 / (error**2 + 1e-6))
    assert loss.terms["distortion"].item() == pytest.approx(density, rel=1e-6)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_densities_integrate_to_one(name: str) -> None:
    """Each element on a grid of +-12 sigma, the others at their means: exact to rounding, evaluation mode."""
    config = LIKELIHOODS[name]
    if config.per == "datum" and config.fit == "mle":
        pytest.skip("a variance fitted to the datum itself makes no density")
    likelihood = config.build((1, 1, 2))
    if isinstance(likelihood, torch.nn.Module):
        likelihood.double().eval()
    decoded = torch.randn(
        1, likelihood.parameters_per_element(), 1, 2, generator=torch.Generator().manual_seed(0)
    ).double()
    mean = likelihood.mean(decoded)
    sigma = likelihood.log_sigma(decoded, mean).exp().expand_as(mean).detach().flatten()
    steps = torch.arange(-48, 49, dtype=torch.float64) * 0.25
    grid = torch.cartesian_prod(mean.flatten()[0] + steps * sigma[0], mean.flatten()[1] + steps * sigma[1])
    x = grid.view(-1, 1, 1, 2)
    density = likelihood.log_prob(decoded.expand(len(x), -1, -1, -1), x).exp()
    assert (density.sum() * sigma.prod() * 0.25**2).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("raw", [(-3.0, -3.0), (0.0, 0.0), (4.0, 1.0), (40.0, 60.0)])
def test_beta_integrates_to_one_over_its_range(raw: tuple[float, float]) -> None:
    likelihood = BetaLikelihoodConfig().build((1, 1, 1))
    decoded = torch.tensor(raw, dtype=torch.float64).view(1, 2, 1, 1)

    def density(x: float) -> float:
        return likelihood.log_prob(decoded, torch.full((1, 1, 1, 1), x, dtype=torch.float64)).exp().item()

    mean = likelihood.mean(decoded).item()
    total, _ = integrate.quad(density, -0.5 / 255, 255.5 / 255, points=[mean])
    first, _ = integrate.quad(lambda x: x * density(x), -0.5 / 255, 255.5 / 255, points=[mean])
    assert total == pytest.approx(1, abs=1e-7)
    assert first == pytest.approx(mean, abs=1e-7)


def test_beta_against_scipy_and_its_samples() -> None:
    likelihood = BetaLikelihoodConfig().build((1, 1, 1))
    decoded = torch.tensor([0.3, 2.0], dtype=torch.float64).view(1, 2, 1, 1)
    a, b = (1 + math.log1p(math.exp(value)) for value in (0.3, 2.0))
    x = torch.linspace(0, 1, 11).double().view(-1, 1, 1, 1)
    y = (255 * x + 0.5) / 256
    expected = stats.beta.logpdf(y.numpy(), a, b).ravel() + math.log(255 / 256)
    np.testing.assert_allclose(likelihood.log_prob(decoded.expand(11, -1, -1, -1), x), expected, rtol=1e-10)
    noise = torch.rand(5000, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples = likelihood.sample(decoded.expand(5000, -1, -1, -1), noise).numpy().ravel()
    assert stats.kstest((255 * samples + 0.5) / 256, stats.beta(a, b).cdf).pvalue > 0.01


@pytest.mark.parametrize("name", [name for name in GAUSSIANS if "datum" not in name or "predicted" in name])
def test_samples_follow_the_density(name: str) -> None:
    likelihood = LIKELIHOODS[name].build((1, 1, 1))
    if isinstance(likelihood, torch.nn.Module):
        likelihood.double().eval()
    n = 5000
    row = torch.randn(1, likelihood.parameters_per_element(), 1, 1, generator=torch.Generator().manual_seed(3)).double()
    decoded = row.expand(n, -1, -1, -1)
    noise = torch.rand(n, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = likelihood.sample(decoded, noise).detach()
    sigma = likelihood.log_sigma(row, x[:1]).exp().item()
    mean = likelihood.mean(row).item()
    assert stats.kstest(x.numpy().ravel(), stats.norm(mean, sigma).cdf).pvalue > 0.01


def test_softclip() -> None:
    value = torch.tensor([-1e4, -60.0, -6.0, 0.0, 5.0, 1e4], dtype=torch.float64)
    expected = -6 + np.logaddexp(0, value.numpy() + 6)
    np.testing.assert_allclose(softclip(value, -6.0), expected, rtol=1e-12)
    assert softclip(value, None) is value


@pytest.mark.parametrize("sigma", [0.003, 0.05, 1.0, 30.0])
def test_a_trained_sigma_starts_where_it_is_told(sigma: float) -> None:
    for minimum in (-6.0, None):
        likelihood = GaussianConfig(fit="trained", sigma=sigma, softclip=minimum).build(SHAPE).double()
        decoded, x = batch(1)
        assert likelihood.log_sigma(decoded, x).exp().item() == pytest.approx(sigma, rel=1e-6)


@pytest.mark.parametrize("tie", ["iso", "diag"])
def test_evaluation_uses_the_running_variance(tie: str) -> None:
    """The mean of the batches' variances while they are few; log_sigma asks without moving it; eval leaves it."""
    likelihood = GaussianConfig(fit="mle", tie=tie, softclip=None).build(SHAPE)  # type: ignore[arg-type]
    assert isinstance(likelihood, DatasetMLE)
    likelihood.double()
    seen = []
    for seed in range(4):
        decoded, x = batch(3, seed=seed)
        squared = (x - decoded).square()
        seen.append(squared.mean() if tie == "iso" else squared.mean(0))
        likelihood.log_sigma(decoded, x)
        likelihood.log_prob(decoded, x)
    expected = torch.stack(seen).mean(0)
    torch.testing.assert_close(likelihood.running_variance, expected)
    likelihood.eval()
    decoded, x = batch(3, seed=9)
    for _ in range(2):
        log_prob = likelihood.log_prob(decoded, x)
    want = stats.norm.logpdf(x.numpy(), decoded.numpy(), expected.sqrt().numpy()).sum((1, 2, 3))
    np.testing.assert_allclose(log_prob, want, rtol=1e-10)
    again = GaussianConfig(fit="mle", tie=tie, softclip=None).build(SHAPE).double()  # type: ignore[arg-type]
    again.load_state_dict(likelihood.state_dict())
    torch.testing.assert_close(again.eval().log_prob(decoded, x), log_prob, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"fit": "fixed", "tie": "diag"}, "a fixed sigma is one number"),
        ({"fit": "fixed", "per": "datum"}, "a fixed sigma is one number"),
        ({"fit": "trained", "per": "datum"}, "fit predicted"),
        ({"fit": "predicted"}, "fit trained"),
        ({"fit": "mle", "tie": "diag", "per": "datum", "softclip": None}, "no largest likelihood"),
    ],
)
def test_axes_that_do_not_go_together_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        GaussianConfig.model_validate(fields)
