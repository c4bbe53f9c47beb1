"""Samplers fitted to a model: the same on any number of workers, stored beside the model, and refused by another."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor

from tests import gangs, subjects
from vae_models.config.run import EvaluationConfig
from vae_models.evaluation.drawing import drawn, latents
from vae_models.evaluation.findings import Findings, NotFinite, read
from vae_models.evaluation.fitting.fit import fit, law_of
from vae_models.evaluation.fitting.fitted import Fitted, UnfitSampler, fitted_in, packed, unpacked
from vae_models.evaluation.fitting.specs import SamplersEvaluation
from vae_models.evaluation.kept import FolderKept
from vae_models.evaluation.run import evaluate
from vae_models.evaluation.specs import EvaluationPlan, chosen
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.open_union import foreign_allowed
from vae_models.samplers.specs import FittedSamplerSpec, MixtureConfig, PriorSamplerConfig, SecondStageConfig
from vae_models.topologies.vae.specs import GatingConfig
from vae_models.trained import Trained
from vae_models.training.context import LocalContext
from vae_models.training.loop import train

COUNT = 150
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
SAMPLERS: dict[str, FittedSamplerSpec] = {
    "gmm-3": MixtureConfig(components=3),
    "second-stage": SecondStageConfig(width=16, layers=2, steps=60, batch_size=65),
}
TENSORS = {"gmm-3": {"weights", "means", "factors"}, "second-stage": {"likelihood.raw_log_sigma"}}


def _found(subject: Subject, sampler: FittedSamplerSpec) -> dict[str, Tensor]:
    name = sampler.called()
    tensors = {key: value for key, value in fit(subject, sampler).tensors.items() if key in TENSORS[name]}
    return {**tensors, "samples": drawn(subject, sampler, COUNT, form="samples")}


def _work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    found = {
        f"{name}/{key}": value
        for name, sampler in SAMPLERS.items()
        for key, value in _found(subjects.digits(batch_size=100), sampler).items()
    }
    try:
        fit(subjects.digits(), MixtureConfig(components=2, regularization=0, data=5))
    except Inapplicable as error:
        found["refused"] = torch.tensor(len(str(error)))
    torch.save(found, folder / f"found-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def gang(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("gang")
    gangs.run(_work, (2, folder), 2)
    return [torch.load(folder / f"found-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_two_workers_fit_and_draw_what_one_does(gang: list[dict[str, Tensor]], name: str) -> None:
    alone = _found(subjects.digits(), SAMPLERS[name])
    for worker in gang:
        assert worker["refused"] > 0
        for key, value in alone.items():
            torch.testing.assert_close(worker[f"{name}/{key}"], value, **CLOSE)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_fitted_once_and_its_samples_are_the_models_of_its_z(name: str) -> None:
    subject, sampler = subjects.digits(), SAMPLERS[name]
    assert fit(subject, sampler) is fit(subject, sampler)
    z, means = latents(subject, sampler, COUNT), drawn(subject, sampler, COUNT)
    torch.testing.assert_close(means, subject.space.decode(z), **CLOSE)
    residual = drawn(subject, sampler, COUNT, form="samples") - means
    assert residual.std().item() == pytest.approx(0.1, rel=0.03)  # the likelihood's sigma
    assert not torch.allclose(z, latents(subject, PriorSamplerConfig(), COUNT))


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_was_fitted_is_stored_and_makes_the_same_samples(name: str, tmp_path: Path) -> None:
    subject, sampler = subjects.digits(), SAMPLERS[name]
    fitted = fit(subject, sampler)
    folder = fitted.save(tmp_path / "samplers")
    fitted.save(tmp_path / "samplers")  # again, in place of the first
    assert fitted_in(tmp_path / "samplers") == {name: folder}
    Findings(tensors=packed(fitted)).write(tmp_path / "findings")
    (kept,) = unpacked(read(tmp_path / "findings").tensors).values()  # type: ignore[union-attr]
    expected = latents(subject, sampler, COUNT)
    for stored in (Fitted.load(folder), kept):
        assert (stored.sampler, stored.beta, stored.seed) == (sampler, None, 0)
        assert stored.count == len(subject.dataset.train)
        law = stored.check(subject.module).law()
        noise = subject.draw(law.noise(subject.model), COUNT, stream="samples")
        torch.testing.assert_close(law.z(subject.model, noise), expected, **CLOSE)


def test_another_models_sampler_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    subject, sampler = subjects.digits(), SAMPLERS["gmm-3"]
    folder = fit(subject, sampler).save(tmp_path)
    with torch.no_grad():
        next(subject.module.parameters()).add_(1e-9)
    with pytest.raises(UnfitSampler, match=r"gmm-3 was fitted to a model with the weights .*: fit it to this model"):
        Fitted.load(folder).check(subject.module)
    data, about = folder / "sampler.safetensors", folder / "sampler.json"
    whole, text = data.read_bytes(), json.loads(about.read_text())
    data.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UnfitSampler, match="is not what was written"):
        Fitted.load(folder)
    data.write_bytes(whole)
    for wrong, said in (
        ({"format": 2}, "has format 2; this version reads format 1"),
        ({"sampler": {"kind": "prior"}}, "the sampler prior, which is not fitted"),
        ({"sampler": {"kind": "unheard-of"}}, "is damaged, or of another version"),
    ):
        about.write_text(json.dumps({**text, **wrong}))
        with pytest.raises(UnfitSampler, match=said):
            Fitted.load(folder)
    about.write_text("{")
    with pytest.raises(UnfitSampler, match="is not JSON"):
        Fitted.load(folder)
    about.unlink()
    with pytest.raises(UnfitSampler, match=r"has no sampler\.json"):
        Fitted.load(folder)


def test_each_beta_has_a_fit_of_its_own() -> None:
    subject, sampler = subjects.digits(gating=GatingConfig()), SAMPLERS["gmm-3"]
    at_one, at_two = fit(subject, sampler), fit(subject, sampler, beta=2.0)
    assert (at_one.beta, at_two.beta) == (None, 2.0)
    assert not torch.allclose(at_one.tensors["means"], at_two.tensors["means"])
    z, gates = latents(subject, sampler, 5, beta=2.0), subject.gates(2.0)
    torch.testing.assert_close(drawn(subject, sampler, 5, beta=2.0), subject.space.decode(z, gates), **CLOSE)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_fit_in_the_folder_is_taken_where_it_is_the_same(name: str, tmp_path: Path) -> None:
    heard: list[str] = []

    def listening(**plan: object) -> Subject:
        own = subjects.digits(**plan)
        heard.clear()
        return Subject(
            own.module, own.config, own.dataset, own.plan, samplers=tmp_path, tick=lambda what, *_: heard.append(what)
        )

    first = fit(listening(), SAMPLERS[name])
    assert "encoding" in heard
    again = fit(listening(), SAMPLERS[name])
    assert not heard  # neither data were encoded, nor anything fitted
    assert all(torch.equal(first.tensors[key], again.tensors[key]) for key in first.tensors)
    for plan in ({"seed": 1}, {"limit": 200}):
        assert fit(listening(**plan), SAMPLERS[name]).about() != first.about()
        assert "encoding" in heard
        assert Fitted.load(tmp_path / name).about() == fit(listening(**plan), SAMPLERS[name]).about()  # in its place


def test_what_an_earlier_attempt_has_fitted_is_not_fitted_again(tmp_path: Path) -> None:
    """The second attempt finds the samplers' findings, and draws by them for what the first did not come to."""
    plan = {"samplers": [sampler.model_dump() for sampler in SAMPLERS.values()], "evaluators": [{"kind": "samplers"}]}
    subject = subjects.digits(**plan)
    kept = FolderKept(tmp_path, weights="w", plan=subject.plan, evaluators=chosen(subject.plan, subject.config))
    (found,) = evaluate(subject, kept=kept).values()
    heard: list[str] = []
    later = Subject(
        subject.module, subject.config, subject.dataset, subject.plan, tick=lambda what, *_: heard.append(what)
    )
    (again,) = evaluate(later, kept=kept).values()
    assert again.values == found.values
    for name, sampler in SAMPLERS.items():
        torch.testing.assert_close(latents(later, sampler, 9), latents(subject, sampler, 9), **CLOSE)
        assert fit(later, sampler).tensors.keys() == unpacked(found.tensors)[name].tensors.keys()
    assert not [what for what in heard if what.startswith(("fitting", "encoding"))]


