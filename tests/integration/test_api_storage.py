"""Logs and models through the API and the command line, from a real S3 server and a real MLflow."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from service import __version__, wire
from service.artifacts import Artifacts
from service.client import Client
from service.download import fetch
from service.errors import ConflictError, StorageError, UnavailableError, UsageError
from service.queue.jobs import Checkpoint, Job
from service.registry import register
from service.settings import S3Settings
from service.spec import TrainSpec, resolve
from tests.api_server import Api, running_api, settings_in
from tests.command import RECIPE, start, vaesvc
from tests.servers import Mlflow
from vae_models.training import checkpoint as checkpoints

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def api(artifacts: Artifacts, mlflow_server: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    storage = S3Settings.model_validate(artifacts.settings.model_dump())
    folder = tmp_path_factory.mktemp("service")
    with running_api(settings_in(folder, s3=storage, mlflow_uri=mlflow_server.uri)) as running:
        yield running


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with api.client() as made:
        yield made


@pytest.fixture
def env(api: Api, tmp_path: Path) -> dict[str, str]:
    home = {"VAESVC_HOME": str(tmp_path / "home"), "VAESVC_CONFIG": ""}
    return {**os.environ, **home, "VAESVC_API_URL": api.url, "VAESVC_TOKEN": api.token}


# --- logs -----------------------------------------------------------------------------------------------------------


def running_job(api: Api, client: Client) -> Job:
    """A job whose first attempt has been claimed by runner r."""
    job = client.submit(resolve(RECIPE, retry={"backoff_seconds": 0}))
    claim_next(api, job)
    return job


def claim_next(api: Api, job: Job) -> None:
    (attempt,) = [one for one in api.admit() if one.job_id == job.id]
    with api.attempt_client(attempt) as runner:
        runner.claim(wire.ClaimRequest(runner_id="r", version=__version__))


def finish(api: Api, job: Job, epoch: int, outcome: str, **fields: object) -> None:
    (attempt,) = [one for one in api.store.detail(job.id).attempts if one.epoch == epoch]
    with api.attempt_client(attempt) as runner:
        request = {"runner_id": "r", "outcome": outcome, **fields}
        runner.finish(wire.FinishRequest.model_validate(request))


def test_a_log_is_read_as_it_grows_and_after_the_end(api: Api, client: Client, artifacts: Artifacts) -> None:
    job = running_job(api, client)
    assert client.logs(job.id) == wire.LogChunk(text="", offset=0, epoch=1, complete=False)  # not shipped yet
    uri = artifacts.uri("logs", job.id, "1.log")
    whole = "step 1\nGröße ≥ 3\n".encode()
    cut = whole.index("ö".encode()) + 1  # inside a character
    artifacts.put_bytes(uri, whole[:cut])
    first = client.logs(job.id)
    assert (first.text, first.offset, first.complete) == ("step 1\nGr", cut - 1, False)
    artifacts.put_bytes(uri, whole)
    finish(api, job, 1, "succeeded", log_uri=uri)
    second = client.logs(job.id, offset=first.offset)
    assert (first.text + second.text, second.offset, second.complete) == (whole.decode(), len(whole), True)
    assert client.logs(job.id, offset=second.offset).text == ""


def test_a_large_log_comes_in_pieces(api: Api, client: Client, artifacts: Artifacts, env: dict[str, str]) -> None:
    job = running_job(api, client)
    lines = "".join(f"line {number}\n" for number in range(250_000))  # 2.9 MB
    artifacts.put_bytes(artifacts.uri("logs", job.id, "1.log"), lines.encode())
    finish(api, job, 1, "succeeded")
    assert len(client.logs(job.id).text) == 1 << 20
    assert vaesvc(env, "logs", job.id).stdout == lines


def test_logs_follows_a_job_through_its_attempts(
    api: Api, client: Client, artifacts: Artifacts, env: dict[str, str]
) -> None:
    job = running_job(api, client)
    artifacts.put_bytes(artifacts.uri("logs", job.id, "1.log"), b"first attempt\n")
    process = start(env, "logs", "-f", job.id)
    assert process.stdout is not None
    assert process.stdout.readline() == "first attempt\n"
    finish(api, job, 1, "failed", error="boom")
    claim_next(api, job)
    artifacts.put_bytes(artifacts.uri("logs", job.id, "2.log"), b"second ")
    time.sleep(2)
    assert process.poll() is None
    artifacts.put_bytes(artifacts.uri("logs", job.id, "2.log"), b"second attempt\n")
    finish(api, job, 2, "succeeded")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == "second attempt\n"
    assert "attempt 2" in err
    assert vaesvc(env, "logs", job.id, "--attempt", "1").stdout == "first attempt\n"
    assert "no attempt 3" in vaesvc(env, "logs", job.id, "--attempt", "3", code=2).stderr


def test_wrong_keys_and_no_bucket_are_told_to_the_user(artifacts: Artifacts, tmp_path: Path) -> None:
    right = artifacts.settings.model_dump()
    for change, words in (({"secret_key": "wrong"}, "keys"), ({"bucket": "nowhere"}, "bucket")):
        settings = settings_in(tmp_path / words, s3=S3Settings.model_validate(right | change))
        with running_api(settings) as api, api.client() as client:
            job = running_job(api, client)
            with pytest.raises(StorageError, match=words):
                client.logs(job.id)


# --- models ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(api: Api, artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> wire.ModelVersion:
    """One registered version: a checkpoint as training writes it, of a model that was not trained."""
    with api.client() as client:
        job = client.submit(resolve(RECIPE, register_as="pulled"))
    config = TrainSpec.model_validate(job.spec).train
    folder = tmp_path_factory.mktemp("checkpoint") / "5"
    checkpoints.write(
        folder,
        step=5,
        config=config,
        model=config.model.build(SHAPE).state_dict(),
        training={"some": torch.zeros(3)},
        state={"data_shape": SHAPE},
        metrics={},
    )
    put = artifacts.put_directory(folder, artifacts.uri("checkpoints", job.id, "5"))
    stored = Checkpoint(
        epoch=1,
        step=5,
        uri=put.uri,
        manifest_sha256=put.manifest_sha256,
        bytes=put.bytes,
        metrics={"val/elbo": -12.5},
    )
    assert api.settings.mlflow_uri is not None
    return register(api.settings.mlflow_uri, artifacts, job, stored, "val/elbo", "max")


def test_models_are_listed(client: Client, model: wire.ModelVersion, env: dict[str, str]) -> None:
    assert model in client.models()
    row = next(line for line in vaesvc(env, "models").stdout.splitlines() if line.startswith("pulled"))
    assert row.split()[:5] == ["pulled", "1", "best", "val/elbo", "-12.5000"]
    assert json.loads(vaesvc(env, "models", "--json").stdout)[0]["name"] == "pulled"


def test_pull_fetches_a_model_that_loads(model: wire.ModelVersion, env: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "model"
    done = vaesvc(env, "pull", "pulled", str(folder))
    assert done.stdout == f"{folder}\n"
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]
    call = f"mlflow.pyfunc.load_model({str(folder)!r}).predict(numpy.zeros((2, 1, 8, 8)))"
    code = f"import mlflow, numpy; print({call}.shape)"
    loaded = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert loaded.stdout.strip() == "(2, 1, 8, 8)", loaded.stderr
    assert "already" in vaesvc(env, "pull", "pulled", str(folder), "--alias", "best").stderr
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    assert (
        "model.safetensors was altered" in vaesvc(env, "pull", "pulled", str(folder), "--version", "1", code=2).stderr
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch"], ["nosuch", "pulled"]),
        (["pulled", "--version", "7"], ["version 7", "1 @best"]),
        (["pulled", "--alias", "worst"], ["'worst'", "1 @best"]),
        (["pulled", "--alias", "best", "--version", "1"], ["not both"]),
    ],
)
def test_pull_says_what_there_is(
    model: wire.ModelVersion, env: dict[str, str], tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    name, *options = arguments
    done = vaesvc(env, "pull", name, str(tmp_path / "out"), *options, code=2)
    assert not [word for word in words if word not in done.stderr], done.stderr
    assert not (tmp_path / "out").exists()


def test_pull_overwrites_nothing(client: Client, model: wire.ModelVersion, tmp_path: Path) -> None:
    files = client.model_files("pulled")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConflictError, match="not empty"):
        fetch(files, tmp_path / "mine", report=print)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert fetch(files, tmp_path / "empty", report=print) > 1000


def test_an_altered_object_is_refused_and_leaves_nothing(
    client: Client, artifacts: Artifacts, model: wire.ModelVersion, tmp_path: Path
) -> None:
    files = client.model_files("pulled", version="1")
    uri = f"{model.source}/model.safetensors"
    right = artifacts.get_bytes(uri)
    artifacts.put_bytes(uri, right[:-1] + bytes([right[-1] ^ 1]))
    try:
        with pytest.raises(StorageError, match="SHA-256"):
            fetch(files, tmp_path / "out", report=print)
    finally:
        artifacts.put_bytes(uri, right)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_leaves_the_folder_is_refused(client: Client, model: wire.ModelVersion, tmp_path: Path) -> None:
    files = client.model_files("pulled")
    evil = {"../evil": next(iter(files.files.values()))}
    changed = files.model_copy(update={"files": evil, "sha256": dict.fromkeys(evil, "0" * 64)})
    with pytest.raises(StorageError, match=r"\.\./evil"):
        fetch(changed, tmp_path / "out", report=print)
    assert list(tmp_path.iterdir()) == []


def test_presigned_addresses_hold_no_secret(client: Client, artifacts: Artifacts, model: wire.ModelVersion) -> None:
    secret = artifacts.settings.secret_key
    assert secret
    assert secret not in client.model_files("pulled").model_dump_json()


def test_mlflow_that_is_away_is_said(artifacts: Artifacts, tmp_path: Path) -> None:
    storage = S3Settings.model_validate(artifacts.settings.model_dump())
    with running_api(settings_in(tmp_path, s3=storage, mlflow_uri="http://127.0.0.1:9")) as api, api.client() as client:
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"):
            client.models()
        with pytest.raises(UsageError, match="not both"):
            client.model_files("pulled", version="1", alias="best")
        assert client.health().ok
