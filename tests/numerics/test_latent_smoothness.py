"""Expected gap and local smoothness: exact for a linear decoder, by differences for others."""

from __future__ import annotations

import pytest
import torch

from tests import catalogue, linear_model, subjects
from tests.linear_model import DECODER
from vae_models.backbones.specs import MLPConfig
from vae_models.evaluation.findings import Value
from vae_models.evaluation.latent.specs import SmoothnessEvaluation
from vae_models.evaluation.subject import Subject
from vae_models.metrics.smoothness import Decode, local_smoothness, probed_smoothness, squared_gaps
from vae_models.topologies.vae.specs import GatingConfig, ModelConfig

SQUARE = float(DECODER.square().sum())  # |W|_F^2


def found(subject: Subject, **spec: object) -> dict[str, Value]:
    evaluator = SmoothnessEvaluation.model_validate(spec)
    return {value.name: value for value in evaluator.build()(subject).values}


def test_linear_decoder() -> None:
    values = found(linear_model.subject(linear_model.data(3_000)), data=3_000)
    assert values["els"].value == pytest.approx(SQUARE, rel=1e-12)
    assert values["els"].error == pytest.approx(0, abs=1e-12)
    for variance in (0.01, 0.001):
        gap = values[f"expected_gap_{variance:g}"]
        assert gap.error is not None
        assert gap.value == pytest.approx(2 * variance * SQUARE, abs=4 * gap.error)
        assert gap.error < 0.03 * gap.value


def test_probes_agree_within_their_error() -> None:
    values = found(linear_model.subject(linear_model.data(1_000)), method="probes", probes=4)
    probed = values["els_probes"]
    assert probed.error is not None
    assert 0 < probed.error < 0.05 * SQUARE
    assert probed.value == pytest.approx(SQUARE, abs=4 * probed.error)


def assert_differences_agree(decode: Decode) -> None:
    torch.manual_seed(1)
    z, expected = torch.randn(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for step in 1e-6 * torch.eye(3, dtype=torch.float64):
            derivative = (decode(z + step) - decode(z - step)) / 2e-6
            expected += derivative.square().flatten(1).sum(1)
        torch.testing.assert_close(local_smoothness(decode, z), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", sorted(catalogue.BACKBONES))
def test_every_backbone_by_differences(name: str) -> None:
    backbone, shape = catalogue.BACKBONES[name]
    torch.manual_seed(0)
    assert_differences_agree(ModelConfig(latent=3, backbone=backbone).build(shape).double().eval().decode)


@pytest.mark.parametrize("name", sorted(catalogue.LIKELIHOODS))
def test_every_likelihood_by_differences(name: str) -> None:
    config = ModelConfig(latent=3, backbone=MLPConfig(hidden=(5,)), likelihood=catalogue.LIKELIHOODS[name])
    torch.manual_seed(0)
    assert_differences_agree(config.build((3, 4, 4)).double().eval().decode)


@pytest.mark.parametrize("name", sorted(catalogue.GATINGS))
def test_every_gating_by_differences(name: str) -> None:
    gating, backbone, shape = catalogue.GATINGS[name]
    torch.manual_seed(0)
    model = ModelConfig(latent=3, backbone=backbone, gating=gating).build(shape).double().eval()
    assert_differences_agree(lambda z: model.decode(z, torch.tensor(2.0, dtype=torch.float64)))


def test_more_axes_than_go_at_a_time() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(19, 7), torch.nn.Tanh(), torch.nn.Linear(7, 5)).double()
    z = torch.randn(4, 19, dtype=torch.float64)
    expected = [torch.autograd.functional.jacobian(net, one).square().sum() for one in z]
    torch.testing.assert_close(local_smoothness(net, z), torch.stack(expected), rtol=1e-10, atol=0)
    basis = 19**0.5 * torch.eye(19, dtype=torch.float64).expand(4, 19, 19)  # E v v' = I without chance
    torch.testing.assert_close(probed_smoothness(net, z, basis), torch.stack(expected), rtol=1e-10, atol=0)


def test_gaps_one_by_one() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 7), torch.nn.Tanh(), torch.nn.Linear(7, 6)).double()
    means, first, second = (torch.randn(5, 2, dtype=torch.float64) for _ in range(3))
    with torch.no_grad():
        gaps = squared_gaps(net, means, first, second, 0.04)
        for m, e, other, gap in zip(means, first, second, gaps, strict=True):
            assert float(gap) == pytest.approx(float((net(m + 0.2 * e) - net(m + 0.2 * other)).square().sum()))


def test_gap_tends_to_the_smoothness() -> None:
    """C.8, of a decoder that is not linear."""
    values = found(subjects.digits(latent=3), data=10_000, variances=[1e-6])
    gap, els = values["expected_gap_1e-06"], values["els"]
    assert gap.error is not None
    assert gap.value / 2e-6 == pytest.approx(els.value, abs=4 * gap.error / 2e-6)


def test_batches_and_order_change_nothing_a_share_is_named() -> None:
    x = linear_model.data(100)
    whole = found(linear_model.subject(x))
    assert found(linear_model.subject(x, batch_size=24))["expected_gap_0.01"].value == pytest.approx(
        whole["expected_gap_0.01"].value, rel=1e-12
    )
    share = found(linear_model.subject(x), data=10)
    assert (share["els"].count, whole["els"].count) == (10, 100)
    assert "10 of 100 data" in share["els"].note
    assert share["expected_gap_0.01"].value != whole["expected_gap_0.01"].value


def test_a_multi_rate_model_at_its_betas() -> None:
    values = found(subjects.digits(gating=GatingConfig(low=0.1, high=10.0), betas=[1.0, 5.0], limit=40))
    assert values["beta_1/els"].value == values["els"].value
    assert values["beta_5/els"].value != values["els"].value
