"""Objectives against exact evidence, double loops, explicit mixtures and Jacobians."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from tests.catalogue import LATENT, MODELS, OBJECTIVES, build, draw, goes_together, inputs, loss
from vae_models.backbones.specs import MLPConfig
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.objectives.autoencoders import SCALES, mmd
from vae_models.objectives.elbo import Elbo
from vae_models.objectives.iwae import Iwae
from vae_models.objectives.specs import IwaeConfig, RaeConfig, WaeMmdConfig
from vae_models.objectives.total_correlation import log_weights, parts
from vae_models.posteriors.normal import DiagonalNormal
from vae_models.priors.standard_normal import StandardNormal
from vae_models.records import Latent
from vae_models.topologies.vae.model import VAE
from vae_models.topologies.vae.specs import ModelConfig

ONE = torch.tensor(1.0, dtype=torch.float64)


def linear_vae(seed: int = 0) -> tuple[VAE, Tensor, np.ndarray]:
    """A linear Gaussian model, five data, and their exact log p(x) by scipy."""
    torch.manual_seed(seed)
    config = ModelConfig(latent=2, backbone=MLPConfig(hidden=()), likelihood=GaussianConfig(sigma=0.6))
    model = config.build((1, 1, 4)).double()
    assert isinstance(model, VAE)
    x = torch.randn(5, 1, 1, 4, dtype=torch.float64)
    linear = model.backbone.decoder[1]
    weight, bias = linear.weight.detach().double(), linear.bias.detach().double()
    covariance = weight @ weight.T + 0.36 * torch.eye(4, dtype=torch.float64)
    return model, x, stats.multivariate_normal(bias.numpy(), covariance.numpy()).logpdf(x.flatten(1).numpy())


def test_iwae_of_one_sample_is_the_elbo_in_expectation_and_more_samples_are_tighter() -> None:
    model, x, evidence = linear_vae()
    draws = 4000
    bounds, errors = [], []
    for samples in (1, 4, 16, 64):
        noise = draw(model.noise(samples), draws * 5, torch.Generator().manual_seed(samples))
        trace = model(x.repeat(draws, 1, 1, 1), noise)
        log_weights = -trace.distortion + trace.latents[0].log_p - trace.latents[0].log_q
        rows = torch.logsumexp(log_weights.view(-1, samples), 1) - math.log(samples)
        found = Iwae(samples=samples)(trace, ONE, model=model, noise=noise)
        assert found.total.item() == pytest.approx(-rows.mean().item(), rel=1e-12)
        assert found.terms["iwae"].item() == pytest.approx(rows.mean().item(), rel=1e-12)
        per_datum = rows.view(draws, 5).mean(1)
        bounds.append(per_datum.mean().item())
        errors.append(per_datum.std().item() / math.sqrt(draws))
        if samples == 1:
            elbo = Elbo()(trace, ONE, model=model, noise=noise)
            assert abs(bounds[0] + elbo.total.item()) < 4 * errors[0]
    for lower, upper, a, b in zip(bounds, bounds[1:], errors, errors[1:], strict=False):
        assert lower < upper + 4 * (a + b)
    assert bounds[0] < bounds[1] < evidence.mean() + 4 * errors[1]
    assert bounds[-1] == pytest.approx(evidence.mean(), abs=4 * errors[-1] + 0.02 * abs(bounds[0] - evidence.mean()))


# --- total correlation ----------------------------------------------------------------------------------------------


def latents(batch: int, seed: int = 0) -> Latent:
    generator = torch.Generator().manual_seed(seed)
    mean, raw, noise = torch.randn(3, batch, 3, generator=generator, dtype=torch.float64)
    return DiagonalNormal().latent("z", mean, raw, noise, StandardNormal(latent=3))


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_the_three_parts_sum_to_the_sampled_rate(estimator: str) -> None:
    latent = latents(6)
    total = sum(parts(latent, 50, estimator))  # type: ignore[arg-type]
    torch.testing.assert_close(total, latent.log_q - latent.log_p, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_with_the_whole_data_set_in_the_batch_mss_is_exact(estimator: str) -> None:
    """Then q(z) is an explicit mixture. mws weighs each component 1/N^2: low by log N, jointly and per dimension."""
    latent = latents(5)
    mean, std = latent.mean.numpy(), latent.log_std.exp().numpy()
    densities = stats.norm.pdf(latent.sample.numpy()[:, None], mean, std)  # [i, n, j]
    joint, product = np.log(densities.prod(2).mean(1)), np.log(densities.mean(1)).sum(1)
    off = math.log(5) if estimator == "mws" else 0.0
    information, correlation, _ = parts(latent, 5, estimator)  # type: ignore[arg-type]
    np.testing.assert_allclose(information, latent.log_q.numpy() - (joint - off), rtol=1e-10)
    np.testing.assert_allclose(correlation, (joint - off) - (product - 3 * off), rtol=1e-10, atol=1e-10)


def test_mss_is_unbiased_over_the_choice_of_the_others() -> None:
    """sum_m w_im q(z_i|x_m), meaned over all batches of 3 of 6 data that have i, is q(z_i) = (1/6) sum_n q(z_i|x_n)."""
    from itertools import combinations

    q = torch.rand(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimates = []
    for others in combinations(range(1, 6), 2):
        weights = log_weights(1, 3, 0, 6, "mss", q).exp()[0]
        estimates.append((weights * q[[0, *others]]).sum())
    assert torch.stack(estimates).mean().item() == pytest.approx(q.mean().item(), rel=1e-12)
    second = log_weights(2, 3, 1, 6, "mss", q).exp()
    assert second[0].tolist() == pytest.approx([5 / 12, 1 / 6, 5 / 12])  # the own datum is row start + i
    assert second[1].tolist() == pytest.approx([5 / 12, 5 / 12, 1 / 6])


# --- autoencoders ---------------------------------------------------------------------------------------------------


def test_mmd_against_a_double_loop() -> None:
    z, prior = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def kernel(a: Tensor, b: Tensor) -> float:
        distance = float((a - b).square().sum())
        return sum(2 * 3 * s / (2 * 3 * s + distance) for s in SCALES)

    n, total = 5, 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                total += (kernel(z[i], z[j]) + kernel(prior[i], prior[j])) / (n * (n - 1))
            total -= 2 * kernel(z[i], prior[j]) / n**2
    assert mmd(z, prior).item() == pytest.approx(total, rel=1e-12)


def test_mmd_is_unbiased_and_sees_a_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    same = torch.stack([mmd(*torch.randn(2, 8, 2, generator=generator).double()) for _ in range(3000)])
    assert abs(same.mean()) < 4 * same.std() / math.sqrt(3000)
    assert (same < 0).any()
    shifted = torch.stack([mmd(torch.randn(8, 2) + 1, torch.randn(8, 2)) for _ in range(200)])
    assert shifted.mean() > 10 * shifted.std() / math.sqrt(200)


def test_the_gradient_penalty_is_the_jacobians_norm() -> None:
    """|v^T J|^2 averaged over unit vectors v = sqrt(n) e_k is |J|_F^2 exactly."""
    name = "mlp-tanh/bernoulli/standard-normal/diagonal-normal"
    model = build(name)
    config, shape = MODELS[name]
    x, noise = inputs(name)
    objective = RaeConfig(regularizer="gradient", latent_weight=0.0, decoder_weight=1.0).build(10, shape, LATENT)
    n = math.prod(shape)
    penalties = []
    for k in range(n):
        v = torch.zeros(n, dtype=torch.float64)
        v[k] = math.sqrt(n)
        found = loss(model, objective, x, noise | {"penalty": v.view(shape).expand(4, *shape)}, ONE)
        penalties.append(found.terms["regularizer"])
    trace = model(x, noise)
    jacobians = [
        torch.autograd.functional.jacobian(lambda z: model.decode(z[None])[0].flatten(), z.detach())
        for z in trace.latents[0].sample
    ]
    expected = torch.stack([jacobian.square().sum() for jacobian in jacobians]).mean()
    torch.testing.assert_close(torch.stack(penalties).mean(), expected, rtol=1e-9, atol=1e-12)
    assert config.latent == LATENT


def test_rae_by_hand() -> None:
    name = "mlp-relu/bernoulli/standard-normal/delta"
    model = build(name)
    x, noise = inputs(name)
    objective = RaeConfig(latent_weight=0.3, decoder_weight=0.2).build(10, MODELS[name][1], LATENT)
    found = loss(model, objective, x, noise, ONE)
    trace = model(x, noise)
    whole = sum(parameter.square().sum() for parameter in model.backbone.decoder.parameters())
    expected = (trace.distortion + 0.3 * trace.latents[0].sample.square().sum(1)).mean() + 0.2 * whole
    torch.testing.assert_close(found.total, expected)
    assert "elbo" not in found.terms


PAIRS = [
    ("iwae", "mlp-tanh/bernoulli/standard-normal/diagonal-normal"),
    ("iwae", "mlp-relu/bernoulli/vhp/diagonal-normal"),
    ("tc-mws", "mlp-tanh/bernoulli/standard-normal/diagonal-normal"),
    ("tc-mss", "mlp-tanh/bernoulli/standard-normal/diagonal-normal"),
    ("elbo", "mlp-relu/gaussian-mle-iso/standard-normal/diagonal-normal"),
    ("elbo", "mlp-relu/bernoulli/vampprior/diagonal-normal"),
    ("ae", "mlp-relu/bernoulli/standard-normal/delta"),
    ("wae-mmd", "mlp-relu/bernoulli/standard-normal/delta"),
    ("rae", "mlp-relu/bernoulli/standard-normal/delta"),
    ("rae-gp", "mlp-relu/bernoulli/standard-normal/delta"),
]


@pytest.mark.parametrize(("objective", "name"), PAIRS)
def test_gradients_against_finite_differences(objective: str, name: str) -> None:
    """Along a random direction of all parameters at once, in float64."""
    assert goes_together(objective, name)
    model = build(name, seed=2)
    part = OBJECTIVES[objective].build(20, MODELS[name][1], LATENT)
    x, noise = inputs(name, samples=part.samples)
    noise |= draw(part.noise(), 4, torch.Generator().manual_seed(3))
    values = list(model.parameters())
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in values]
    gradients = torch.autograd.grad(loss(model, part, x, noise, ONE).total, values, allow_unused=True)
    slope = sum((g * d).sum().item() for g, d in zip(gradients, directions, strict=True) if g is not None)
    step, ends = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for value, direction in zip(values, directions, strict=True):
                value.add_(sign * step * direction)
        ends.append(loss(model, part, x, noise, ONE).total.item())
        with torch.no_grad():
            for value, direction in zip(values, directions, strict=True):
                value.sub_(sign * step * direction)
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_configs_say_what_they_draw() -> None:
    assert IwaeConfig(samples=7).build(1, (1, 2, 3), 4).samples == 7
    assert WaeMmdConfig().build(1, (1, 2, 3), 4).noise()["mmd"].shape == (4,)
    assert RaeConfig(regularizer="gradient").build(1, (1, 2, 3), 4).noise()["penalty"].shape == (1, 2, 3)
    assert replace(Iwae(samples=3), samples=2).samples == 2
