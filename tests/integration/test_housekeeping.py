"""What follows an attempt, with a real API, S3 server and MLflow server; the cluster is one of plain processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from service import kinds, tracking
from service.artifacts import Artifacts
from service.dispatch.housekeeping import ATTEMPT_TAG, JOB_TAG, Housekeeper
from service.errors import UnavailableError
from service.kinds.evaluate.kept import StoredKept
from service.kinds.train import spec
from service.models import Models
from service.queue.jobs import Checkpoint, Job, JobState
from service.signing import read_key
from service.tracking.server import client as mlflow
from service.wire import FinishRequest
from tests.api_server import Api, running_api, s3_under, settings_in
from tests.attempts import Worker
from tests.local_cluster import LocalCluster, agent
from tests.registered import checkpoint_folder
from tests.servers import Mlflow, wait_for
from vae_models.evaluation.findings import Findings, Value
from vae_models.evaluation.pictures.style import grid
from vae_models.training.loop import train


@pytest.fixture(scope="module")
def api(artifacts: Artifacts, mlflow_server: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    s3 = s3_under(artifacts, "housekeeping")
    home = tmp_path_factory.mktemp("api")
    with running_api(settings_in(home, s3=s3, lease_seconds=600, mlflow_uri=mlflow_server.uri)) as running:
        yield running


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    folder = tmp_path / "cluster"
    with agent(folder):
        yield LocalCluster(folder)


@pytest.fixture
def keeper(api: Api, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Housekeeper:
    monkeypatch.setattr("service.dispatch.housekeeping._RAY_TURN_SECONDS", 0.0)
    return Housekeeper(api.store, cluster, api.settings)  # type: ignore[arg-type]


def test_a_run_that_mlflow_slept_through_is_made_whole_afterwards(
    api: Api, keeper: Housekeeper, mlflow_server: Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points, model version and status: all of it later, none of it twice."""
    from mlflow import MlflowClient

    monkeypatch.setattr("service.attempt.run_context._MLFLOW_SECONDS", 1.0)
    for patient in ("service.tracking.runs", "service.registry"):
        monkeypatch.setattr(f"{patient}.PATIENCE", 1.0)
    worker = Worker(api, tmp_path, mlflow_uri=mlflow_server.uri)
    job_id = worker.attempt.job_id
    process = worker.open()
    reports = process.reports
    assert reports is not None
    wait_for(lambda: reports.run_id is not None, 30, "the run is not opened")
    mlflow_server.freeze()
    try:
        result = train(worker.spec.train, process.context)
        said = process.close()
        wait_for(lambda: api.store.job(job_id).run_id is not None, 10, "the run is not known")
        api.store.finish(job_id, 1, FinishRequest(runner_id="r", outcome="succeeded", result={"metrics": {}}))
        with monkeypatch.context() as hurry:
            hurry.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
            hurry.setattr("service.dispatch.housekeeping._SPOOL_SECONDS", 2.0)
            keeper.turn()
        assert [one.id for one in api.store.untracked()] == [job_id]
    finally:
        mlflow_server.thaw()
    keeper._mlflow_patience._next = 0.0
    keeper.turn()
    assert api.store.untracked() == []
    run = MlflowClient(mlflow_server.uri).get_run(said["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["val/elbo"] == pytest.approx(result.metrics["val/elbo"])
    artifacts = Artifacts(api.settings.storage())
    models = Models(store=api.store, artifacts=artifacts, key=read_key(api.settings.signing_key_file))
    (version,) = (one for one in models.versions() if one.job_id == job_id)
    assert (version.signed, version.aliases) == (True, ("best",))
    assert mlflow(mlflow_server.uri).get_model_version(version.name, version.mlflow_version).source == version.source
    assert version.value == pytest.approx(max(one.metrics["val/elbo"] for one in _scored(api, job_id)))
    assert artifacts.list(artifacts.uri("spool", job_id)) == []
    _the_dispatcher_keeps_what_is_signed(keeper, models, mlflow_server.uri)


def _the_dispatcher_keeps_what_is_signed(keeper: Housekeeper, models: Models, uri: str) -> None:
    """A stranger's alias is put back; another key signs everything again."""
    (before,) = models.versions()
    door = mlflow(uri)
    stranger = door.create_model_version(before.name, "s3://elsewhere/evil", await_creation_for=0).version
    door.set_registered_model_alias(before.name, "best", stranger)
    keeper._settings.signing_key_file.unlink()
    keeper._next_models = 0.0
    keeper.turn()
    assert str(door.get_model_version_by_alias(before.name, "best").version) == before.mlflow_version
    new = read_key(keeper._settings.signing_key_file)
    assert new.public != models.key.public
    assert replace(models, key=new).versions() == [before]
    assert models.versions()[0].signed is False


def _scored(api: Api, job_id: str) -> list:  # type: ignore[type-arg]
    return [one for one in api.store.checkpoints(job_id) if "val/elbo" in one.metrics]


def test_jobs_that_never_ran_are_closed_too(api: Api, keeper: Housekeeper) -> None:
    job = api.store.submit(spec.resolve("digits/beta-vae-mlp"), owner="ann")
    api.store.cancel(job.id, by="ann")
    assert [one.id for one in api.store.untracked()] == [job.id]
    keeper.turn()
    assert api.store.untracked() == []


def test_the_log_of_a_runner_that_was_killed_is_taken_from_the_cluster(
    api: Api, keeper: Housekeeper, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dispatch.housekeeping._FORGET_SECONDS", 0.0)
    job = api.store.submit(spec.resolve("digits/beta-vae-mlp"), owner="ann")
    (attempt,) = (one for one in api.admit() if one.job_id == job.id)
    name = attempt.submission_id
    tags = {JOB_TAG: job.id, ATTEMPT_TAG: str(attempt.number)}
    cluster.submit(name, "echo the first line; echo the last line", env={}, metadata=tags)
    cluster.submit("somebody-elses", "echo mine", env={}, metadata={JOB_TAG: "j-of-another-service", ATTEMPT_TAG: "1"})
    wait_for(lambda: all(one.state.over for one in cluster.jobs().values()), 20, "they do not end")
    artifacts = Artifacts(api.settings.storage())
    uri = artifacts.uri("logs", job.id, f"{attempt.number}.log")
    artifacts.put_bytes(uri, b"the first line\n", "text/plain")  # as far as the runner came

    keeper.turn()  # the attempt is open: hands off
    assert artifacts.get_bytes(uri) == b"the first line\n"
    api.store.attempt_lost(job.id, attempt.number, "killed", retryable=False)
    assert api.store.job(job.id).state is JobState.FAILED
    keeper.turn()
    assert artifacts.get_bytes(uri) == b"the first line\nthe last line\n"
    assert api.store.detail(job.id).attempts[0].log_uri == uri
    time.sleep(0.01)
    keeper.turn()
    assert set(cluster.jobs()) == {"somebody-elses"}


def test_what_outlives_its_attempt_is_stopped(
    api: Api, keeper: Housekeeper, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dispatch.housekeeping._LEFT_OVER_SECONDS", 0.5)
    job = api.store.submit(spec.resolve("digits/beta-vae-mlp"), owner="ann")
    (attempt,) = (one for one in api.admit() if one.job_id == job.id)
    tags = {JOB_TAG: job.id, ATTEMPT_TAG: str(attempt.number)}
    cluster.submit(attempt.submission_id, "sleep 600", env={}, metadata=tags)
    wait_for(lambda: cluster.jobs()[attempt.submission_id].state.value == "RUNNING", 20, "it does not start")
    api.store.attempt_lost(job.id, attempt.number, "its head was cut off", retryable=False)

    def stopped() -> bool:
        keeper.turn()
        return cluster.jobs()[attempt.submission_id].state.over

    wait_for(stopped, 20, "it runs on")


def _succeeded(api: Api, tmp_path: Path, **fields: Any) -> Job:
    """A job that has trained, committed a checkpoint and ended."""
    job = api.store.submit(kinds.resolve("digits/beta-vae-mlp", **fields), owner="ann")
    api.admit()
    api.store.claim(job.id, 1, "r")
    artifacts = Artifacts(api.settings.storage())
    put = artifacts.put_directory(
        checkpoint_folder(tmp_path / job.id, job), artifacts.uri("checkpoints", job.id, "5")
    )  # fmt: skip
    kept = Checkpoint(
        attempt=1, step=5, uri=put.uri, manifest_sha256=put.manifest_sha256, bytes=put.bytes, metrics={"val/elbo": -9.0}
    )
    api.store.commit_checkpoint(job.id, 1, kept)
    return api.store.finish(job.id, 1, FinishRequest(runner_id="r", outcome="succeeded"))


def _following(api: Api, job: Job) -> list[Job]:
    told = [event for event in api.store.events(job.id) if event.kind == "followed"]
    return [api.store.job(event.detail["job"]) for event in told]


def test_what_follows_a_job_is_submitted_once_whoever_dies_when(
    api: Api, cluster: LocalCluster, keeper: Housekeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dispatcher that is killed after each of its steps; then two at once."""
    then = [{"kind": "evaluate", "plan": {"split": split, "evaluators": ["likelihood"]}} for split in ("test", "val")]
    job = _succeeded(api, tmp_path, then=then, resources={"workers": 2})
    fresh = [Housekeeper(api.store, cluster, api.settings) for _ in range(3)]  # type: ignore[arg-type]
    submit = api.store.submit
    with monkeypatch.context() as dying:  # between the first of the two submissions and the second

        def once(*arguments: Any, **more: Any) -> Job:
            made = submit(*arguments, **more)
            dying.setattr(api.store, "submit", _dies)
            return made

        dying.setattr(api.store, "submit", once)
        with pytest.raises(KeyboardInterrupt):
            keeper.turn()
    (first,) = _following(api, job)
    with monkeypatch.context() as dying:  # after both, before it is noted
        dying.setattr(Housekeeper, "_close", _dies)
        with pytest.raises(KeyboardInterrupt):
            fresh[0].turn()
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda one: one.turn(), fresh[1:]))
    jobs = _following(api, job)
    assert [one.spec["plan"]["split"] for one in jobs] == ["test", "val"]
    assert jobs[0].id == first.id
    kept = api.store.checkpoints(job.id)[0]
    for one in jobs:
        assert one.spec["model"]["manifest_sha256"] == kept.manifest_sha256
        assert (one.owner, one.kind, one.resources.workers) == ("ann", "evaluate", 2)
        api.store.cancel(one.id, by="ann")
    for keeper in fresh:
        keeper.turn()
    assert api.store.untracked() == []
    assert len(_following(api, job)) == 2


def _dies(*arguments: object, **more: object) -> None:
    raise KeyboardInterrupt


def test_what_cannot_follow_is_said_and_holds_up_nothing(
    api: Api, keeper: Housekeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _succeeded(api, tmp_path, then="evaluate")
    kept = api.store.checkpoints(job.id)[0]
    Artifacts(api.settings.storage()).delete_prefix(kept.uri)
    keeper.turn()
    (told,) = [event.detail for event in api.store.events(job.id) if event.kind == "not_followed"]
    assert told["what"] == "evaluate"
    assert f"the checkpoint {kept.uri} is gone" in told["reason"]
    assert _following(api, job) == []
    assert api.store.untracked() == []


def test_what_follows_does_not_wait_for_mlflow_and_is_not_forgotten_while_storage_is_away(
    api: Api, keeper: Housekeeper, tmp_path: Path, mlflow_server: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _succeeded(api, tmp_path, then={"kind": "evaluate", "plan": {"evaluators": ["likelihood"]}})
    with monkeypatch.context() as away:
        away.setattr("service.kinds.evaluate.settle.settle", _away)
        keeper.turn()
        assert [one.id for one in api.store.untracked()] == [job.id]
        assert _following(api, job) == []
    keeper._queue_patience._next = 0.0
    keeper._mlflow_patience._next = time.monotonic() + 1000  # as while it does not answer
    keeper.turn()
    (following,) = _following(api, job)
    assert [one.id for one in api.store.untracked()] == [job.id]
    api.store.cancel(following.id, by="ann")
    keeper._mlflow_patience._next = 0.0
    keeper.turn()
    assert api.store.untracked() == []


def _away(*arguments: object) -> None:
    raise UnavailableError("the storage does not answer")


def test_a_job_that_failed_is_not_followed(api: Api, keeper: Housekeeper) -> None:
    job = api.store.submit(kinds.resolve("digits/beta-vae-mlp", then="evaluate"), owner="ann")
    api.store.cancel(job.id, by="ann")
    keeper.turn()
    assert _following(api, job) == []
    assert api.store.untracked() == []


def test_an_evaluation_that_mlflow_slept_through_is_logged_afterwards_once(
    api: Api, keeper: Housekeeper, mlflow_server: Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the run of the model that it is about, with its error, its picture and its files."""
    job = _succeeded(api, tmp_path, then={"kind": "evaluate", "plan": {"split": "val", "evaluators": ["likelihood"]}})
    run_id = tracking.open_run(mlflow_server.uri, job, number=1)
    keeper.turn()
    (evaluation,) = _following(api, job)
    ended = _found_out(api, evaluation)
    mlflow_server.freeze()
    try:
        with monkeypatch.context() as hurry:
            hurry.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
            for module in ("runs", "evaluations"):
                hurry.setattr(f"service.tracking.{module}.PATIENCE", 1.0)
            keeper.turn()
        assert [one.id for one in api.store.untracked()] == [evaluation.id]
    finally:
        mlflow_server.thaw()
    for _ in range(2):  # the second as a dispatcher that was killed before it noted the first
        keeper._mlflow_patience._next = 0.0
        keeper.turn()
        assert api.store.untracked() == []
        with api.store._write() as work:
            work.update_job(evaluation.id, tracked=False)
    door = mlflow(mlflow_server.uri)
    (point,) = door.get_metric_history(run_id, "val/nll_7")
    assert (point.value, point.step, point.timestamp) == (9.5, 5, int(1000 * (ended.ended_at or 0)))
    assert door.get_run(run_id).data.metrics["val/nll_7_error"] == 0.25
    files = {file.path.rpartition("/")[2] for file in door.list_artifacts(run_id, f"evaluation/{evaluation.id}")}
    assert files == {"evaluation.json", KEY}
    assert len(door.list_artifacts(run_id, "images")) == 2  # one picture, and the small one for the grid
    (version,) = [one for one in api_models(api).versions() if one.job_id == job.id]
    assert version.value == -9.0  # of the checkpoint, and no evaluation's
    api.store.tracked(evaluation.id)


KEY = "likelihood-val-0"


def _found_out(api: Api, evaluation: Job) -> Job:
    """The evaluation as its attempt leaves it."""
    value = Value(name="nll_7", value=9.5, error=0.25, unit="nats per datum", mode="min", count=3)
    findings = Findings(values=(value,), pictures=(grid("samples", torch.zeros(2, 1, 8, 8), 2),))
    api.admit()
    api.store.claim(evaluation.id, 1, "r")
    StoredKept(Artifacts(api.settings.storage()), evaluation.id, device=torch.device("cpu")).put(KEY, findings)
    return api.store.finish(evaluation.id, 1, FinishRequest(runner_id="r", outcome="succeeded"))


def api_models(api: Api) -> Models:
    key = read_key(api.settings.signing_key_file)
    return Models(store=api.store, artifacts=Artifacts(api.settings.storage()), key=key)
