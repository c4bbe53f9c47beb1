"""The ELBO against the exact log p(x) of a linear Gaussian model, and its gradients against finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.func import functional_call

from tests.catalogue import MODELS, build, inputs
from vae_models.backbones.specs import MLPConfig
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.metrics.active_units import active_units, active_units_by_kl, dimension_kl
from vae_models.metrics.sums import Sums
from vae_models.objectives.elbo import Elbo
from vae_models.priors.specs import VHPConfig
from vae_models.records import Trace
from vae_models.topologies.vae.model import VAE
from vae_models.topologies.vae.specs import ModelConfig

LATENT, DIMENSIONS, SIGMA = 3, 6, 0.4
ONE = torch.tensor(1.0, dtype=torch.float64)


def linear_vae(seed: int) -> VAE:
    """p(x|z) = N(W z + b, sigma^2 I), q(z|x) = N(A x + a, diag s^2): linear, so that all is known in closed form."""
    config = ModelConfig(latent=LATENT, backbone=MLPConfig(hidden=()), likelihood=GaussianConfig(sigma=SIGMA))
    torch.manual_seed(seed)
    model = config.build((1, 2, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
        model.backbone.heads.raw.weight.zero_()  # the variance does not depend on x
    return model


def decoder(model: VAE) -> tuple[Tensor, Tensor]:
    """W [dimensions, latent], b [dimensions]."""
    linear = model.backbone.decoder[1]
    return linear.weight.detach(), linear.bias.detach()


def exact_log_evidence(model: VAE, x: Tensor) -> np.ndarray:
    """log p(x) = log N(x; b, W W^T + sigma^2 I), [batch], by scipy."""
    weight, bias = decoder(model)
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(DIMENSIONS, dtype=torch.float64)
    return np.atleast_1d(stats.multivariate_normal(bias.numpy(), covariance.numpy()).logpdf(x.flatten(1).numpy()))


def exact_posterior(model: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [batch, latent] and covariance [latent, latent] of p(z|x)."""
    weight, bias = decoder(model)
    precision = torch.eye(LATENT, dtype=torch.float64) + weight.T @ weight / SIGMA**2
    covariance = torch.linalg.inv(precision)
    return (x.flatten(1) - bias) @ weight @ covariance / SIGMA**2, covariance


def expected_elbo(model: VAE, x: Tensor) -> Tensor:
    """E over the noise of -(rate + distortion), [batch], exactly.

    Both are quadratic in the noise, and the mean of a quadratic over N(0, I_n) is its mean over the 2n points
    +-sqrt(n) e_i (spherical cubature of degree 3).
    """
    points = math.sqrt(LATENT) * torch.cat([torch.eye(LATENT), -torch.eye(LATENT)]).double()
    traces = [model(x, {"z": point.expand(x.shape[0], -1)}) for point in points]
    return torch.stack([-(trace.rate + trace.distortion) for trace in traces]).mean(0).detach()


