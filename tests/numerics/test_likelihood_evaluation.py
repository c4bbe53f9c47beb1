"""ELBO, NLL and rate-distortion curves: against the linear-Gaussian model's exact p(x), and loops written out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from scipy.stats import multivariate_normal
from torch import Tensor

from tests import gangs, linear_model, subjects
from vae_models import parts
from vae_models.config.train import TrainConfig
from vae_models.data.records import Dataset, Split
from vae_models.evaluation.findings import Findings, NotFinite, Value
from vae_models.evaluation.likelihood.bound import BoundEvaluator
from vae_models.evaluation.likelihood.curve import CurveEvaluator, spaced
from vae_models.evaluation.likelihood.nll import NllEvaluator
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.likelihoods.specs import CategoricalConfig
from vae_models.priors.specs import VampPriorConfig, VHPConfig
from vae_models.protocols import LatentSpace
from vae_models.topologies.vae.specs import GatingConfig

DATA = 60
DECODER = torch.tensor([[1.2, 0.5], [0.6, -1.0], [0.0, 0.3], [0.0, 0.7]], dtype=torch.float64)  # columns: orthogonal,
SQUARES = DECODER.square().sum(0)  # so that p(z|x) = N(D^T x / (squares + 1), 1 / (squares + 1)) is diagonal
TRUE_ENCODER = DECODER.T / (SQUARES + 1)[:, None]
TRUE_STD = (SQUARES + 1).rsqrt()


def by_name(findings: Findings) -> dict[str, Value]:
    return {value.name: value for value in findings.values}


def exact(x: Tensor) -> Subject:
    """The linear model whose q(z|x) is the true posterior."""
    subject = linear_model.subject(x, encoder=TRUE_ENCODER, std=TRUE_STD)
    with torch.no_grad():
        subject.module.get_submodule("backbone.decoder.1").weight.copy_(DECODER)  # type: ignore[operator, union-attr]
    return subject


def log_p(x: Tensor, decoder: Tensor) -> Tensor:
    """log p(x) of the linear model: x ~ N(0, D D^T + I)."""
    covariance = decoder @ decoder.T + torch.eye(linear_model.DIMENSIONS, dtype=torch.float64)
    return torch.from_numpy(multivariate_normal(cov=covariance.numpy()).logpdf(x.double().numpy()))


def test_with_the_true_posterior_one_sample_is_exact() -> None:
    x = linear_model.data(DATA)
    subject = exact(x)
    nats = -log_p(x, DECODER)
    for samples in (1, 45):
        found = by_name(NllEvaluator(samples=samples)(subject))
        value, effective = found[f"nll_{samples}"], found[f"nll_{samples}/effective_samples"]
        assert value.value == pytest.approx(nats.mean().item(), rel=1e-12)
        assert value.error == pytest.approx(nats.std().item() / math.sqrt(DATA), rel=1e-10)
        assert effective.value == pytest.approx(samples, rel=1e-9)
        assert (value.measure, value.count, value.mode) == ("density", DATA, "min")
        assert f"nll_{samples}/bits_per_dim" not in found


def test_with_another_posterior_it_comes_down_to_the_exact_value() -> None:
    x = linear_model.data(DATA)
    subject = linear_model.subject(x, encoder=0.3 * linear_model.ENCODER)
    nats = -log_p(x, linear_model.DECODER).mean().item()
    gaps = [by_name(NllEvaluator(samples=k)(subject))[f"nll_{k}"].value - nats for k in (1, 30, 5000)]
    assert gaps[0] > gaps[1] > abs(gaps[2])
    assert abs(gaps[2]) < 0.02  # nats
    elbo = by_name(BoundEvaluator()(subject))["elbo"].value
    assert -elbo - nats > gaps[1]


def test_the_elbo_and_its_terms_are_the_closed_forms() -> None:
    x = linear_model.data(DATA)
    found = by_name(BoundEvaluator()(exact(x)))
    means = x.double() @ TRUE_ENCODER.T
    rate = 0.5 * (means.square() + TRUE_STD.square() - 1).sum(1) - TRUE_STD.log().sum()
    assert found["rate"].value == pytest.approx(rate.mean().item(), rel=1e-12)
    assert found["rate"].error == pytest.approx(rate.std().item() / math.sqrt(DATA), rel=1e-10)
    assert found["elbo"].value == pytest.approx(-(found["rate"].value + found["distortion"].value), rel=1e-12)
    assert found["elbo"].value == pytest.approx(log_p(x, DECODER).mean().item(), abs=4 * _sampling_error(x))
    assert [found[name].measure for name in ("elbo", "distortion", "rate", "squared_error")] == [
        "density", "density", None, None,
    ]  # fmt: skip
    assert "bits_per_dim" not in found


def _sampling_error(x: Tensor) -> float:
    """The standard deviation of the mean distortion that one sample of q(z|x) for each datum leaves."""
    directions = DECODER * TRUE_STD  # E[x|z] moves along them, by two standard normal numbers
    rest = x.double() - x.double() @ TRUE_ENCODER.T @ DECODER.T
    variances = (rest @ directions).square().sum(1) + 0.5 * (directions.T @ directions).square().sum()
    return float(variances.sum().sqrt() / len(x))


@pytest.mark.parametrize("prior", [VHPConfig(importance_samples=3, hidden=(4,)), VampPriorConfig(components=5)])
def test_it_is_a_loop_of_whole_passes(prior: VHPConfig | VampPriorConfig) -> None:
    """The model called anew for each sample, its noise that of the evaluation: the same to rounding."""
    subject = subjects.digits(prior=prior, likelihood=CategoricalConfig(), limit=70)
    samples, blocks = 23, {}
    for block in (0, 1):
        stream = f"test/nll/{block}"
        blocks[block] = subject.draw(subject.model.noise(20), 70, stream=stream)
    x = subject.dataset.test.x[:70].double() / 255
    log_w = []
    with torch.no_grad():
        for place in range(samples):
            noise = {name: value[:, place % 20] for name, value in blocks[place // 20].items()}
            trace = subject.model(x, noise)
            log_w.append(trace.latents[0].log_p - trace.latents[0].log_q - trace.distortion)
    nats = -torch.logsumexp(torch.stack(log_w, 1), 1) + math.log(samples)
    findings = NllEvaluator(samples=samples)(subject)
    found = by_name(findings)
    assert found["nll_23"].value == pytest.approx(nats.mean().item(), rel=1e-12)
    bits = found["nll_23/bits_per_dim"]
    assert bits.value == pytest.approx(nats.mean().item() / (64 * math.log(2)), rel=1e-12)
    assert bits.error == pytest.approx(nats.std().item() / math.sqrt(70) / (64 * math.log(2)), rel=1e-9)
    assert (bits.measure, bits.levels) == ("mass", 256)
    assert any("log p(z) is estimated" in note for note in findings.notes) == isinstance(prior, VHPConfig)


@pytest.mark.parametrize("plan", [{"batch_size": 7}, {"batch_size": 64}, {"memory_mib": 16}, {"batch_size": 1}])
def test_batch_size_and_memory_change_nothing(plan: dict[str, int]) -> None:
    whole, cut = subjects.digits(limit=70), subjects.digits(limit=70, **plan)
    for evaluator in (NllEvaluator(samples=25), BoundEvaluator()):
        expected, found = by_name(evaluator(whole)), by_name(evaluator(cut))
        for name, value in expected.items():
            assert found[name].value == pytest.approx(value.value, rel=1e-12), name
            assert found[name].error == pytest.approx(value.error, rel=1e-9), name


def test_the_order_of_the_data_changes_nothing() -> None:
    x = linear_model.data(DATA)
    mixed = x[torch.randperm(DATA, generator=torch.Generator().manual_seed(1))]
    found = [by_name(NllEvaluator(samples=3)(exact(each)))["nll_3"] for each in (x, mixed)]
    assert found[0].value == pytest.approx(found[1].value, rel=1e-12)
    assert found[0].error == pytest.approx(found[1].error, rel=1e-10)


def _of_all() -> dict[str, Value]:
    subject = subjects.digits(gating=GatingConfig(), limit=130, batch_size=32, betas=[0.5])
    curve = CurveEvaluator(betas=3)(subject)
    rows = {f"curve/{row[0]:.3g}": row for row in curve.tables[0].rows}
    return by_name(NllEvaluator(samples=21)(subject) + BoundEvaluator()(subject)) | rows  # type: ignore[operator]


def _work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(_of_all(), folder / f"found-{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_find_what_one_does(tmp_path: Path) -> None:
    gangs.run(_work, (tmp_path,), 2)
    first, second = (torch.load(tmp_path / f"found-{rank}.pt", weights_only=False) for rank in (0, 1))
    assert first == second
    for name, value in _of_all().items():
        if isinstance(value, Value):
            assert first[name].value == pytest.approx(value.value, rel=1e-12), name
            assert first[name].error == pytest.approx(value.error, rel=1e-9), name
        else:
            assert first[name] == pytest.approx(value, rel=1e-9), name


def test_at_betas_the_gates_read_them_and_the_elbo_is_at_one() -> None:
    subject = subjects.digits(gating=GatingConfig(), limit=40, betas=[0.5, 4.0])
    found = by_name(BoundEvaluator()(subject))
    x = subject.dataset.test.x[:40].double() / 255
    noise = subject.draw(subject.model.noise(), 40, stream="test/elbo")
    for beta, prefix in ((1.0, ""), (0.5, "beta_0.5/"), (4.0, "beta_4/")):
        with torch.no_grad():
            trace = subject.model(x, noise, torch.tensor(beta, dtype=torch.float64))
        assert found[f"{prefix}rate"].value == pytest.approx(trace.rate.mean().item(), rel=1e-12)
        elbo = -(trace.rate + trace.distortion)
        assert found[f"{prefix}elbo"].value == pytest.approx(elbo.mean().item(), rel=1e-12)
    assert len({found[name].value for name in ("rate", "beta_0.5/rate", "beta_4/rate")}) == 3
    nll = by_name(NllEvaluator(samples=5)(subject))
    assert len({nll[f"{prefix}nll_5"].value for prefix in ("", "beta_0.5/", "beta_4/")}) == 3


def test_the_curve_is_the_bound_at_each_beta() -> None:
    subject = subjects.digits(gating=GatingConfig(low=0.1, high=10), limit=40, betas=list(spaced(0.1, 10, 5)))
    found = by_name(BoundEvaluator()(subject))
    curve = CurveEvaluator(betas=5)(subject)
    (table,) = curve.tables
    assert [row[0] for row in table.rows] == pytest.approx([0.1, 10**-0.5, 1, 10**0.5, 10])
    for beta, rate, rate_error, distortion, distortion_error, own, elbo in table.rows:
        at = f"beta_{beta:g}"
        assert (rate, rate_error) == (found[f"{at}/rate"].value, found[f"{at}/rate"].error)
        assert (distortion, distortion_error) == (found[f"{at}/distortion"].value, found[f"{at}/distortion"].error)
        assert own == pytest.approx(distortion + beta * rate)
        assert elbo == pytest.approx(found[f"{at}/elbo"].value, rel=1e-12)
    (picture,) = curve.pictures
    assert picture.svg is not None
    assert b"rate [nats per datum]" in picture.svg


def of_config(model: dict[str, Any], data: dict[str, Any], dataset: Dataset) -> Subject:
    """A subject of a configuration of any kind, untrained, in float64."""
    config = TrainConfig.model_validate({"data": data, "model": model, "steps": 1, "batch_size": 4, "dtype": "float64"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = config.model.build(dataset.shape).double()
    return Subject(built, config, dataset)


def test_padding_counts_neither_as_nats_nor_as_dimensions() -> None:
    lengths = torch.arange(20) % 4 + 1
    x = 255 * torch.randint(0, 2, (20, 4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = Split(x=x, lengths=lengths)
    facts = {"shape": [4, 3], "axes": ["time", "feature"], "support": "bits", "sizes": [20] * 3, "lengths": True}
    model = {"latent": 2, "backbone": {"kind": "mlp", "hidden": [5]}, "likelihood": {"kind": "bernoulli"}}
    dataset = Dataset(name="mine", train=split, val=split, test=split, shape=(4, 3))
    subject = of_config(model, {"name": "mine", "digest": "0" * 64, "facts": facts}, dataset)
    found = by_name(NllEvaluator(samples=6)(subject) + BoundEvaluator()(subject))
    bits = x.double() / 255
    mask = (torch.arange(4) < lengths[:, None])[:, :, None]
    log_w = []
    with torch.no_grad():
        noise = subject.draw(subject.model.noise(20), 20, stream="test/nll/0")["z"]
        for place in range(6):
            trace = subject.model(bits, {"z": noise[:, place]}, None, mask)
            sure = torch.where(mask, bits * F.logsigmoid(trace.decoded) + (1 - bits) * F.logsigmoid(-trace.decoded), 0)
            log_w.append(sure.flatten(1).sum(1) + trace.latents[0].log_p - trace.latents[0].log_q)
    nats = math.log(6) - torch.logsumexp(torch.stack(log_w, 1), 1)
    assert found["nll_6"].value == pytest.approx(nats.mean().item(), rel=1e-12)
    dimensions = 3 * lengths.double()
    expected = (nats.sum() / dimensions.sum() / math.log(2)).item()
    assert found["nll_6/bits_per_dim"].value == pytest.approx(expected, rel=1e-12)
    bound = -found["elbo"].value / (dimensions.mean().item() * math.log(2))
    assert found["bits_per_dim"].value == pytest.approx(bound, rel=1e-12)


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A topology of two latents, as if a package were installed that brings it."""
    entry = EntryPoint("topology.ladder", "tests.unit.models.strangers:LadderConfig", parts.GROUP)
    monkeypatch.setattr(parts, "_entries", cache(lambda: (entry,)))
    parts.forget()
    yield
    monkeypatch.undo()
    parts.forget()


