"""A trained model in use: every part of the models, folders, what is refused, batches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests import catalogue, subjects, trained_models
from tests.unit.models import strangers
from vae_models.evaluation.drawing import drawn
from vae_models.evaluation.fitting.fit import fit
from vae_models.evaluation.interpolation import ways
from vae_models.evaluation.interpolation.specs import InterpolationEvaluation
from vae_models.metrics import paths
from vae_models.samplers.specs import MixtureConfig, PriorSamplerConfig
from vae_models.trained import Trained
from vae_models.trained import model as trained
from vae_models.training.errors import CheckpointError, CorruptCheckpoint, IncompatibleCheckpoint

SETTINGS = {"data": {"name": "digits"}, "steps": 1, "dtype": "float64"}


def of_parts(name: str) -> tuple[Trained, np.ndarray[Any, Any]]:
    """An untrained model of the catalogue, and data of it."""
    config, shape = catalogue.MODELS[name]
    run = catalogue.train_config("elbo", trained_models.config_of().model, dtype="float64")
    told = run.model_copy(update={"model": config})
    return Trained(catalogue.build(name), told, shape), catalogue.inputs(name)[0].numpy()


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_every_part_is_used(name: str) -> None:
    model, x = of_parts(name)
    made = model.reconstruct(x)
    encoded = model.encode(x)
    assert made.shape == x.shape
    np.testing.assert_array_equal(model.decode(encoded.mean), made)
    assert (encoded.std is None) == (not model.model.bound)
    assert model.sample(3).shape == (3, *model.shape)
    assert np.isfinite(model.sample(3)).all()
    scores = model.score(x, samples=3)
    assert set(scores) == ({"elbo", "nll", "rate", "distortion"} if model.model.bound else {"distortion"})
    assert all(np.isfinite(values).all() and values.shape == (len(x),) for values in scores.values())
    if not model.model.sampled:
        with pytest.raises(ValueError, match="means can"):
            model.sample(3, form="samples")


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = of_parts("mlp-relu/bernoulli/vhp/diagonal-normal")
    x = np.concatenate([x] * 30)

    def results() -> list[Any]:
        walk = model.traverse(x, top=2, steps=3)
        return [model.reconstruct(x), *model.encode(x), model.sample(100, seed=1), walk.dimensions, walk.means]

    whole = results()
    monkeypatch.setattr(trained, "BATCH", 7)
    for found, expected in zip(results(), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_samples_are_those_of_an_evaluation() -> None:
    """A report's samples can be drawn again by their seed."""
    subject = subjects.digits(seed=3)
    model = Trained(subject.module, subject.config, subject.dataset.shape)
    for form in ("means", "samples"):
        expected = drawn(subject, PriorSamplerConfig(), 70, form=form, temperature=0.7)  # type: ignore[arg-type]
        np.testing.assert_allclose(model.sample(70, seed=3, temperature=0.7, form=form), expected, rtol=1e-12)


def test_tensors_are_answered_with_tensors() -> None:
    model, x = of_parts("mlp-relu/bernoulli/standard-normal/diagonal-normal")
    given = torch.from_numpy(x)
    for made, expected in (
        (model.encode(given).std, model.encode(x).std),
        (model.reconstruct(given), model.predict(x)),
    ):
        assert isinstance(made, torch.Tensor)
        assert isinstance(expected, np.ndarray)
        np.testing.assert_array_equal(made.numpy(), expected)
    z = model.encode(given).mean.requires_grad_()  # nothing of inference mode is left in it
    z.square().sum().backward()
    assert z.grad is not None


def test_none_are_none() -> None:
    model, x = of_parts("mlp-relu/bernoulli/standard-normal/diagonal-normal")
    none = x[:0]
    assert model.reconstruct(none).shape == none.shape
    assert model.encode(none).mean.shape == (0, catalogue.LATENT)
    assert model.score(none)["nll"].shape == (0,)
    assert model.sample(0).shape == none.shape
    assert model.interpolate(none, none, steps=4).shape == (0, 4, *model.shape)
    with pytest.raises(ValueError, match="no data given"):
        model.traverse(none)


