"""Active units and KL of each dimension: exact of a linear Gaussian model; a hierarchical prior's inner latent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import linear_model, subjects
from tests.linear_model import ENCODER, STD
from vae_models.data import load
from vae_models.evaluation.findings import Findings, Value
from vae_models.evaluation.latent.specs import LatentEvaluation
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.priors.specs import VampPriorConfig, VHPConfig
from vae_models.recipes import catalogue
from vae_models.topologies.vae.specs import GatingConfig


def evaluated(subject: Subject, **spec: object) -> Findings:
    return LatentEvaluation.model_validate(spec).build()(subject)


def values(findings: Findings) -> dict[str, Value]:
    return {value.name: value for value in findings.values}


def test_linear_gaussian() -> None:
    """A third unit whose means have a variance just below and just above the threshold."""
    x = linear_model.data(600)
    for variance, active in ((0.0099, 2), (0.0101, 3)):
        third = torch.zeros(1, 4, dtype=torch.float64)
        third[0, 0] = (variance / x[:, 0].double().var()) ** 0.5
        encoder = torch.cat([ENCODER, third])
        std = torch.tensor([0.5, 0.8, 1.0], dtype=torch.float64)
        subject = linear_model.subject(x, encoder=encoder, std=std)
        found = values(evaluated(subject))
        assert found["active_units"].value == active
        assert found["active_units_kl"].value == 2  # the third: half its variance, 0.005 nats
        means = x.double() @ encoder.T
        assert found["posterior_mean_variance"].value == pytest.approx(float(means.var(0).mean()), rel=1e-9)
        assert found["posterior_std"].value == pytest.approx(float(std.mean()), rel=1e-9)
        assert found["posterior_std"].error == pytest.approx(0, abs=1e-12)


def test_dimensions_by_their_kl() -> None:
    x = linear_model.data(300)
    findings = evaluated(linear_model.subject(x))
    (table,) = findings.tables
    assert table.columns == ("dimension", "variance of the means [z²]", "mean sigma [z]", "KL [nats]")
    means = (x.double() @ ENCODER.T).numpy()
    kl = ((np.square(means) + STD.square().numpy() - 1) / 2 - STD.log().numpy()).mean(0)
    order = np.argsort(-kl)
    assert [row[0] for row in table.rows] == order.tolist()
    np.testing.assert_allclose([row[3] for row in table.rows], kl[order], rtol=1e-9)
    np.testing.assert_allclose([row[1] for row in table.rows], means.var(0, ddof=1)[order], rtol=1e-9)
    np.testing.assert_allclose([row[2] for row in table.rows], STD.numpy()[order], rtol=1e-9)


def test_deterministic_encoder_has_no_kl() -> None:
    findings = evaluated(linear_model.subject(linear_model.data(50), std=None))
    assert set(values(findings)) == {"active_units", "posterior_mean_variance"}
    assert "no density" in findings.notes[0]
    assert findings.tables[0].columns == ("dimension", "variance of the means [z²]")


def test_inner_latent_of_a_hierarchical_prior() -> None:
    """Of q(zeta|z) at every datum's z: a loop over the data with the same noise."""
    subject = subjects.digits(prior=VHPConfig(importance_samples=2, hidden=(8,), inner=3), limit=64, batch_size=32)
    findings = evaluated(subject)
    found = values(findings)
    assert {"active_units", "inner_active_units", "inner_active_units_kl"} <= set(found)
    assert "active_units_kl" not in found  # the outer prior is no N(0, I)
    noise = subject.draw({"z": subject.model.noise()["z"]}, 64, stream="test/latents")["z"]
    encoding = subject.posteriors()
    assert encoding.log_std is not None
    with torch.no_grad():
        pairs = [
            subject.model.prior.inner_posterior((m + s.exp() * e)[None])  # type: ignore[attr-defined]
            for m, s, e in zip(encoding.mean, encoding.log_std, noise, strict=True)
        ]
    means, log_stds = (torch.cat([pair[place] for pair in pairs]) for place in (0, 1))
    kl = ((means.square() + (2 * log_stds).exp() - 1) / 2 - log_stds).mean(0)
    inner = next(table for table in findings.tables if table.name == "inner_dimensions")
    np.testing.assert_allclose([row[3] for row in inner.rows], kl.sort(descending=True).values, rtol=1e-9)
    assert found["inner_active_units_kl"].value == int((kl > 0.01).sum())
    assert found["inner_active_units"].value == int((means.var(0) > 0.01).sum())


