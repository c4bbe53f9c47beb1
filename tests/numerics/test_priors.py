"""Learned priors: the hierarchical bound against an exact log p(z), mixtures by hand, samples against densities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from tests.catalogue import draw
from vae_models.posteriors.normal import DiagonalNormal, IsotropicNormal
from vae_models.priors.specs import VampPriorConfig, VHPConfig
from vae_models.priors.standard_normal import StandardNormal
from vae_models.priors.vhp import VHP

LATENT, INNER = 3, 2


class Affine(nn.Module):
    """u -> (A u + a, log s)."""

    def __init__(self, weight: Tensor, bias: Tensor, log_sigma: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.log_sigma = nn.Parameter(weight), nn.Parameter(bias), nn.Parameter(log_sigma)

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        mean = u @ self.weight.T + self.bias
        return mean, self.log_sigma.expand_as(mean)


def hierarchy(samples: int, *, exact: bool, seed: int = 0) -> tuple[VHP, stats.rv_continuous]:
    """zeta ~ N(0, I), z = W zeta + b + s eps with orthogonal columns in W / s, so that p(zeta|z) is diagonal."""
    generator = torch.Generator().manual_seed(seed)
    sigma = 0.7
    weight = torch.linalg.qr(torch.randn(LATENT, INNER, generator=generator, dtype=torch.float64)).Q
    weight = weight * torch.tensor([1.5, 0.6], dtype=torch.float64)
    bias = torch.randn(LATENT, generator=generator, dtype=torch.float64)
    p = Affine(weight, bias, torch.full((LATENT,), math.log(sigma), dtype=torch.float64))
    covariance = torch.linalg.inv(torch.eye(INNER).double() + weight.T @ weight / sigma**2)
    towards = covariance @ weight.T / sigma**2
    if exact:
        q = Affine(towards, -towards @ bias, covariance.diagonal().log() / 2)
    else:
        q = Affine(0.5 * towards, -0.4 * towards @ bias, covariance.diagonal().log() / 2 + 0.3)
    marginal = stats.multivariate_normal(
        bias.numpy(), (weight @ weight.T + sigma**2 * torch.eye(LATENT).double()).numpy()
    )
    return VHP(latent=LATENT, inner=INNER, importance_samples=samples, q=q, p=p), marginal


def no_encoder(x: Tensor) -> tuple[Tensor, Tensor]:
    raise AssertionError("this prior encodes nothing")


def bound(prior: VHP, z: Tensor, seed: int = 0) -> Tensor:
    noise = draw(prior.noise(), z.shape[0], torch.Generator().manual_seed(seed))
    return prior.bind(no_encoder, noise).log_prob(z).detach()


def test_the_bound_is_exact_with_the_true_posterior() -> None:
    """Every weight is p(z) itself, for any K and any noise."""
    z = torch.randn(7, LATENT, generator=torch.Generator().manual_seed(5)).double()
    for samples in (1, 4):
        prior, marginal = hierarchy(samples, exact=True)
        np.testing.assert_allclose(bound(prior, z), marginal.logpdf(z.numpy()), rtol=1e-10)


def test_the_bound_is_below_rises_with_k_and_gets_there() -> None:
    """Means over many draws for a handful of z: monotone in K within 4 standard errors, close at K = 2000."""
    z = torch.randn(5, LATENT, generator=torch.Generator().manual_seed(6)).double()
    draws = 400
    means, errors = [], []
    for samples in (1, 4, 16, 64):
        prior, marginal = hierarchy(samples, exact=False)
        found = bound(prior, z.repeat(draws, 1), seed=samples).view(draws, 5)
        means.append(found.mean(0))
        errors.append(found.std(0) / math.sqrt(draws))
    exact = torch.from_numpy(marginal.logpdf(z.numpy()))
    for lower, upper, a, b in zip(means, [*means[1:], exact], errors, [*errors[1:], torch.zeros(5)], strict=True):
        assert (lower <= upper + 4 * (a.square() + b.square()).sqrt()).all()
    assert (means[0] < exact - 0.02).all()
    prior, _ = hierarchy(20_000, exact=False)
    torch.testing.assert_close(bound(prior, z), exact, rtol=0, atol=0.05)


def test_plain_bound_is_the_elbo_of_the_second_layer() -> None:
    """Its mean over zeta is log p(z) - KL(q(zeta|z) || p(zeta|z)), exactly by cubature."""
    prior, marginal = hierarchy(1, exact=False)
    exact_prior, _ = hierarchy(1, exact=True)
    z = torch.randn(4, LATENT, generator=torch.Generator().manual_seed(7)).double()
    points = math.sqrt(INNER) * torch.cat([torch.eye(INNER), -torch.eye(INNER)]).double()
    found = torch.stack(
        [prior.bind(no_encoder, {"zeta": point.expand(4, 1, INNER)}).log_prob(z) for point in points]
    ).mean(0)
    q_mean, q_log = prior.q(z)
    p_mean, p_log = exact_prior.q(z)
    gap = (p_log - q_log + ((2 * q_log).exp() + (q_mean - p_mean).square()) / (2 * (2 * p_log).exp()) - 0.5).sum(1)
    np.testing.assert_allclose(found.detach(), marginal.logpdf(z.numpy()) - gap.detach().numpy(), rtol=1e-10)


def test_vhp_samples_have_the_marginals_moments() -> None:
    prior, marginal = hierarchy(1, exact=True)
    n = 40_000
    z = prior.sample(draw(prior.sample_noise(), n, torch.Generator().manual_seed(0)), no_encoder).detach().numpy()
    np.testing.assert_allclose(z.mean(0), marginal.mean, atol=4 * math.sqrt(3 / n))
    np.testing.assert_allclose(np.cov(z.T), marginal.cov, atol=0.06)
    for column in range(LATENT):
        frozen = stats.norm(marginal.mean[column], math.sqrt(marginal.cov[column, column]))
        assert stats.kstest(z[:5000, column], frozen.cdf).pvalue > 0.01


def test_vhp_networks_give_a_gradient_to_every_parameter() -> None:
    for config in (VHPConfig(hidden=(4,)), VHPConfig(hidden=(4,), gated=True, inner=1, importance_samples=1)):
        prior = config.build((1, 2, 3), LATENT).double()
        z = torch.randn(3, LATENT, dtype=torch.float64)
        noise = draw(prior.noise(), 3, torch.Generator().manual_seed(0))
        prior.bind(no_encoder, noise).log_prob(z).sum().backward()
        assert all(parameter.grad.abs().max() > 0 for parameter in prior.parameters())


def encode(u: Tensor) -> tuple[Tensor, Tensor]:
    """Some encoder: two pixels, two latents, one log std beyond the clamp."""
    flat = u.flatten(1)
    return 3 * flat - 1, torch.stack([flat[:, 0] - 2, torch.full_like(flat[:, 0], -9.0)], dim=1)


def test_vampprior_is_its_mixture() -> None:
    torch.manual_seed(0)  # far from every component the densities themselves, not their logarithms, are zero
    prior = VampPriorConfig(components=4, mean=0.4, deviation=0.6).build((1, 1, 2), 2).double()
    inputs = prior.pseudo_inputs.detach().clamp(0, 1)
    mean, log_std = encode(inputs)
    std = log_std.clamp(-3, 1).exp().numpy()
    z = torch.randn(6, 2, dtype=torch.float64)
    densities = [stats.norm.pdf(z.numpy(), mean[m].numpy(), std[m]).prod(1) for m in range(4)]
    found = prior.bind(encode, {}).log_prob(z)
    np.testing.assert_allclose(found.detach(), np.log(np.mean(densities, axis=0)), rtol=1e-9)
    assert (inputs != prior.pseudo_inputs).any()


def test_vampprior_samples_follow_the_mixture() -> None:
    torch.manual_seed(1)
    prior = VampPriorConfig(components=3, mean=0.4, deviation=0.6).build((1, 1, 2), 2).double()
    n = 5000
    z = prior.sample(draw(prior.sample_noise(), n, torch.Generator().manual_seed(0)), encode).detach().numpy()
    mean, log_std = (value.detach().numpy() for value in encode(prior.pseudo_inputs.clamp(0, 1)))
    std = np.exp(np.clip(log_std, -3, 1))
    for column in range(2):

        def cdf(x: np.ndarray, column: int = column) -> np.ndarray:
            return np.mean([stats.norm.cdf(x, mean[m, column], std[m, column]) for m in range(3)], axis=0)

        assert stats.kstest(z[:, column], cdf).pvalue > 0.01


@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.5])
def test_isotropic_posterior_has_the_closed_form_rate(sigma: float) -> None:
    """AR-ELBO's KL: (d_z / 2)(sigma^2 - log sigma^2 - 1) + |mean|^2 / 2; its eq 4 doubles the last term."""
    posterior = IsotropicNormal(sigma=sigma, trained=True).double()
    mean, noise = torch.randn(2, 5, LATENT, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    latent = posterior.latent("z", mean, None, noise, StandardNormal(latent=LATENT))
    expected = LATENT / 2 * (sigma**2 - math.log(sigma**2) - 1) + mean.square().sum(1) / 2
    torch.testing.assert_close(latent.rate.detach(), expected, rtol=1e-6, atol=1e-6)
    same = DiagonalNormal().latent(
        "z", mean, torch.full_like(mean, math.log(sigma**2)), noise, StandardNormal(latent=LATENT)
    )
    torch.testing.assert_close(latent.sample.detach(), same.sample, rtol=1e-6, atol=1e-6)
    latent.rate.sum().backward()
    assert posterior.log_sigma.grad is not None