def test_a_multi_rate_model_is_asked_at_beta() -> None:
    gating, backbone, shape = catalogue.GATINGS["affine"]
    model = trained_models.config_of().model.model_copy(update={"gating": gating, "backbone": backbone, "latent": 3})
    config = catalogue.train_config("elbo", trained_models.config_of().model, dtype="float64")
    built = model.build(shape).double()
    used = Trained(built, config.model_copy(update={"model": model}), shape)
    x = np.random.default_rng(0).random((4, *shape))
    for beta in (0.1, 1.0, 5.0):
        gates = torch.tensor(beta, dtype=torch.float64)
        expected = built(torch.from_numpy(x), {"z": torch.zeros(4, 3).double()}, gates).mean
        np.testing.assert_allclose(used.reconstruct(x, beta=beta), expected.detach(), rtol=1e-12)
    np.testing.assert_array_equal(used.reconstruct(x), used.reconstruct(x, beta=1.0))
    assert np.abs(used.sample(3, beta=0.1) - used.sample(3, beta=9.0)).max() > 1e-6
    with pytest.raises(ValueError, match=r"beta 11\.0 given: it is a number from 0\.01 to 10"):
        used.encode(x, beta=11.0)


def test_a_model_of_several_latents_is_reconstructed_sampled_and_scored() -> None:
    config = strangers.LadderConfig()
    run = trained_models.config_of()
    model = Trained(config.build((1, 2, 3)), run.model_copy(update={"model": config}), (1, 2, 3))
    x = np.random.default_rng(0).random((5, 6), dtype=np.float32)
    assert model.reconstruct(x).shape == model.sample(5).shape == (5, 1, 2, 3)
    assert np.isfinite(model.score(x, samples=3)["nll"]).all()
    assert np.isfinite(model.score(x, samples=1)["nll"]).all()
    with pytest.raises(ValueError, match="needs a model of one latent vector, and ladder has"):
        model.encode(x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: m.score(x, samples=0), "samples 0 given: it is a whole number from 1"),
        (lambda m, x: m.score(x, lengths=[1] * len(x)), "all have one length: leave them out"),
        (lambda m, x: m.sample(-1), "n -1 given"),
        (lambda m, x: m.sample(2, seed=-1), "seed -1 given"),
        (lambda m, x: m.sample(2, temperature=float("nan")), "temperature nan given"),
        (lambda m, x: m.sample(2, sampler="gmm"), "sampler 'gmm' given: it is one of prior"),
        (lambda m, x: m.sample(2, form="pixels"), "form 'pixels' given: it is one of means, samples, latents"),
        (lambda m, x: m.interpolate(x, x[:1]), "4 data to start from and 1 to go to"),
        (lambda m, x: m.interpolate(x, x, steps=1), "steps 1 given: it is a whole number from 2"),
        (lambda m, x: m.interpolate(x, x, how="magic"), "how 'magic' given: it is one of linear, slerp, graph"),
        (lambda m, x: m.traverse(x, dimensions=[3]), "dimension 3 given: it is a whole number from 0 to 2"),
        (lambda m, x: m.decode(np.full((1, 3), np.nan)), "NaN or infinite values given: this model's decoder"),
        (lambda m, x: m.predict(x, {"task": "dream"}), "task 'dream' given: it is one of reconstruct, encode"),
        (lambda m, x: m.predict(x, {"smaples": 3}), "params has 'smaples', which is none: there are task, count"),
        (lambda m, x: m.predict(x[:3], {"task": "interpolate"}), "3 data given: interpolate takes pairs"),
    ],
)
def test_settings_that_are_none_are_refused_with_what_is_taken(call: Any, words: str) -> None:
    model, x = of_parts("mlp-relu/bernoulli/standard-normal/diagonal-normal")
    with pytest.raises(ValueError, match=words):
        call(model, x)


# --- folders --------------------------------------------------------------------------------------------------------


def test_of_a_run_the_best_checkpoint_is_taken(tmp_path: Path) -> None:
    """By the run's own goal; one between evaluations has no value and is never the best."""
    config = trained_models.config_of()
    for step, metrics in ((10, {"val/elbo": -20.0}), (20, {"val/elbo": -10.0}), (30, {"val/elbo": -15.0}), (40, {})):
        trained_models.checkpoint(tmp_path / "checkpoints" / f"step-{step:010d}", config, step=step, metrics=metrics)
    (tmp_path / "checkpoints" / "step-0000000050").mkdir()  # one that was not written to its end
    best, last = Trained.load(tmp_path), Trained.load(tmp_path, which="last")
    assert best.origin is not None
    assert last.origin is not None
    assert (best.origin.step, best.origin.metrics) == (20, {"val/elbo": -10.0})
    assert last.origin.step == 40


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no model: it has no manifest\.json\. Give a folder that"):
        Trained.load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="has no whole checkpoint"):
        Trained.load(tmp_path)