def test_a_model_without_one_latent_space_is_called_with_several_samples(ladder: None) -> None:
    images = torch.randint(0, 2, (30, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8) * 255
    split = Split(x=images)
    dataset = Dataset(name="digits", train=split, val=split, test=split, shape=(1, 8, 8))
    model = {"kind": "ladder", "latent": 3, "likelihood": {"kind": "bernoulli"}}
    subject = of_config(model, {"name": "digits", "binarize": "threshold"}, dataset)
    assert not isinstance(subject.module, LatentSpace)
    found = by_name(NllEvaluator(samples=21)(subject))
    drawn = [subject.draw(subject.model.noise(20), 30, stream=f"test/nll/{block}") for block in (0, 1)]
    log_w = []
    with torch.no_grad():
        for place in range(21):
            noise = {name: value[:, place % 20] for name, value in drawn[place // 20].items()}
            trace = subject.model(images.double() / 255, noise)
            ratios = [latent.log_p - latent.log_q for latent in trace.latents]
            log_w.append(ratios[0] + ratios[1] - trace.distortion)
    expected = math.log(21) - torch.logsumexp(torch.stack(log_w, 1), 1).mean().item()
    assert found["nll_21"].value == pytest.approx(expected, rel=1e-12)


def test_bits_per_dim_counts_what_is_no_padding() -> None:
    """Sequences of lengths of their own: the ratio of two sums, and its error by the delta method."""
    nats, dims = torch.rand(50, dtype=torch.float64) * 90, torch.randint(3, 30, (50,)).double()
    from vae_models.evaluation.likelihood.scale import Scale
    from vae_models.evaluation.likelihood.statistics import bits_per_dim

    value = bits_per_dim("bits_per_dim", nats, dims, Scale(measure="mass", levels=2))
    assert value.value == pytest.approx((nats.sum() / dims.sum()).item() / math.log(2), rel=1e-12)
    jackknife = torch.stack([(nats.sum() - nats[i]) / (dims.sum() - dims[i]) / math.log(2) for i in range(50)])
    expected = math.sqrt(49 / 50 * (jackknife - jackknife.mean()).square().sum().item())
    assert value.error == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("evaluator", [NllEvaluator(samples=5), BoundEvaluator(), CurveEvaluator(betas=2)])
def test_a_model_with_a_nan_is_named_and_nothing_is_returned(evaluator: object) -> None:
    subject = subjects.digits(gating=GatingConfig(), limit=30)
    with torch.no_grad():
        next(iter(subject.module.parameters()))[0] = math.nan
    with pytest.raises(NotFinite, match=r"is nan of datum 0 of the test split.*is not finite itself"):
        evaluator(subject)  # type: ignore[operator]


def test_data_that_are_not_finite_are_named() -> None:
    x = linear_model.data(10)
    x[3] = math.inf
    with pytest.raises(NotFinite, match=r"datum 3 of the test split, and not finite of 1 of 10.*look at that datum"):
        NllEvaluator(samples=2)(linear_model.subject(x))


def test_one_datum_has_no_error() -> None:
    found = by_name(NllEvaluator(samples=2)(linear_model.subject(linear_model.data(1))))
    assert found["nll_2"].error is None


def test_an_empty_split_is_said() -> None:
    subject = subjects.digits()
    empty = Split(x=subject.dataset.test.x[:0])
    dataset = Dataset(name="digits", train=subject.dataset.train, val=empty, test=empty, shape=(1, 8, 8))
    with pytest.raises(Inapplicable, match="the test split of digits is empty"):
        NllEvaluator(samples=2)(Subject(subject.module, subject.config, dataset))


def test_betas_of_a_model_of_one_are_refused() -> None:
    with pytest.raises(Inapplicable, match="leave them out"):
        BoundEvaluator()(subjects.digits(betas=[0.5]))
    with pytest.raises(Inapplicable, match=r"within the range.*0.01 to 10"):
        BoundEvaluator()(subjects.digits(gating=GatingConfig(), betas=[20.0]))
