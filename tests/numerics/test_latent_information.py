"""Mutual information by the aggregate posterior: exact where the model is linear and Gaussian, and pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm

from tests import linear_model
from tests.linear_model import ENCODER, STD, covariance
from vae_models.evaluation.findings import NotFinite, Value
from vae_models.evaluation.latent.specs import MutualInformationEvaluation
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.metrics.mutual_information import aggregate_posterior, minus_entropy, mutual_information

COUNT = 3_000
ESTIMATES = ("mi_with_self", "mi_without_self", "mi_ar_elbo")


def found(subject: Subject, **spec: object) -> dict[str, Value]:
    evaluator = MutualInformationEvaluation.model_validate(spec)
    return {value.name: value for value in evaluator.build()(subject).values}


def exact() -> float:
    """log det(I + C^-1 E S E^T) / 2."""
    spread = ENCODER @ covariance() @ ENCODER.T / STD.square()[:, None]
    return 0.5 * float(torch.linalg.slogdet(torch.eye(2, dtype=torch.float64) + spread)[1])


def marginal_kl() -> float:
    """KL(N(0, E S E^T + C) || N(0, I))."""
    marginal = ENCODER @ covariance() @ ENCODER.T + STD.square().diag()
    return 0.5 * float(marginal.trace() - 2 - torch.linalg.slogdet(marginal)[1])


def random_posteriors(count: int, latent: int, seed: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    mean, log_std, noise = (torch.randn(count, latent, generator=generator, dtype=torch.float64) for _ in range(3))
    log_std = 0.3 * log_std - 0.5
    return mean + log_std.exp() * noise, mean, log_std


@pytest.fixture(scope="module")
def linear() -> dict[str, Value]:
    return found(linear_model.subject(linear_model.data(COUNT)))


@pytest.mark.parametrize("name", ESTIMATES)
def test_linear_gaussian_information(linear: dict[str, Value], name: str) -> None:
    value = linear[name]
    assert value.error is not None
    assert value.value == pytest.approx(exact(), abs=4 * value.error + 0.01)
    assert value.error < 0.05
    assert 1 < exact() < math.log(COUNT) - 5  # neither 0 nor near its limit


@pytest.mark.parametrize("name", ["marginal_kl_with_self", "marginal_kl_without_self"])
def test_linear_gaussian_marginal_kl(linear: dict[str, Value], name: str) -> None:
    value = linear[name]
    assert value.error is not None
    assert value.value == pytest.approx(marginal_kl(), abs=4 * value.error + 0.01)


def test_rate_is_the_information_and_the_marginal_kl(linear: dict[str, Value]) -> None:
    rate = linear["mi_rate"]
    assert rate.error is not None
    assert rate.value == pytest.approx(exact() + marginal_kl(), abs=4 * rate.error)
    sums = [linear[f"mi_{self}"].value + linear[f"marginal_kl_{self}"].value for self in ("with_self", "without_self")]
    assert sums[0] == pytest.approx(sums[1], rel=1e-12)  # both: the mean of log q(z|x) - log p(z) at the samples
    assert sums[0] == pytest.approx(rate.value, abs=0.1)


def test_errors_are_those_of_repetition() -> None:
    """Over fresh data, estimates differ as their errors say."""
    runs = [found(linear_model.subject(linear_model.data(150, seed), seed=seed)) for seed in range(120)]
    for name in ("mi_with_self", "mi_without_self", "marginal_kl_with_self"):
        spread = np.std([run[name].value for run in runs], ddof=1)
        stated = np.mean([run[name].error for run in runs])
        assert stated == pytest.approx(spread, rel=0.25), name  # 4 times the error of a deviation of 120 runs


def test_pair_by_pair() -> None:
    z, mean, log_std = random_posteriors(40, 3)
    pairs = norm.logpdf(z[:, None].numpy(), mean[None].numpy(), log_std[None].exp().numpy()).sum(-1)
    aggregate = aggregate_posterior(z, mean, log_std)
    others = np.where(np.eye(40, dtype=bool), -np.inf, pairs)
    np.testing.assert_allclose(aggregate.log_own, np.diag(pairs), rtol=1e-12)
    np.testing.assert_allclose(aggregate.log_with_self, logsumexp(pairs, 1) - math.log(40), rtol=1e-11)
    np.testing.assert_allclose(aggregate.log_without_self, logsumexp(others, 1) - math.log(39), rtol=1e-11)
    shares = np.exp(pairs - logsumexp(pairs, 1, keepdims=True)).sum(0)
    np.testing.assert_allclose(aggregate.weight_with_self, shares, rtol=1e-10)
    shares = np.exp(others - logsumexp(others, 1, keepdims=True)).sum(0)
    np.testing.assert_allclose(aggregate.weight_without_self, shares, rtol=1e-10)


def test_jackknife_error() -> None:
    """The error is that of leaving out one datum at a time, each a sample and a part of q(z)."""
    z, mean, log_std = random_posteriors(200, 2)

    def estimate(kept: torch.Tensor) -> tuple[float, float]:
        whole = aggregate_posterior(z[kept], mean[kept], log_std[kept])
        made = mutual_information(whole.log_own, whole.log_without_self, whole.weight_without_self)
        return made.value, made.error

    everything = torch.ones(200, dtype=torch.bool)
    without = []
    for left_out in range(200):
        kept = everything.clone()
        kept[left_out] = False
        without.append(estimate(kept)[0])
    jackknife = math.sqrt(199 / 200 * np.square(np.subtract(without, np.mean(without))).sum())
    assert estimate(everything)[1] == pytest.approx(jackknife, rel=0.05)


def test_paper_formula_of_one_variance() -> None:
    """(D.1) as it is written, with latent / 2: constants of the two terms cancel."""
    z, mean, _ = random_posteriors(60, 3)
    log_std = torch.full_like(mean, math.log(0.4))
    squares = (z[:, None] - mean[None]).square().sum(-1) / (2 * 0.4**2)
    kernel = torch.exp(-squares).fill_diagonal_(0).sum(1) / 59
    written = float((-torch.log(kernel)).mean()) - 3 / 2
    whole = aggregate_posterior(z, mean, log_std)
    made = mutual_information(minus_entropy(log_std), whole.log_without_self, whole.weight_without_self)
    assert made.value == pytest.approx(written, rel=1e-12)


def test_the_self_term_bounds_the_estimate() -> None:
    """Posteriors that never meet: log N with the self term, far more without it, as in the paper's tables."""
    mean = 1e3 * torch.arange(50, dtype=torch.float64)[:, None]
    whole = aggregate_posterior(mean, mean, torch.zeros_like(mean))
    limited = mutual_information(whole.log_own, whole.log_with_self, whole.weight_with_self)
    assert limited.value == pytest.approx(math.log(50), rel=1e-12)
    without = mutual_information(whole.log_own, whole.log_without_self, whole.weight_without_self)
    assert without.value > 1e5