def test_a_model_in_use_samples_by_what_was_fitted_to_it(tmp_path: Path) -> None:
    config = subjects.digits(dtype="float32").config
    train(config, LocalContext(tmp_path))
    trained = Trained.load(tmp_path)
    subject = Subject(trained.model, config, subjects.digits().dataset, samplers=tmp_path / "samplers")
    for name, sampler in SAMPLERS.items():
        assert name not in trained.samplers
        with pytest.raises(ValueError, match=name):
            trained.sample(3, sampler=name)
        fit(subject, sampler)
        trained = Trained.load(tmp_path)
        for form in ("means", "samples"):
            theirs = trained.sample(70, sampler=name, form=form, temperature=0.7)
            ours = drawn(subject, sampler, 70, form=form, temperature=0.7)  # type: ignore[arg-type]
            torch.testing.assert_close(torch.from_numpy(theirs), ours, rtol=1e-4, atol=1e-5)
    assert trained.samplers == ("prior", "readjusted", "gmm-3", "second-stage")


def test_a_sampler_of_another_beta_is_refused_in_use(tmp_path: Path) -> None:
    subject = subjects.digits(gating=GatingConfig())
    config = subject.config
    train(config, LocalContext(tmp_path))
    trained = Trained.load(tmp_path)
    subject = Subject(trained.model, config, subject.dataset, samplers=tmp_path / "samplers")
    fit(subject, SAMPLERS["gmm-3"], beta=2.0)
    trained = Trained.load(tmp_path)
    assert trained.sample(3, sampler="gmm-3-beta_2", beta=2.0).shape == (3, 1, 8, 8)
    with pytest.raises(ValueError, match="was fitted at beta 2: ask for samples at this beta"):
        trained.sample(3, sampler="gmm-3-beta_2")