def test_a_mixture_prior_has_no_kl_of_a_dimension() -> None:
    findings = evaluated(subjects.digits(prior=VampPriorConfig(components=5), limit=20))
    assert "active_units_kl" not in values(findings)
    assert any("no product" in note for note in findings.notes)


def test_every_beta_of_a_multi_rate_model() -> None:
    subject = subjects.digits(gating=GatingConfig(low=0.1, high=10.0), betas=[0.1, 1.0], limit=50)
    found = values(evaluated(subject))
    assert found["beta_1/posterior_std"].value == found["posterior_std"].value  # without beta it is 1
    assert found["beta_0.1/posterior_std"].value != found["posterior_std"].value


def test_order_and_batches_change_nothing() -> None:
    x = linear_model.data(333)
    order = torch.randperm(333, generator=torch.Generator().manual_seed(0))
    first = values(evaluated(linear_model.subject(x)))
    second = values(evaluated(linear_model.subject(x[order], batch_size=7)))
    for name, value in first.items():
        assert second[name].value == pytest.approx(value.value, rel=1e-12), name


def test_one_datum_is_too_few() -> None:
    with pytest.raises(Inapplicable, match="at least 2 data, and there are 1"):
        evaluated(linear_model.subject(linear_model.data(4), limit=1))


def test_rates_of_several_latents() -> None:
    """Of an untrained multi-rate ladder, datum by datum; the rates are those that the ELBO has."""
    config = catalogue()["digits/mr-nvae-tiny"].build()
    dataset = load(config.data)
    torch.manual_seed(0)
    model = config.model.build(dataset.shape)
    plan = EvaluationPlan.model_validate({"limit": 6, "batch_size": 4, "betas": [1.0, 3.0]})
    subject = Subject(model, config, dataset, plan)
    findings = evaluated(subject)
    table = next(table for table in findings.tables if table.name == "latents")
    noise = subject.draw(subject.model.noise(), 6, stream="test/latents")
    totals: dict[str, list[float]] = {}
    terms: dict[str, list[Tensor]] = {}
    for place in range(6):
        x = dataset.test.x[place : place + 1].float() / 255
        with torch.no_grad():
            trace = subject.model(x, {name: value[place : place + 1] for name, value in noise.items()})
        for latent in trace.latents:
            totals.setdefault(latent.name, []).append(float(latent.rate))
            assert latent.rates is not None
            terms.setdefault(latent.name, []).append(latent.rates[0].flatten())
    shapes = config.model.latents()
    assert [row[:2] for row in table.rows] == [(name, math.prod(shapes[name])) for name in totals]
    for row, each in zip(table.rows, totals.values(), strict=True):
        assert row[2] == pytest.approx(np.mean(each), rel=1e-4)
        assert row[3] == pytest.approx(np.std(each, ddof=1) / 6**0.5, rel=1e-3)
    units = {name: int((torch.stack(each).mean(0) > 0.01).sum()) for name, each in terms.items()}
    assert 0 < sum(units.values()) < sum(row[1] for row in table.rows if isinstance(row[1], int))
    assert [row[4] for row in table.rows] == list(units.values())
    assert values(findings)["active_units_kl"].value == sum(units.values())
    assert values(findings)["active_latents"].value == sum(np.mean(each) > 0.01 for each in totals.values())
    assert values(findings)["beta_1/active_latents"].value == values(findings)["active_latents"].value
    assert {picture.name for picture in findings.pictures} >= {"latent_rates", "beta_3/latent_rates"}