@pytest.mark.parametrize(("std", "noted"), [(STD, False), (STD * 1e-3, True)])
def test_an_estimate_above_the_rate_is_noted(std: torch.Tensor, noted: bool) -> None:
    findings = MutualInformationEvaluation().build()(linear_model.subject(linear_model.data(200), std=std))
    values = {value.name: value.value for value in findings.values}
    assert (values["mi_without_self"] > values["mi_rate"]) == noted
    assert [note.startswith("mi_without_self") for note in findings.notes] == [True] * noted


def test_collapsed_posteriors_have_no_information() -> None:
    mean = torch.zeros(30, 2, dtype=torch.float64)
    z = torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = aggregate_posterior(z, mean, mean)
    for log_q in (whole.log_with_self, whole.log_without_self):
        assert mutual_information(whole.log_own, log_q, whole.weight_with_self).value == pytest.approx(0, abs=1e-12)


def test_order_and_blocks_change_nothing() -> None:
    z, mean, log_std = random_posteriors(2_000, 5)
    order = torch.randperm(2_000, generator=torch.Generator().manual_seed(3))
    whole = aggregate_posterior(z, mean, log_std)
    cut = aggregate_posterior(z[order], mean[order], log_std[order], memory_mib=1)  # blocks of 13 rows
    for name in ("log_with_self", "log_without_self", "weight_with_self", "weight_without_self"):
        torch.testing.assert_close(getattr(cut, name), getattr(whole, name)[order], rtol=1e-9, atol=1e-9)


def test_a_share_of_the_data_is_named_and_limits_the_estimate() -> None:
    subject = linear_model.subject(linear_model.data(500))
    values = found(subject, data=100)
    assert values["mi_with_self"].count == 100
    assert "100 of 500 data" in values["mi_with_self"].note
    assert f"log N = {math.log(100):.2f}" in values["mi_with_self"].note
    assert values["mi_rate"].count == 500


def test_deterministic_encoder_with_a_given_variance() -> None:
    """It is the stochastic one of that variance, to the same noise."""
    x, std = linear_model.data(400), torch.full((2,), 0.5, dtype=torch.float64)
    given = found(linear_model.subject(x, std=None), variance=0.25)
    stochastic = found(linear_model.subject(x, std=std))
    assert set(given) == set(ESTIMATES)
    for name in ESTIMATES:
        assert given[name].value == pytest.approx(stochastic[name].value, rel=1e-9)


@pytest.mark.parametrize(
    ("std", "spec", "reason"),
    [
        (None, {}, "has no density, and its information is without limit: set variance"),
        (STD, {"variance": 0.1}, "has a variance of its own: leave variance out"),
    ],
)
def test_refused(std: torch.Tensor | None, spec: dict[str, object], reason: str) -> None:
    subject = linear_model.subject(linear_model.data(3), std=std)
    (why,) = MutualInformationEvaluation.model_validate(spec).refusals(subject.config)
    assert reason in why


def test_one_datum_is_too_few() -> None:
    with pytest.raises(Inapplicable, match="needs at least 2 data, and there are 1: raise limit"):
        found(linear_model.subject(linear_model.data(5), limit=1))
    with pytest.raises(ValueError, match="at least 2 data, got 1"):
        aggregate_posterior(*(torch.zeros(1, 2),) * 3)


def test_posteriors_that_are_not_finite_are_named() -> None:
    subject = linear_model.subject(linear_model.data(10), std=torch.tensor([0.5, torch.inf], dtype=torch.float64))
    with pytest.raises(NotFinite, match="posterior of 10 of 10 data is not finite"):
        found(subject)
