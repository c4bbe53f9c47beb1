"""Registered models on a real MLflow server and a real S3 server: one version per job, `best` on the best."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service import pyfunc, registry
from service.artifacts import Artifacts
from service.directories import CorruptObjectError
from service.queue.jobs import Checkpoint, Job
from service.registry import register, versions
from service.spec import TrainSpec
from service.tracking import open_run
from service.tracking.server import client, patiently
from service.wire import ModelVersion
from tests.jobs import make_job
from tests.servers import Mlflow
from vae_models.training import checkpoint as checkpoints

SHAPE = (1, 8, 8)
Registered = Callable[..., ModelVersion]


@pytest.fixture(scope="module")
def uri(mlflow_server: Mlflow) -> str:
    return mlflow_server.uri


@pytest.fixture(scope="module")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as training writes it, of a model that was not trained."""
    config = TrainSpec.model_validate(make_job().spec).train
    torch.manual_seed(0)
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
    return folder


def stored(artifacts: Artifacts, folder: Path, job: Job, **metrics: float) -> Checkpoint:
    put = artifacts.put_directory(folder, artifacts.uri("checkpoints", job.id, "5"))
    return Checkpoint(
        epoch=1, step=5, uri=put.uri, manifest_sha256=put.manifest_sha256, bytes=put.bytes, metrics=metrics
    )


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"model-{request.node.name.partition('[')[0]}"


@pytest.fixture
def registered(uri: str, artifacts: Artifacts, checkpoint_folder: Path, name: str) -> Registered:
    """Registers a new job's checkpoint with this value."""

    def call(value: float, *, metric: str = "val/elbo", mode: Any = "max", overrides: tuple[str, ...] = ()) -> Any:
        job = make_job(overrides=overrides, spec={"register_as": name})
        checkpoint = stored(artifacts, checkpoint_folder, job, **{metric: value})
        return register(uri, artifacts, job, checkpoint, metric, mode)

    return call


def best(uri: str, name: str) -> list[str]:
    return [each.version for each in versions(uri, name) if "best" in each.aliases]


def test_a_job_becomes_one_version(uri: str, artifacts: Artifacts, checkpoint_folder: Path, name: str) -> None:
    job = make_job(spec={"register_as": name})
    run_id = open_run(uri, job, epoch=1)
    checkpoint = stored(artifacts, checkpoint_folder, job, **{"val/elbo": -12.5})
    first = register(uri, artifacts, job, checkpoint, "val/elbo", "max")
    assert (first.name, first.version, first.aliases, first.job_id) == (name, "1", ("best",), job.id)
    assert (first.metric, first.value, first.source) == ("val/elbo", -12.5, artifacts.uri("models", name, job.id))
    modified = [item.modified_at for item in artifacts.list(first.source)]
    assert register(uri, artifacts, job, checkpoint, "val/elbo", "max") == first
    assert [item.modified_at for item in artifacts.list(first.source)] == modified
    assert versions(uri, name) == [first]
    version = client(uri).get_model_version(name, "1")
    assert version.run_id == run_id
    assert version.tags["vaesvc.measure"] == "density"
    assert "val/elbo = -12.5 at step 5" in version.description
    stored_files = {item.uri.removeprefix(f"{first.source}/") for item in artifacts.list(first.source)}
    assert stored_files == {"MLmodel", "model.safetensors", "config.json", "manifest.json"}


def test_many_at_once_make_one_version(uri: str, artifacts: Artifacts, checkpoint_folder: Path, name: str) -> None:
    job = make_job(spec={"register_as": name})
    checkpoint = stored(artifacts, checkpoint_folder, job, **{"val/elbo": 1.0})
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(register, uri, artifacts, job, checkpoint, "val/elbo", "max") for _ in range(4)]
        found = {call.result().version for call in calls}
    assert found == {"1"}
    assert [(each.version, each.aliases) for each in versions(uri, name)] == [("1", ("best",))]


def test_jobs_that_end_at_once_leave_the_alias_on_the_best(uri: str, registered: Registered, name: str) -> None:
    values = [3.0, 9.0, 1.0, 7.0]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(registered, values))
    assert len({each.version for each in found}) == 4
    assert best(uri, name) == [found[1].version]


def test_first_aliases_in_one_moment_are_all_set(uri: str, name: str) -> None:
    """MLflow's server refuses one insert in thirty of eight at a time."""
    door = client(uri)
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            model = f"{name}-{number}"
            door.create_registered_model(model)
            version = door.create_model_version(model, "s3://bucket/model", await_creation_for=0).version
            attempts = [pool.submit(patiently, partial(registry._set_alias, uri, model, version), 20) for _ in range(8)]
            for attempt in attempts:
                attempt.result()
            assert best(uri, model) == [version]


def test_the_alias_moves_only_to_a_better_value(uri: str, registered: Registered, name: str) -> None:
    steps: list[tuple[float, dict[str, Any], str]] = [
        (math.nan, {}, ""),
        (-10.0, {}, "2"),
        (-11.0, {}, "2"),
        (-10.0, {}, "2"),
        (math.nan, {}, "2"),
        (math.inf, {}, "2"),
        (50.0, {"metric": "val/rate"}, "2"),
        (50.0, {"overrides": ("model.likelihood.kind=bernoulli",)}, "2"),
        (50.0, {"overrides": ("data.binarize=threshold",)}, "2"),
        (-9.0, {}, "10"),
    ]
    for value, options, expected in steps:
        registered(value, **options)
        assert "".join(best(uri, name)) == expected, (value, options)