def data(batch: int, seed: int) -> Tensor:
    return torch.randn(batch, 1, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_elbo_is_log_p_minus_the_kl_to_the_true_posterior(seed: int) -> None:
    """log p(x) - ELBO = KL(q(z|x) || p(z|x)) >= 0, for any parameters."""
    model, x = linear_vae(seed), data(5, seed)
    latent = model(x, {"z": torch.zeros(5, LATENT).double()}).latents[0]
    mean, covariance = exact_posterior(model, x)
    precision = torch.linalg.inv(covariance)
    difference = (latent.mean - mean).detach()
    variance = (2 * latent.log_std).exp().detach()
    gap = 0.5 * (
        variance @ precision.diagonal()
        + torch.einsum("bi,ij,bj->b", difference, precision, difference)
        - LATENT
        + torch.logdet(covariance)
        - variance.log().sum(1)
    )
    elbo, evidence = expected_elbo(model, x).numpy(), exact_log_evidence(model, x)
    assert (elbo <= evidence + 1e-9).all()
    np.testing.assert_allclose(evidence - elbo, gap.numpy(), rtol=1e-8, atol=1e-8)


def test_elbo_is_log_p_when_q_is_the_true_posterior() -> None:
    """Orthogonal columns of W make the true posterior diagonal, hence within reach of q."""
    model, x = linear_vae(3), data(7, 3)
    weight, bias = decoder(model)
    with torch.no_grad():
        weight.copy_(torch.linalg.qr(weight).Q * torch.tensor([2.0, 1.0, 0.1], dtype=torch.float64))
        _, covariance = exact_posterior(model, x)
        encoder = covariance @ weight.T / SIGMA**2
        model.backbone.heads.mean.weight.copy_(encoder)
        model.backbone.heads.mean.bias.copy_(-encoder @ bias)
        model.backbone.heads.raw.bias.copy_(covariance.diagonal().log())
    np.testing.assert_allclose(expected_elbo(model, x).numpy(), exact_log_evidence(model, x), rtol=1e-11)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_every_parameter_against_finite_differences(name: str) -> None:
    """Directional derivative along a random direction of all parameters at once, in float64.

    ReLU's kinks are not met: a step of 1e-6 crosses none at these inputs.
    """
    model = build(name, seed=2)
    x, noise = inputs(name)
    beta = torch.tensor([0.2, 1.0, 3.0, 0.0], dtype=torch.float64)  # one per datum, as MR-VAE has it
    parameters = {key: value.detach() for key, value in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    directions = {
        key: torch.randn(value.shape, generator=generator, dtype=torch.float64) for key, value in parameters.items()
    }
    length = math.sqrt(sum(direction.square().sum().item() for direction in directions.values()))

    def total(step: Tensor) -> Tensor:
        moved = {key: value + step / length * directions[key] for key, value in parameters.items()}
        trace: Trace = functional_call(model, moved, (x, noise, beta))
        return Elbo()(trace, beta, model=model, noise=noise).total

    assert torch.autograd.gradcheck(total, (torch.zeros((), dtype=torch.float64, requires_grad=True),), rtol=1e-5)


@pytest.mark.parametrize("name", ["linear", "mlp-tanh"])
def test_the_whole_jacobian_of_small_models(name: str) -> None:
    name = f"{name}/bernoulli/standard-normal/diagonal-normal"
    model = build(name, seed=2)
    x, noise = inputs(name, batch=2)
    keys = list(dict(model.named_parameters()))

    def total(*values: Tensor) -> Tensor:
        trace: Trace = functional_call(model, dict(zip(keys, values, strict=True)), (x, noise))
        return Elbo()(trace, ONE, model=model, noise=noise).total

    assert torch.autograd.gradcheck(total, tuple(value.detach().requires_grad_() for value in model.parameters()))


# --- the objective --------------------------------------------------------------------------------------------------


def trace_of(rate: list[float], distortion: list[float]) -> Trace:
    name = "linear/bernoulli/standard-normal/diagonal-normal"
    trace = build(name)(*inputs(name, batch=len(rate)))
    latent = replace(trace.latents[0], rate=torch.tensor(rate, dtype=torch.float64))
    nats = torch.tensor(distortion, dtype=torch.float64)
    return replace(trace, latents=(latent,), distortion=nats, reconstruction=nats)


def test_elbo_by_hand() -> None:
    trace, model = trace_of([1.0, 3.0], [10.0, 20.0]), linear_vae(0)
    loss = Elbo()(trace, torch.tensor(0.5, dtype=torch.float64), model=model, noise={})
    assert loss.total.item() == pytest.approx((10.5 + 21.5) / 2)
    error = (trace.target - trace.mean).square().mean().item()  # images of one size: the mean over all elements
    expected = {"elbo": -17.0, "rate": 2.0, "distortion": 15.0, "squared_error": pytest.approx(error, rel=1e-14)}
    assert {key: value.item() for key, value in loss.terms.items()} == expected
    per_datum = Elbo()(trace, torch.tensor([2.0, 0.0], dtype=torch.float64), model=model, noise={})
    assert per_datum.total.item() == pytest.approx((12 + 20) / 2)
    assert per_datum.terms["elbo"].item() == -17.0  # at beta = 1, whatever beta is


def test_the_rate_of_several_latents_is_their_sum() -> None:
    trace = trace_of([1.0, 3.0], [10.0, 20.0])
    twice = replace(trace, latents=trace.latents * 2)
    assert twice.rate.tolist() == [2.0, 6.0]


# --- metrics --------------------------------------------------------------------------------------------------------

NATS = st.floats(-1e4, 1e4)


@settings(deadline=None)
@given(values=st.lists(st.tuples(NATS, NATS), min_size=1, max_size=12), cut=st.integers(0, 12))
def test_sums_do_not_depend_on_how_the_data_are_cut(values: list[tuple[float, float]], cut: int) -> None:
    rate, distortion = (list(column) for column in zip(*values, strict=True))
    pieces = [(rate[:cut], distortion[:cut]), (rate[cut:], distortion[cut:])]
    total = Sums.zero()
    for piece in pieces:
        if piece[0]:
            total = total + Sums.of(trace_of(*piece))
    means = Sums.unpacked(total.packed()).means()
    assert means["rate"] == pytest.approx(np.mean(rate), abs=1e-9)
    assert means["distortion"] == pytest.approx(np.mean(distortion), abs=1e-9)
    assert means["elbo"] == pytest.approx(-np.mean(rate) - np.mean(distortion), abs=1e-9)


def test_sums_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no data were evaluated"):
        Sums.zero().means()


def test_fault_17_active_units_by_the_kl_of_each_dimension() -> None:
    """VHP D.2 on two data by hand: dimension 1 has the prior, 0 a KL of 2, 2 one of log 2 - 3/8 on average over x."""
    means = torch.tensor([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]], dtype=torch.float64)
    log_stds = torch.tensor([[0.0, 0.0, math.log(0.5)], [0.0, 0.0, math.log(0.5)]], dtype=torch.float64)
    found = dimension_kl(means, log_stds)
    assert found.tolist() == pytest.approx([2.0, math.log(2) - 3 / 8, 0.0], abs=1e-12)
    assert active_units_by_kl(means, log_stds) == 2
    assert active_units_by_kl(means, log_stds, threshold=1.0) == 1
    # the means of dimension 2 do not move, so Burda's measure, which is another one, does not count it
    assert active_units(means) == 1


def test_fault_17_a_hierarchical_priors_inner_posterior_is_measured_as_vhp_d2_does() -> None:
    """KL(q(zeta_j|x) || N(0, 1)) with z ~ q(z|x), against torch's own divergence."""
    torch.manual_seed(0)
    prior = VHPConfig(importance_samples=2, hidden=(4,), inner=3).build((1, 2, 2), 2).double()
    z = torch.randn(50, 2, dtype=torch.float64)
    mean, log_std = prior.inner_posterior(z)
    assert mean.shape == log_std.shape == (50, 3)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0.0, 1.0)).mean(0)
    found = dimension_kl(mean, log_std)
    torch.testing.assert_close(found, expected.sort(descending=True).values, rtol=1e-10, atol=1e-12)


def test_active_units_counts_the_latents_whose_mean_moves() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1.0, 0.11, 0.09, 0.0])  # standard deviations around Burda et al.'s variance of 0.01
    means = spread * torch.randn(20_000, 4, generator=generator) + 5
    assert active_units(means) == 2
    assert active_units(means, threshold=0.5) == 1
    with pytest.raises(ValueError, match="at least 2 data, got 1"):
        active_units(means[:1])
