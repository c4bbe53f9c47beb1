"""Errors and variances of reconstructions: against a loop over single data, and closed forms of linear models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests import gangs, subjects
from vae_models import data
from vae_models.backbones.specs import MLPConfig
from vae_models.config.train import TrainConfig
from vae_models.evaluation.findings import Findings
from vae_models.evaluation.reconstruction import partitions
from vae_models.evaluation.reconstruction.evaluator import _compared
from vae_models.evaluation.reconstruction.specs import ReconstructionEvaluation
from vae_models.evaluation.reconstruction.variances import variances
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Subject
from vae_models.likelihoods.gaussian import DatasetMLE
from vae_models.likelihoods.specs import CategoricalConfig, GaussianConfig
from vae_models.metrics.ssim import ssim
from vae_models.topologies.vae.specs import GatingConfig, ModelConfig

EVALUATOR = ReconstructionEvaluation(variance_data=7, variance_samples=3)


def found(subject: Subject) -> Findings:
    return EVALUATOR.build()(subject)


def values(findings: Findings) -> dict[str, float]:
    return {value.name: value.value for value in findings.values}


def pendulum(**plan: object) -> Subject:
    """Images that are large enough for SSIM."""
    model = ModelConfig(latent=2, backbone=MLPConfig(hidden=(8,)), likelihood=GaussianConfig(link="sigmoid"))
    config = TrainConfig.model_validate({"data": {"name": "pendulum"}, "model": model, "steps": 1, "dtype": "float64"})
    dataset = data.load(config.data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = config.model.build(dataset.shape).double()
    return Subject(built, config, dataset, EvaluationPlan.model_validate({"limit": 50, **plan}))


def singly(subject: Subject, count: int) -> dict[str, list[Tensor]]:
    """x, E[x|z] of z ~ q(z|x) and of the mean, of one datum at a time."""
    pairs: dict[str, list[Tensor]] = {"x": [], "sampled": [], "at_mean": []}
    xs = subject.map(lambda rows: {"x": rows.x}, what="x")["x"]
    for i in range(count):
        noise = subject.draw(subject.model.noise(), 1, stream="test/reconstruction", first=i)
        with torch.no_grad():
            pairs["sampled"].append(subject.model(xs[i : i + 1], noise).mean)
            pairs["at_mean"].append(subject.space.decode(subject.space.encode(xs[i : i + 1]).mean))
        pairs["x"].append(xs[i : i + 1])
    return pairs


def test_errors_are_those_of_single_data() -> None:
    subject = pendulum()
    pairs = singly(subject, 50)
    by_name = {value.name: value for value in found(subject).values}
    for prefix, how in (("", "sampled"), ("at_mean/", "at_mean")):
        sums = torch.stack([(x - m).square().sum() for x, m in zip(pairs["x"], pairs[how], strict=True)])
        similar = torch.stack([ssim(x, m)[0] for x, m in zip(pairs["x"], pairs[how], strict=True)])
        total = by_name[f"{prefix}squared_error_sum"]
        assert total.value == pytest.approx(float(sums.mean()), rel=1e-12)
        assert total.error == pytest.approx(float(sums.std()) / 50**0.5, rel=1e-12)
        assert by_name[f"{prefix}ssim"].value == pytest.approx(float(similar.mean()), rel=1e-10)
        root = by_name[f"{prefix}root_mean_squared_error"]
        assert root.value == pytest.approx((float(sums.mean()) / 256) ** 0.5, rel=1e-12)
        above, below = ((float(sums.mean()) + sign * total.error) ** 0.5 / 16 for sign in (1, -1))
        assert root.error == pytest.approx((above - below) / 2, rel=1e-3)  # the error of its square, through the root
    assert by_name["at_mean/squared_error"].value == pytest.approx(by_name["at_mean/squared_error_sum"].value / 256)
    assert "squared_error" not in by_name  # the likelihood's


def test_padding_counts_nothing() -> None:
    x, mean = torch.zeros(2, 4, 3), torch.ones(2, 4, 3)
    mask = torch.tensor([[True] * 4, [True, True, False, False]]).unsqueeze(-1)
    terms = _compared(x, mean, mask, images=False)
    assert terms["squared_error_sum"].tolist() == [12, 6]
    assert terms["elements"].tolist() == [12, 6]


def test_ssim_of_small_images_is_left_out_with_a_note() -> None:
    findings = found(subjects.digits(limit=30))
    assert not any(name.endswith("ssim") for name in values(findings))
    assert any("SSIM was left out" in note for note in findings.notes)


def test_a_multi_rate_model_is_asked_at_every_beta() -> None:
    by_name = values(found(subjects.digits(gating=GatingConfig(), betas=(0.5, 1.0), limit=40)))
    assert by_name["beta_1/squared_error_sum"] == pytest.approx(by_name["squared_error_sum"], rel=1e-12)
    assert by_name["beta_0.5/squared_error_sum"] != pytest.approx(by_name["squared_error_sum"], rel=1e-6)


# --- workers and batches --------------------------------------------------------------------------------------------


def _work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    torch.save(values(found(subjects.digits(batch_size=33))), folder / f"values-{rank}.pt")
    dist.destroy_process_group()


def test_neither_workers_nor_batches_change_a_value(tmp_path: Path) -> None:
    alone = values(found(subjects.digits(batch_size=250)))
    gangs.run(_work, (2, tmp_path), 2)
    for rank in range(2):
        gang = torch.load(tmp_path / f"values-{rank}.pt", weights_only=True)
        assert gang == pytest.approx(alone, rel=1e-11)


# --- variances ------------------------------------------------------------------------------------------------------


def test_a_linear_models_variances_are_known() -> None:
    subject = subjects.digits(hidden=(), likelihood=GaussianConfig(sigma=0.3))
    maps = variances(subject, count=6, samples=4000)
    assert maps.given_z is not None
    assert maps.of_mean is not None
    torch.testing.assert_close(maps.given_z, torch.full_like(maps.given_z, 0.09))
    (weight,) = [module.weight for module in subject.module.backbone.decoder.modules() if isinstance(module, nn.Linear)]
    encoding = subject.posteriors()
    assert encoding.log_std is not None
    expected = (2 * encoding.log_std[:6]).exp() @ weight.detach().square().T
    torch.testing.assert_close(maps.of_mean.flatten(1), expected, rtol=0.12, atol=0)
    assert float((maps.of_mean.flatten(1) / expected).mean()) == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(maps.mean, subject.space.decode(encoding.mean[:6]), rtol=0, atol=0.15)


def test_a_deterministic_encoder_leaves_no_variance_of_the_mean() -> None:
    subject = subjects.digits(limit=10)
    model = {"kind": "vae", "latent": 2, "posterior": {"kind": "delta"}, "likelihood": {"kind": "gaussian"}}
    config = TrainConfig.model_validate(
        {"data": {"name": "digits"}, "model": model, "objective": {"kind": "ae"}, "steps": 1,
         "checkpoint": {"metric": "val/distortion", "mode": "min"}}
    )  # fmt: skip
    built = Subject(config.model.build(subject.dataset.shape), config, subject.dataset, subject.plan)
    assert variances(built, count=3, samples=2).of_mean is None
    assert "variance_of_mean" not in values(found(built))
    assert "variance_given_z" in values(found(built))


def test_levels_have_variances_too() -> None:
    subject = subjects.digits(likelihood=CategoricalConfig(), dtype="float32", limit=10)
    assert 0 < values(found(subject))["variance_given_z"] < 0.25


# --- partitions -----------------------------------------------------------------------------------------------------


def test_a_data_sets_variances_are_found_in_their_halves() -> None:
    subject = subjects.digits(likelihood=GaussianConfig(fit="mle", tie="diag", softclip=None))
    likelihood = subject.space.likelihood
    assert isinstance(likelihood, DatasetMLE)
    likelihood.running_variance[:, :4] = 0.1
    likelihood.running_variance[:, 4:] = 0.02
    by_name = values(partitions.findings(subject))
    expected = {"upper": 0.1, "lower": 0.02, "all": 0.06, "small": 0.06, "big": 0.06}
    expected |= {"SU": 0.1, "BU": 0.1, "SL": 0.02, "BL": 0.02}
    assert by_name == pytest.approx({f"fitted_variance/{name}": value for name, value in expected.items()})


def test_a_datums_own_variances_are_averaged_over_its_partition() -> None:
    likelihood = GaussianConfig(fit="mle", per="datum", tie="diag", epsilon=1e-6, softclip=None)
    subject = subjects.digits(likelihood=likelihood, batch_size=37)
    pairs = singly(subject, subject.count())
    squared = torch.cat([(x - m).square() + 1e-6 for x, m in zip(pairs["x"], pairs["sampled"], strict=True)])
    labels, _ = subject.labels()
    by_name = values(partitions.findings(subject))
    for name, rows, lines in (("SU", labels < 5, slice(0, 4)), ("BL", labels > 4, slice(4, 8))):
        assert by_name[f"fitted_variance/{name}"] == pytest.approx(float(squared[rows][:, :, lines].mean()), rel=1e-12)
    assert by_name["fitted_variance/all"] == pytest.approx(float(squared.mean()), rel=1e-12)


@pytest.mark.parametrize(
    ("pattern", "added"),
    [("uniform", [0.1] * 9), ("spatial-conditional", [0.025, 0.05, 0, 0.05, 0, 0.1, 0, 0, 0])],
)
def test_the_table_has_the_noise_that_was_put_in(pattern: str, added: list[float]) -> None:
    model = ModelConfig(latent=2, backbone=MLPConfig(hidden=()), likelihood=GaussianConfig(fit="trained"))
    noise = {"kind": "gaussian", "pattern": pattern, "variance": 0.1}
    config = TrainConfig.model_validate({"data": {"name": "digits", "noise": noise}, "model": model, "steps": 1})
    dataset = data.load(config.data)
    subject = Subject(config.model.build(dataset.shape), config, dataset, EvaluationPlan(limit=100))
    (table,) = partitions.findings(subject).tables
    assert [row[0] for row in table.rows] == list(partitions.GROUPS)
    assert [row[1] for row in table.rows] == pytest.approx(added)
    assert [row[2] for row in table.rows] == pytest.approx([1.0] * 9, rel=1e-5)  # sigma where it starts


@pytest.mark.parametrize("likelihood", [GaussianConfig(), CategoricalConfig()])
def test_nothing_is_fitted_where_sigma_is_fixed_or_is_none(likelihood: GaussianConfig | CategoricalConfig) -> None:
    assert not partitions.suits(subjects.digits(likelihood=likelihood, dtype="float32").config)