def test_less_may_be_better(uri: str, registered: Registered, name: str) -> None:
    for value, expected in ((5.0, "1"), (6.0, "1"), (4.0, "3")):
        registered(value, mode="min", metric="val/rate")
        assert best(uri, name) == [expected]


def test_who_moved_the_alias_by_hand_is_respected(uri: str, registered: Registered, name: str) -> None:
    """A later job is compared with the version that was chosen, not with what was rejected."""
    for value in (1.0, 9.0):
        registered(value)
    door = client(uri)
    door.set_registered_model_alias(name, "best", "1")
    registered(0.5)
    assert best(uri, name) == ["1"]


def test_what_a_crash_left_is_mended(
    uri: str, artifacts: Artifacts, checkpoint_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the upload, before the version, before the alias; and a second version that should not be."""
    job = make_job(spec={"register_as": name})
    checkpoint = stored(artifacts, checkpoint_folder, job, **{"val/elbo": 1.0})
    source = artifacts.uri("models", name, job.id)
    artifacts.put_bytes(f"{source}/model.safetensors", b"half")
    door = client(uri)
    door.create_registered_model(name)
    assert register(uri, artifacts, job, checkpoint, "val/elbo", "max").version == "1"
    artifacts.get_directory(source, checkpoint_folder.parent / "mended")
    door.create_model_version(name, source, tags={"vaesvc.job_id": job.id})
    door.delete_registered_model_alias(name, "best")
    assert len(versions(uri, name)) == 2
    monkeypatch.setattr(registry, "STALE_SECONDS", -1.0)
    assert register(uri, artifacts, job, checkpoint, "val/elbo", "max").aliases == ("best",)
    assert [each.version for each in versions(uri, name)] == ["1"]


def test_a_corrupt_checkpoint_is_not_registered(
    uri: str, artifacts: Artifacts, checkpoint_folder: Path, name: str
) -> None:
    job = make_job(spec={"register_as": name})
    checkpoint = stored(artifacts, checkpoint_folder, job, **{"val/elbo": 1.0})
    artifacts.put_bytes(f"{checkpoint.uri}model.safetensors", b"tampered")
    with pytest.raises(CorruptObjectError, match=r"model\.safetensors is not what was stored"):
        register(uri, artifacts, job, checkpoint, "val/elbo", "max")
    assert versions(uri, name) == []


LOAD = """
import sys, mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))
assert "service.tracking" not in sys.modules and "boto3" in sys.modules
"""


def test_a_version_loads_by_its_alias_and_predicts_as_the_model(
    uri: str, artifacts: Artifacts, registered: Registered, name: str, checkpoint_folder: Path, tmp_path: Path
) -> None:
    """In a user's process: mlflow alone, with pickle and model code forbidden."""
    registered(1.0)
    images = np.random.default_rng(0).random((300, *SHAPE), dtype=np.float32)
    np.save(tmp_path / "in.npy", images)
    storage = artifacts.settings
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
        "MLFLOW_S3_ENDPOINT_URL": str(storage.endpoint_url),
        "AWS_ACCESS_KEY_ID": str(storage.access_key),
        "AWS_SECRET_ACCESS_KEY": str(storage.secret_key),
        "AWS_DEFAULT_REGION": storage.region,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-c", LOAD, f"models:/{name}@best", str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    subprocess.run(command, env=environment, check=True, timeout=120)
    model: Any = checkpoints.load_model(checkpoint_folder)[0]
    x = torch.from_numpy(images)
    with torch.inference_mode():
        expected = model(x, {"z": torch.zeros(300, model.noise()["z"].shape[0])}).mean
    found = np.load(tmp_path / "out.npy")
    assert found.shape == (300, *SHAPE)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_the_loader_takes_what_people_have(
    artifacts: Artifacts, registered: Registered, tmp_path: Path, uri: str
) -> None:
    import pandas as pd

    folder = artifacts.get_directory(registered(1.0).source, tmp_path / "model")
    model = pyfunc._load_pyfunc(str(folder))
    images = np.random.default_rng(1).random((7, *SHAPE))
    found = model.predict(images)
    flat = images.reshape(7, -1)
    np.testing.assert_array_equal(model.predict(flat), found)
    np.testing.assert_array_equal(model.predict(pd.DataFrame(flat)), found)
    assert model.predict(images[:0]).shape == (0, *SHAPE)
    with pytest.raises(ValueError, match=r"shape \(7, 8\) given; this model takes \[n, 64\]"):
        model.predict(images[:, 0, 0])
    with pytest.raises(ValueError, match="divide bytes by 255"):
        model.predict(images * 255)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    sha256 = json.loads((folder / "manifest.json").read_text())["files"]["model.safetensors"]["sha256"]
    with pytest.raises(CorruptObjectError, match=sha256):
        pyfunc._load_pyfunc(str(folder))