def rewritten(folder: Path, change: Any) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["files"].update({"../other": {"sha256": "0"}}), "names '../other', which is no file of its"),
        (lambda m: m["files"].pop("model.safetensors"), "does not list model.safetensors"),
        (lambda m: m["files"].update({"gone": {"sha256": "0"}}), "gone cannot be read"),
        (lambda m: m["files"]["config.json"].update(sha256="0" * 64), "config.json is not what was stored: expected"),
        (lambda m: m.pop("files"), "is no manifest of a model"),
        (lambda m: m.pop("step"), "is damaged: KeyError"),
    ],
)
def test_what_was_altered_is_not_loaded(tmp_path: Path, change: Any, words: str) -> None:
    folder = trained_models.pulled(tmp_path / "model", trained_models.config_of())
    rewritten(folder, change)
    with pytest.raises(CorruptCheckpoint, match=words):
        Trained.load(folder)


def test_another_format_is_said(tmp_path: Path) -> None:
    folder = trained_models.pulled(tmp_path / "model", trained_models.config_of())
    rewritten(folder, lambda m: m.update(format=2))
    with pytest.raises(IncompatibleCheckpoint, match="has format 2; this version reads format 1"):
        Trained.load(folder)


def test_it_takes_torch_alone(tmp_path: Path) -> None:
    """Neither the service nor MLflow, nor pandas or matplotlib."""
    folder = trained_models.pulled(tmp_path / "model", trained_models.config_of())
    code = (
        "import sys\nfrom vae_models.trained import params\nassert 'torch' not in sys.modules\n"
        "from vae_models.trained import Trained\n"
        f"model = Trained.load({str(folder)!r})\n"
        "print(model.sample(2).shape, model.score(model.sample(2))['nll'].shape)\n"
        "print(sorted({'service', 'mlflow', 'ray', 'boto3', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["(2, 1, 8, 8) (2,)", "[]"], done.stderr


def test_a_strangers_module_is_taken_into_evaluation() -> None:
    """A model in training mode would use the statistics of its batch."""
    model, _ = of_parts("conv-28/bernoulli/standard-normal/diagonal-normal")
    assert not any(module.training for module in model.model.modules() if isinstance(module, nn.Module))


def test_latents_are_those_of_the_samples() -> None:
    model, _ = of_parts("mlp-relu/bernoulli/vhp/diagonal-normal")
    told = {"seed": 4, "temperature": 0.6}
    z = model.sample(9, form="latents", **told)
    assert z.shape == (9, catalogue.LATENT)
    np.testing.assert_allclose(model.decode(z), model.sample(9, **told), rtol=1e-12)


def test_ways_over_a_graph_are_the_evaluators() -> None:
    """By the same nodes: those drawn by the seed."""
    subject = subjects.digits(seed=3, limit=12)
    model = Trained(subject.module, subject.config, subject.dataset.shape)
    spec = InterpolationEvaluation(pairs=3)
    x = np.asarray(subject.dataset.test.x[:12]) / 255
    starts, ends = ways.pairs(subject, 3)
    means = model.encode(x).mean
    numbers = [[int(np.abs(means - z.numpy()).sum(1).argmin()) for z in side] for side in (starts, ends)]
    drawn_nodes = torch.from_numpy(model.sample(spec.nodes, form="latents", seed=3))
    points, found = ways._shortest(subject, spec, drawn_nodes, starts, ends)
    expected = [paths.spaced(points[list(way.points)], 6) for way in found if way is not None]
    made = model.interpolate(x[numbers[0]], x[numbers[1]], steps=6, how="graph", seed=3)
    np.testing.assert_allclose(made, model.decode(torch.cat(expected)).numpy().reshape(made.shape), rtol=1e-9)
    np.testing.assert_allclose(made[:, [0, -1]], np.stack([model.reconstruct(x[n]) for n in numbers], 1), rtol=1e-9)


def test_no_graph_of_a_prior_that_was_not_fitted() -> None:
    model, x = of_parts("mlp-relu/bernoulli/standard-normal/delta")
    with pytest.raises(ValueError, match="how 'graph' given, and no prior was fitted to what a deterministic encoder"):
        model.interpolate(x, x, how="graph")


def test_a_sampler_of_other_weights_is_refused(tmp_path: Path) -> None:
    """Fitted beside one run, carried to another."""
    subject = subjects.digits(limit=200)
    fitted = fit(subject, MixtureConfig(components=2))
    folder = trained_models.run(tmp_path / "run", trained_models.config_of())
    fitted.save(folder / "samplers")
    model = Trained.load(folder)
    assert model.samplers == ("prior", "readjusted", "gmm-2")
    with pytest.raises(ValueError, match="the sampler gmm-2 was fitted to a model with the weights"):
        model.sample(3, sampler="gmm-2")
