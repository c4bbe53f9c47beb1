"""Which model an evaluation means: looked up in a real queue and a real bucket, verified, and the asker's to see."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service import kinds
from service.artifacts import Artifacts
from service.errors import NotFoundError, UntrustedError, UsageError, VaesvcError
from service.kinds.evaluate.ray_run import _history
from service.kinds.evaluate.spec import Evaluated, EvaluateSpec
from service.kinds.house import House
from service.queue.jobs import Checkpoint, Job
from service.wire import FinishRequest, ProgressReport
from tests.registered import Shelf, checkpoint_folder, shelf
from vae_models.config.train import TrainConfig


@pytest.fixture
def store(tmp_path: Path, artifacts: Artifacts) -> Shelf:
    return shelf(tmp_path, artifacts, None)


def house(store: Shelf, *, hidden: tuple[str, ...] = ()) -> House:
    return House(
        store=store.store, artifacts=store.artifacts, models=store.models, sees=lambda job_id: job_id not in hidden
    )


def settled(store: Shelf, of: str, *, hidden: tuple[str, ...] = (), **fields: Any) -> EvaluateSpec:
    spec = kinds.settled(kinds.resolve({"kind": "evaluate", "of": of, **fields}), house(store, hidden=hidden))
    assert isinstance(spec, EvaluateSpec)
    return spec


def over(store: Shelf, job: Job) -> Job:
    return store.store.finish(job.id, 1, FinishRequest(runner_id="r", outcome="succeeded"))


def committed(store: Shelf, job: Job, step: int = 5, **metrics: float) -> Checkpoint:
    """A checkpoint with these metrics, whose names begin with a split and a _ in place of the /."""
    folder = checkpoint_folder(store.folder / f"{job.id}-{step}", job)
    named = {name.replace("_", "/", 1): value for name, value in metrics.items()}
    return store.checkpoint(job, folder, step=step, **named)


def model(spec: EvaluateSpec) -> Evaluated:
    assert spec.model is not None
    return spec.model


def test_a_job_means_its_best_checkpoint_by_its_own_metric(store: Shelf) -> None:
    job = store.job("m")
    best = committed(store, job, step=5, val_elbo=-90.0, test_elbo=-99.0)
    committed(store, job, step=6, val_elbo=-91.0, test_elbo=-1.0)  # by the test split this one would be
    over(store, job)
    spec = settled(store, job.id)
    assert model(spec) == Evaluated(job=job.id, uri=best.uri, manifest_sha256=best.manifest_sha256, step=5)
    assert spec.train == TrainConfig.model_validate(job.spec["train"])
    assert settled(store, job.id) == spec
    # written exactly, it is taken by its word, also when the job has come to another model
    assert settled(store, "anything", model=model(spec).model_dump()).model == spec.model


class Notes:
    """What an attempt is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_the_run_that_trained_it_is_named_for_pictures_of_the_training(store: Shelf) -> None:
    """Where MLflow does not tell of it, there are none, and that is said."""
    job = store.job("m")
    committed(store, job, val_elbo=-90.0)
    store.store.progress(job.id, 1, ProgressReport(progress={}, run_id="r-1"))
    over(store, job)
    found = model(settled(store, job.id))
    assert found.run == "r-1"
    assert model(settled(store, "anything", model=found.model_dump() | {"run": "another"})).run == "r-1"
    order, notes = SimpleNamespace(context=SimpleNamespace(mlflow_uri="http://127.0.0.1:9")), Notes()
    assert _history(order, found, notes) == {}  # type: ignore[arg-type]
    assert notes.said[0].startswith("no pictures of the training: could not read run r-1 in MLflow")


def test_a_version_means_the_files_that_were_signed(store: Shelf) -> None:
    worse, better = (store.registered("m", value) for value in (-90.0, -80.0))
    found = {of: model(settled(store, of)) for of in ("m", "m@best", "m/1", "models:/m/2")}
    assert [found[of].version for of in found] == [2, 2, 1, 2]
    assert (found["m"].job, found["m/1"].job) == (better.job_id, worse.job_id)
    assert found["m/1"].uri == worse.source
    manifest = json.loads(store.artifacts.get_bytes(f"{found['m'].uri}/manifest.json"))
    assert {"model.safetensors", "config.json"} <= set(manifest["files"])


def test_an_address_means_a_checkpoint_that_is_kept(store: Shelf) -> None:
    job = store.job("m")
    kept = committed(store, job, val_elbo=-90.0)
    assert model(settled(store, kept.uri)).manifest_sha256 == kept.manifest_sha256  # also of a job that runs
    with pytest.raises(NotFoundError, match="keeps no checkpoint at"):
        settled(store, store.artifacts.uri("checkpoints", job.id, "7"))


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ("nobody@best", "no registered model 'nobody'; there are: m"),
        ("m/7", "has no version 7; it has versions 1 @best"),
        ("m@worst", "there is no alias 'worst'"),
        ("j-0000000000000", "no job 'j-0000000000000'"),
        ("s3://elsewhere/checkpoints/5", "is no address of a checkpoint"),
        ("a b", "names no model: it looks like NAME, NAME@best or NAME/3"),
    ],
)
def test_what_there_is_not(store: Shelf, of: str, said: str) -> None:
    store.registered("m", -90.0)
    with pytest.raises(VaesvcError, match=said) as error:
        settled(store, of)
    assert error.value.exit_code == 2


