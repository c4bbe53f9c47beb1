"""An evaluation in a folder: kept, gone on with, about the best checkpoint's weights, and no file is half there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors
import torch

from service.cli import local
from service.errors import ConflictError, StorageError, UsageError, VaesvcError
from service.kinds.evaluate import folder as folders
from service.kinds.evaluate.weights import load
from service.kinds.train.spec import resolve
from tests.command import start
from tests.servers import wait_for
from vae_models import data
from vae_models.data import Dataset, Split
from vae_models.evaluation import kept
from vae_models.training.checkpoint import load_model, read_manifest
from vae_models.training.context import LocalContext
from vae_models.training.loop import train

LIKELIHOOD: dict[str, Any] = {"evaluators": ["likelihood"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `vaesvc run` leaves it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    config = resolve("digits/beta-vae-mlp", ["epochs=3", "model.backbone.hidden=[16]"]).train
    train(config, LocalContext(folder))
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def value(summary: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for one in summary["findings"].values() for each in one["values"] if each["name"] == name]
    return dict(found)


def test_a_value_is_the_mean_over_the_split_of_the_best_checkpoint(run: Path) -> None:
    summary = folders.evaluated(run, LIKELIHOOD, "cpu")
    squared = value(summary, "squared_error")
    place = load(run).place
    model, config = load_model(place)
    test = data.load(config.data).test.x.float() / 255
    # at the posterior's own noise the two differ; the means over data agree within their errors
    with torch.no_grad():
        noise = {name: torch.randn(len(test), *spec.shape) for name, spec in model.noise().items()}
        mine = (model(test, noise).mean - test).square().flatten(1).mean(1)
    assert squared["count"] == len(test)
    assert squared["value"] == pytest.approx(float(mine.mean()), abs=4 * squared["error"])
    assert summary["model"]["place"] == str(place)


def test_the_best_checkpoint_is_by_the_runs_own_metric(run: Path) -> None:
    metrics = {path: read_manifest(path).metrics["val/elbo"] for path in (run / "checkpoints").glob("step-*")}
    assert load(run).place == max(metrics, key=lambda path: metrics[path])


def test_what_was_found_out_is_read_and_not_computed_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = folders.evaluated(run, LIKELIHOOD, "cpu")
    monkeypatch.setattr("vae_models.evaluation.subject.Subject.map", None)  # whoever computes needs it
    assert folders.evaluated(run, LIKELIHOOD, "cpu") == first
    assert json.loads((run / "evaluation/evaluation.json").read_text()) == first


def test_another_split_is_another_finding(run: Path) -> None:
    test, val = (folders.evaluated(run, LIKELIHOOD | {"split": split}, "cpu") for split in ("test", "val"))
    assert value(test, "elbo")["value"] != value(val, "elbo")["value"]
    assert len({*test["findings"], *val["findings"]}) == 2
    assert all((run / "evaluation" / key / "findings.json").is_file() for key in (*test["findings"], *val["findings"]))


def test_findings_about_other_weights_are_replaced(run: Path) -> None:
    first = folders.evaluated(run, LIKELIHOOD, "cpu")
    (key,) = first["findings"]
    path = run / "evaluation" / key / kept.ABOUT
    path.write_text(path.read_text().replace(first["model"]["manifest_sha256"], "0" * 64))
    (run / "evaluation" / key / "findings.json").write_text("{}")
    assert folders.evaluated(run, LIKELIHOOD, "cpu") == first
    assert first["model"]["manifest_sha256"] in path.read_text()


def test_a_finding_that_was_cut_off_is_found_out_again(run: Path) -> None:
    first = folders.evaluated(run, LIKELIHOOD, "cpu")
    (key,) = first["findings"]
    left = run / "evaluation" / f".{kept.SCRATCH}-killed" / key
    (run / "evaluation" / key).rename(left.parent.parent / "aside")
    left.mkdir(parents=True)
    assert folders.evaluated(run, LIKELIHOOD, "cpu") == first
    assert not left.exists()


def test_the_batches_are_no_part_of_the_result(run: Path) -> None:
    plans = ({"batch_size": 7}, {"batch_size": 512})
    one, other = (folders.evaluated(run, {"evaluators": ["likelihood"], **plan}, "cpu") for plan in plans)
    assert one["findings"] == other["findings"]  # the second is read
    shutil.rmtree(run / "evaluation")
    anew = folders.evaluated(run, LIKELIHOOD, "cpu")
    assert value(anew, "elbo")["value"] == pytest.approx(value(one, "elbo")["value"], rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"split": "tset"}, "split: tset is not allowed; allowed: train, val, test"),
        ({"evaluators": ["nothing"]}, "evaluators.0.kind: nothing is not allowed; allowed: .*likelihood"),
        ({"limit": 0}, "limit: 0 is not allowed"),
        ({"samplers": ["gmm-0x"]}, "samplers.0.kind: gmm-0x is not allowed; allowed: .*prior"),
    ],
)
def test_a_plan_that_cannot_be(run: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        folders.evaluated(run, fields, "cpu")
    assert not (run / "evaluation").exists()


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model: name the --out of `vaesvc run`"):
        folders.evaluated(tmp_path, {}, "cpu")


def test_weights_that_were_altered(run: Path) -> None:
    for path in (run / "checkpoints").glob("step-*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(StorageError, match="is not what was stored"):
        folders.evaluated(run, LIKELIHOOD, "cpu")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_is_ended_between_two_evaluators_goes_on(run: Path, how: signal.Signals) -> None:
    """The first one's findings stay as they are, and the second's are those of an evaluation that was not ended."""
    slow = {"kind": "nll", "samples": 8_000}  # longer than it takes to look
    process = start(
        dict(os.environ), "evaluate", str(run), "--evaluator", "likelihood", "--evaluator", json.dumps(slow)
    )
    try:
        wait_for(lambda: any((run / "evaluation").glob("likelihood-*/findings.json")), 60, "no evaluator is done")
        process.send_signal(how)
        said = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == (-how if how is signal.SIGKILL else 130), said
    assert how is signal.SIGKILL or "Stopped: what was found out is kept. The same command goes on." in said
    assert not (run / "evaluation/evaluation.json").exists()
    (first,) = (run / "evaluation").glob("likelihood-*/findings.json")
    before = first.stat().st_mtime_ns
    plan = {"evaluators": ["likelihood", {"kind": "nll", "samples": 50}]}
    resumed = folders.evaluated(run, plan, "cpu")
    assert first.stat().st_mtime_ns == before
    shutil.rmtree(run / "evaluation")
    assert folders.evaluated(run, plan, "cpu") == resumed


def test_an_empty_split_is_told_once_and_nothing_is_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = data.load

    def without_test(*arguments: Any, **more: Any) -> Dataset:
        found = whole(*arguments, **more)
        return dataclasses.replace(found, test=Split(x=found.test.x[:0]))

    monkeypatch.setattr("vae_models.data.load", without_test)
    with pytest.raises(UsageError, match="the test split of digits is empty: name another split"):
        folders.evaluated(run, {}, "cpu")
    assert not any((run / "evaluation").glob("*/findings.json"))


def test_a_value_that_is_no_number_is_told_and_not_kept(run: Path) -> None:
    """Weights that became infinite, with the sums of their files: whole, and of no use."""
    place = load(run).place
    tensors = safetensors.load_file(place / "model.safetensors")
    broken = {name: torch.full_like(tensor, float("inf")) for name, tensor in tensors.items()}
    safetensors.save_file(broken, place / "model.safetensors")
    manifest = json.loads((place / "manifest.json").read_text())
    content = (place / "model.safetensors").read_bytes()
    manifest["files"]["model.safetensors"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (place / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(VaesvcError, match=r"elbo is nan .* is not finite itself"):
        folders.evaluated(run, LIKELIHOOD, "cpu")
    assert not any((run / "evaluation").glob("*/findings.json"))


def test_two_at_once_in_a_folder_are_one(run: Path) -> None:
    with (
        local.own_folder(run / "evaluation"),
        pytest.raises(ConflictError, match="another `vaesvc evaluate` is at work"),
    ):
        folders.evaluated(run, LIKELIHOOD, "cpu")