def test_too_few_data_are_named_before_anything_is_kept() -> None:
    subject = subjects.digits(limit=20, samplers=[{"kind": "gmm", "components": 5}])
    with pytest.raises(Inapplicable, match=r"gmm-5 cannot be fitted: .* need at least 25 data, .* there are 20"):
        SamplersEvaluation().build()(subject)


@pytest.mark.parametrize("name", SAMPLERS)
def test_posteriors_that_are_not_finite_are_named(name: str) -> None:
    subject = subjects.digits()
    with torch.no_grad():
        subject.module.backbone.heads.mean.bias[0] = math.nan  # type: ignore[union-attr, index]
    with pytest.raises(NotFinite, match=r"the posterior of 1,297 of 1,297 data is not finite"):
        fit(subject, SAMPLERS[name])


def test_the_evaluator_says_how_likely_latents_are_and_keeps_the_fit() -> None:
    subject = subjects.digits(samplers=[{"kind": "prior"}, {"kind": "gmm", "components": 3}])
    found = SamplersEvaluation(shown=20).build()(subject)
    values = {value.name: value for value in found.values}
    held_out, trained_on = (subject.posteriors(split).mean for split in ("test", "train"))
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(held_out).sum(1)
    assert values["latent_log_density/prior"].value == pytest.approx(standard.mean().item(), rel=1e-12)
    assert values["latent_log_density/prior"].error == pytest.approx(standard.std().item() / len(standard) ** 0.5)
    law = law_of(subject, SAMPLERS["gmm-3"])
    for name, z in (("latent_log_density/gmm-3", held_out), ("latent_log_density_train/gmm-3", trained_on)):
        assert values[name].value == pytest.approx(law.log_prob(subject.model, z, {}).mean().item(), rel=1e-12)  # type: ignore[attr-defined]
        assert values[name].value > values["latent_log_density/prior"].value + 1
    draws = values["latent_log_density_of_draws/prior"]
    posteriors = subject.posteriors("test")
    expected = -(posteriors.mean.square() + (2 * posteriors.log_std).exp() + math.log(2 * math.pi)).sum(1) / 2  # type: ignore[operator]
    assert draws.error is not None
    assert draws.value == pytest.approx(expected.mean().item(), abs=4 * draws.error)
    assert set(values) == {
        f"latent_log_density{kind}"
        for kind in ("/prior", "_of_draws/prior", "/gmm-3", "_train/gmm-3", "_of_draws/gmm-3")
    }
    assert [picture.name for picture in found.pictures] == [
        "means/prior", "samples/prior", "means/gmm-3", "samples/gmm-3",
    ]  # fmt: skip
    assert set(unpacked(found.tensors)) == {"gmm-3"}


def test_pictures_of_a_training_need_a_sampler_without_a_fit() -> None:
    with pytest.raises(ValidationError, match=r"sampler gmm is fitted to a trained model, .* choose prior"):
        EvaluationConfig.model_validate({"sampler": {"kind": "gmm"}})
    with pytest.raises(ValueError, match="the sampler gmm-10 is fitted to a trained model"):
        MixtureConfig().build()


def test_samplers_of_a_plan_have_names_of_their_own() -> None:
    two = [{"kind": "gmm"}, {"kind": "gmm", "data": 500}]
    assert [sampler.called() for sampler in EvaluationPlan.model_validate({"samplers": two}).samplers] == [
        "gmm-10", "gmm-10-of-500",
    ]  # fmt: skip
    with pytest.raises(ValidationError, match="gmm-10 is there twice"):
        EvaluationPlan.model_validate({"samplers": [*two, {"kind": "gmm", "tolerance": 1e-4}]})


def test_samplers_of_a_package_that_is_not_here_are_kept_as_they_are() -> None:
    """As the API does with a job's own code."""
    foreign = {"kind": "unheard-of", "sharpness": 2}
    with foreign_allowed():
        evaluation = EvaluationConfig.model_validate({"sampler": foreign})
        plan = EvaluationPlan.model_validate({"samplers": [foreign, {"kind": "prior"}]})
    assert evaluation.model_dump()["sampler"] == plan.model_dump()["samplers"][0] == foreign
    with pytest.raises(ValidationError, match="unheard-of"):
        EvaluationPlan.model_validate({"samplers": [foreign]})