def test_a_job_that_runs_has_no_model_yet_and_one_without_checkpoints_none(store: Shelf) -> None:
    job = store.job("m")
    with pytest.raises(UsageError, match="is RUNNING: its model is chosen when it is over"):
        settled(store, job.id)
    over(store, job)
    with pytest.raises(UsageError, match="a training run, has no model to evaluate"):
        settled(store, job.id)
    with pytest.raises(NotFoundError, match="has no trained model 'stage/1'; there are: none"):
        settled(store, f"{job.id}/stage/1")


def test_anothers_job_and_model_are_as_if_they_were_not(store: Shelf) -> None:
    version = store.registered("m", -90.0)
    job_id = str(version.job_id)
    exactly = model(settled(store, "m")).model_dump()
    unknown = r"no (job|registered model)"
    for of in ("m", "m/1", job_id):
        with pytest.raises(NotFoundError, match=unknown):
            settled(store, of, hidden=(job_id,))
    with pytest.raises(NotFoundError, match="no job"):
        settled(store, "mine", hidden=(job_id,), model=exactly)


def test_what_is_written_exactly_lies_where_the_job_may_write(store: Shelf, artifacts: Artifacts) -> None:
    mine, theirs = store.job("m"), store.job("n")
    kept = committed(store, theirs, val_elbo=-90.0)
    committed(store, mine, val_elbo=-90.0)
    honest = {"job": theirs.id, "uri": kept.uri, "manifest_sha256": kept.manifest_sha256, "step": 5}
    assert model(settled(store, "x", model=honest)).uri == kept.uri
    for wrong, said in (
        ({"job": mine.id}, "is not below"),
        ({"uri": "s3://elsewhere/checkpoints/5"}, "is not below"),
        ({"uri": f"{kept.uri.rstrip('/')}/../../{mine.id}/5"}, "is not below"),
        ({"manifest_sha256": "0" * 64}, "has the SHA-256"),
        ({"name": "m", "version": 1}, "no registered model"),
    ):
        with pytest.raises(VaesvcError, match=said):
            settled(store, "x", model=honest | wrong)


def test_a_version_that_was_altered_is_refused(store: Shelf, artifacts: Artifacts) -> None:
    version = store.registered("m", -90.0)
    address = f"{version.source}/config.json"
    config = json.loads(artifacts.get_bytes(address))
    artifacts.put_bytes(address, json.dumps(config | {"seed": 1}).encode())
    with pytest.raises(UntrustedError, match=r"config.json is not what its manifest.json says"):
        settled(store, "m")
    exactly = {"job": version.job_id, "name": "m", "version": 1, "uri": str(version.source), "step": 5}
    with pytest.raises(UntrustedError, match="is not what the service has signed"):
        settled(store, "x", model=exactly | {"manifest_sha256": "0" * 64})


def test_weights_that_retention_has_given_up_are_missed_at_submission(store: Shelf) -> None:
    job = store.job("m")
    kept = committed(store, job, val_elbo=-90.0)
    over(store, job)
    store.artifacts.delete_prefix(kept.uri)
    with pytest.raises(NotFoundError, match=f"is gone: .* name the job, {job.id}"):
        settled(store, job.id)


def test_an_evaluator_that_does_not_suit_is_refused_at_submission(store: Shelf) -> None:
    store.registered("m", -90.0)
    plan = {"evaluators": [{"kind": "mutual-information", "variance": 0.1}]}
    with pytest.raises(UsageError, match="mutual-information: q"):
        settled(store, "m", plan=plan)


def test_the_job_of_an_evaluation_has_no_model_and_changes_none(store: Shelf) -> None:
    """A value of the test split, however good, moves no alias: it belongs to no checkpoint and no version."""
    worse, best = (store.registered("m", value) for value in (-90.0, -80.0))
    before = store.models.versions("m")
    spec = settled(store, "m/1")
    job = store.store.submit(spec, owner="ann")
    store.store.admit()
    store.store.claim(job.id, 1, "r")
    values = [{"name": "elbo", "value": 0.0, "error": None, "unit": "nats per datum", "mode": "max"}]
    result = {"values": values, "metrics": {"test/elbo": 0.0, "val/elbo": 0.0}}
    ended = store.store.finish(job.id, 1, FinishRequest(runner_id="r", outcome="succeeded", result=result))
    with pytest.raises(UsageError, match="has no checkpoint, so there is no model to register"):
        store.models.sign(ended, ended.result, None)
    assert store.models.versions("m") == before
    assert [version.aliases for version in before] == [(), ("best",)]
    assert (worse.version, best.version) == ("1", "2")
    with pytest.raises(UsageError, match="an evaluation, has no model to evaluate"):
        settled(store, job.id)
