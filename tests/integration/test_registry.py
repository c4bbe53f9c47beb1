"""Registered models on a real MLflow server and a real S3 server: one version per job, `best` on the best."""

from __future__ import annotations

import hashlib
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
from service.errors import FencedError, NotFoundError, UnavailableError, UntrustedError, UsageError
from service.kinds.study.spec import resolve_study
from service.model_files import PAYLOAD_TYPE, Reference, Statement, read_statement
from service.signing import payload, read_key
from service.tracking import open_run
from service.tracking.server import client, patiently
from service.wire import ModelVersion
from tests.registered import RECIPE, SHAPE, Shelf, checkpoint_folder, shelf
from tests.servers import Mlflow
from vae_models.trained import folders
from vae_models.training import checkpoint as checkpoints

Registered = Callable[..., ModelVersion]
STAGE = {"name": "s", "space": {"optimizer.lr": [0.001, 0.01]}}
STUDY = resolve_study({"name": "s", "base": RECIPE, "stages": [STAGE]}).model_dump(mode="json")


@pytest.fixture(scope="module")
def uri(mlflow_server: Mlflow) -> str:
    return mlflow_server.uri


@pytest.fixture(scope="module")
def here(uri: str, artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return shelf(tmp_path_factory.mktemp("service"), artifacts, uri, settle_seconds=0.0)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"model-{request.node.name.partition('[')[0]}"


@pytest.fixture
def registered(here: Shelf, name: str) -> Registered:
    """Registers a new job's checkpoint with this value."""
    return partial(here.registered, name)


def best(here: Shelf, name: str) -> list[str]:
    """The service's best, which MLflow's alias shows."""
    found = [each for each in here.models.versions(name) if "best" in each.aliases]
    alias = registry._alias(str(here.mlflow_uri), name)
    assert [each.mlflow_version for each in found] == [each for each in [alias] if each]
    return [each.version for each in found]


def in_mlflow(uri: str, name: str) -> list[str]:
    return sorted(str(each.version) for each in registry._versions(uri, name))


def test_a_job_becomes_one_version(here: Shelf, uri: str, artifacts: Artifacts, name: str) -> None:
    job = here.job(name)
    run_id = open_run(uri, job, number=1)
    checkpoint = here.checkpoint(job, **{"val/elbo": -12.5})
    first = here.register(job)
    assert (first.name, first.version, first.aliases, first.job_id) == (name, "1", ("best",), job.id)
    assert (first.metric, first.value, first.source) == ("val/elbo", -12.5, artifacts.uri("models", name, job.id))
    assert (first.mlflow_version, first.signed) == ("1", True)
    manifest = artifacts.get_bytes(f"{first.source}/manifest.json")
    modified = [item.modified_at for item in artifacts.list(first.source) if not item.uri.endswith("signature.json")]
    assert here.register(job) == first
    again = [item.modified_at for item in artifacts.list(first.source) if not item.uri.endswith("signature.json")]
    assert again == modified
    assert here.models.versions(name) == [first]
    version = client(uri).get_model_version(name, "1")
    assert version.run_id == run_id
    assert version.tags["vaesvc.measure"] == "density"
    assert "val/elbo = -12.5 at step 5" in version.description
    stored_files = {item.uri.removeprefix(f"{first.source}/") for item in artifacts.list(first.source)}
    examples = {"input_example.json", "serving_input_example.json"}
    required = {"MLmodel", "model.safetensors", "config.json", "manifest.json", "signature.json"}
    assert stored_files == required | examples
    envelope = artifacts.get_bytes(f"{first.source}/signature.json").decode()
    assert version.tags["vaesvc.signature"] == envelope
    assert read_statement(envelope, [here.models.key.public], "it") == Statement(
        name=name, version=1, job_id=job.id, source=f"models/{name}/{job.id}", metric="val/elbo", value=-12.5,
        mode="max", manifest_sha256=hashlib.sha256(manifest).hexdigest(), measure="density", data="digits", step=5,
        checkpoint=checkpoint.uri,
    )  # fmt: skip


def test_fault_01_an_envelope_of_another_version_makes_none(here: Shelf, registered: Registered, name: str) -> None:
    """Copied in SQL or beside the files: of another version of the model, of another model, by another key."""
    first, other = registered(1.0), here.registered(f"{name}-other", 9.0)
    envelopes = {row.job_id: row.envelope for row in here.store.model_versions()}
    stranger = read_key(here.folder / "stranger").sign(payload(envelopes[str(first.job_id)]), PAYLOAD_TYPE)
    for envelope in (envelopes[str(first.job_id)], envelopes[str(other.job_id)], stranger, ""):
        job = here.job(name)
        row = here.store.put_model_version(job.id, name, None, lambda number, envelope=envelope: envelope)  # type: ignore[misc]
        copied = next(one for one in here.models.versions(name) if one.job_id == job.id)
        assert (copied.signed, copied.aliases, copied.value) == (False, (), None)
        with pytest.raises(UntrustedError, match="is not signed with the service's key"):
            here.models.files(Reference(name=name, version=row.version))
    assert here.models.files(Reference(name=name)).version == first.version


def test_many_at_once_make_one_version(here: Shelf, uri: str, name: str) -> None:
    job = here.job(name)
    here.checkpoint(job, **{"val/elbo": 1.0})
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(here.register, job) for _ in range(4)]
        found = {call.result().version for call in calls}
    assert found == {"1"}
    assert [(each.version, each.aliases) for each in here.models.versions(name)] == [("1", ("best",))]
    assert in_mlflow(uri, name) == ["1"]


def test_jobs_that_end_at_once_leave_the_best_on_the_best(here: Shelf, registered: Registered, name: str) -> None:
    values = [3.0, 9.0, 1.0, 7.0]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(registered, values))
    assert sorted(each.version for each in found) == ["1", "2", "3", "4"]
    assert all(each.version == each.mlflow_version for each in found)
    assert [one.version for one in here.models.versions(name) if "best" in one.aliases] == [found[1].version]


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
            assert registry._alias(uri, model) == version


def test_the_best_moves_only_to_a_better_value(here: Shelf, registered: Registered, name: str) -> None:
    steps: list[tuple[float, dict[str, Any], str]] = [
        (math.nan, {}, ""),
        (-10.0, {}, "2"),
        (-11.0, {}, "2"),
        (-10.0, {}, "2"),
        (math.nan, {}, "2"),
        (math.inf, {}, "2"),
        (50.0, {"metric": "val/rate", "mode": "min"}, "2"),
        (50.0, {"overrides": ("model.likelihood.kind=bernoulli",)}, "2"),
        (50.0, {"overrides": ("data.binarize=threshold",)}, "2"),
        (-9.0, {}, "10"),
    ]
    for value, options, expected in steps:
        registered(value, **options)
        assert "".join(best(here, name)) == expected, (value, options)


def test_less_may_be_better(here: Shelf, registered: Registered, name: str) -> None:
    for value, expected in ((5.0, "1"), (6.0, "1"), (4.0, "3")):
        registered(value, mode="min", metric="val/rate")
        assert best(here, name) == [expected]


def test_fault_01_who_moves_mlflows_alias_moves_nothing(
    here: Shelf, uri: str, registered: Registered, name: str
) -> None:
    """The best is the service's; the difference is said, and goes with the next version or the dispatcher's turn."""
    for value in (1.0, 9.0):
        registered(value)
    client(uri).set_registered_model_alias(name, "best", "1")
    assert [one.version for one in here.models.versions(name) if "best" in one.aliases] == ["2"]
    (said,) = registry.differences(uri, here.models.versions(name))
    assert f"{name}@best is on version 1; the service's best is 2" in said
    registered(0.5)
    assert best(here, name) == ["2"]
    assert registry.differences(uri, here.models.versions(name)) == []


def test_fault_01_a_strangers_version_is_never_taken_for_the_jobs(here: Shelf, uri: str, name: str) -> None:
    """Tags are anybody's to write: one with the job's id and other files was tagged, described and made the best."""
    job = here.job(name)
    here.checkpoint(job, **{"val/elbo": 1.0})
    door = client(uri)
    door.create_registered_model(name)
    door.create_model_version(name, "s3://elsewhere/evil", tags={"vaesvc.job_id": job.id}, await_creation_for=0)
    version = here.register(job)
    assert (version.version, version.mlflow_version) == ("2", "2")
    assert best(here, name) == ["2"]
    (said,) = registry.differences(uri, here.models.versions(name))
    assert "MLflow has version 1" in said
    assert "did not make" in said


def test_fault_01_an_attempt_cannot_have_the_alias_put_on_a_strangers_version(
    here: Shelf, uri: str, registered: Registered, name: str
) -> None:
    """It says which number its version has in MLflow, and the dispatcher moves the alias."""
    registered(1.0)
    door = client(uri)
    evil = door.create_model_version(name, "s3://elsewhere/evil", await_creation_for=0).version
    job = here.job(name)
    checkpoint = here.checkpoint(job, **{"val/elbo": 9.0})
    registry._store(here.artifacts, job, checkpoint, name)
    lying = here.models.sign(job, {}, int(evil), number=1)
    assert lying.best == lying.version
    registry.show_best(uri, lying.version)
    assert registry.put_back(uri, here.models.versions(name)) == []
    assert registry._alias(uri, name) == "1"
    assert len(registry.differences(uri, here.models.versions(name))) == 2


def test_what_a_crash_left_is_mended(
    here: Shelf, uri: str, artifacts: Artifacts, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the upload, before the version, before the signature, before the alias; and a second version."""
    job = here.job(name)
    here.checkpoint(job, **{"val/elbo": 1.0})
    source = artifacts.uri("models", name, job.id)
    artifacts.put_bytes(f"{source}/model.safetensors", b"half")
    door = client(uri)
    door.create_registered_model(name)

    def killed(number: int | None) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        here.choice(job).register(uri, artifacts, killed)
    assert (here.models.versions(name), in_mlflow(uri, name)) == ([], ["1"])
    assert here.register(job).version == "1"
    artifacts.get_directory(source, tmp_path / "mended")
    artifacts.delete_prefix(f"{source}/signature.json")
    door.create_model_version(name, source, tags={"vaesvc.job_id": job.id})
    door.delete_registered_model_alias(name, "best")
    monkeypatch.setattr(registry, "STALE_SECONDS", -1.0)
    assert here.register(job).aliases == ("best",)
    assert in_mlflow(uri, name) == ["1"]
    assert best(here, name) == ["1"]
    assert artifacts.get_bytes(f"{source}/signature.json")


def test_a_version_is_signed_while_mlflow_is_away(
    here: Shelf, uri: str, artifacts: Artifacts, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "PATIENCE", 0.1)
    job = here.job(name)
    here.checkpoint(job, **{"val/elbo": 1.0})
    models = here.models
    with pytest.raises(UnavailableError):
        here.choice(job).register("http://127.0.0.1:9", artifacts, lambda number: models.sign(job, {}, number))
    (version,) = models.versions(name)
    assert (version.version, version.aliases, version.mlflow_version) == ("1", ("best",), None)
    assert here.register(job).mlflow_version == "1"
    assert best(here, name) == ["1"]


def test_a_corrupt_checkpoint_is_not_registered(here: Shelf, artifacts: Artifacts, name: str) -> None:
    job = here.job(name)
    checkpoint = here.checkpoint(job, **{"val/elbo": 1.0})
    artifacts.put_bytes(f"{checkpoint.uri}model.safetensors", b"tampered")
    with pytest.raises(CorruptObjectError, match=r"model\.safetensors is not what was stored"):
        here.register(job)
    assert here.models.versions(name) == []


# --- what the service reads before it signs -------------------------------------------------------------------------


def rewrite(artifacts: Artifacts, source: str, changes: dict[str, bytes]) -> None:
    """With a manifest that agrees: what somebody with the bucket's keys can do."""
    manifest = json.loads(artifacts.get_bytes(f"{source}/manifest.json"))
    for file, data in changes.items():
        artifacts.put_bytes(f"{source}/{file}", data)
        manifest["files"][file] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    artifacts.put_bytes(f"{source}/manifest.json", json.dumps(manifest).encode())


EVIL = b"flavors: {python_function: {loader_module: evil, code: code}}"
ATTACKS: dict[str, tuple[dict[str, bytes], str]] = {
    "another loader": ({"MLmodel": EVIL}, "names the loader 'evil'"),
    "code": ({"code/evil.py": b"import os"}, r"code/evil\.py"),
    "pickle": ({"model.pkl": b"\x80\x04."}, r"model\.pkl"),
    "other weights": ({"model.safetensors": b"x" * 100}, r"model\.safetensors is not the one of its checkpoint"),
    "another config": ({"config.json": b"{}"}, r"config\.json is not the one of its checkpoint"),
}


def test_a_registered_model_knows_the_words_of_its_checkpoint(
    here: Shelf, artifacts: Artifacts, name: str, tmp_path: Path
) -> None:
    """By the digest of their vocabulary; a manifest that says another, or none, is not signed."""
    job, digest = here.job(name), hashlib.sha256(b"words").hexdigest()
    here.checkpoint(job, checkpoint_folder(tmp_path / "checkpoint", job, vocabulary=digest), **{"val/elbo": 1.0})
    source = here.register(job).source
    assert folders.read(artifacts.get_directory(source, tmp_path / "model")).vocabulary == digest
    manifest = json.loads(artifacts.get_bytes(f"{source}/manifest.json"))
    for said in ({"vocabulary": "0" * 64}, {}):
        told = {key: value for key, value in manifest.items() if key != "vocabulary"} | said
        artifacts.put_bytes(f"{source}/manifest.json", json.dumps(told).encode())
        with pytest.raises(UntrustedError, match="says another vocabulary than its checkpoint"):
            here.models.sign(job, {}, 1, number=1)


@pytest.mark.parametrize("attack", ATTACKS)
def test_fault_01_the_service_signs_nothing_but_the_jobs_own_checkpoint(
    here: Shelf, artifacts: Artifacts, name: str, attack: str
) -> None:
    """An attempt stores the files, with the bucket's keys; the service reads all of them before it signs."""
    job = here.job(f"{name}-{attack.replace(' ', '-')}")
    here.checkpoint(job, **{"val/elbo": 1.0})
    uri = registry._store(artifacts, job, here.choice(job).checkpoint, str(job.spec["register_as"]))
    changes, words = ATTACKS[attack]
    rewrite(artifacts, uri, changes)
    with pytest.raises(UntrustedError, match=words):
        here.models.sign(job, {}, 1, number=1)
    artifacts.delete_prefix(uri)
    registry._store(artifacts, job, here.choice(job).checkpoint, str(job.spec["register_as"]))
    artifacts.put_bytes(f"{uri}/{next(iter(changes))}", b"altered, and the manifest as it was")
    if next(iter(changes)) in ("MLmodel", "model.safetensors", "config.json"):
        with pytest.raises(UntrustedError, match="altered in the bucket"):
            here.models.sign(job, {}, 1, number=1)
        assert here.models.versions(str(job.spec["register_as"])) == []


def test_fault_01_an_attempt_names_no_checkpoint_but_its_jobs(here: Shelf, artifacts: Artifacts, name: str) -> None:
    """A study's winner is named by the attempt: only what lies in the study's own directory is read."""
    victim, job = here.job(name), here.job(name)
    stolen = here.checkpoint(victim, **{"val/elbo": 1.0})
    here.checkpoint(job, **{"val/elbo": 1.0})
    here.register(job)
    with pytest.raises(FencedError):
        here.models.sign(job, {}, 1, number=2)
    study = job.model_copy(update={"spec": STUDY | {"register_as": name}, "kind": "study"})
    winner = {
        "stage": "s", "trial": 0, "seed": 0, "assignment": {}, "metric": "val/elbo", "mode": "max", "mean": 1.0,
        "standard_error": None, "reason": "", "checkpoint": stolen.model_dump(), "config": job.spec["train"],
    }  # fmt: skip
    with pytest.raises(UntrustedError, match=f"not below .*/checkpoints/{job.id}/"):
        here.models.sign(study, {"winner": winner}, 1)
    for broken in ({}, {"winner": {}}, winner | {"checkpoint": 3}, winner | {"config": None, "mean": "x"}):
        with pytest.raises((UsageError, UntrustedError)):
            here.models.sign(study, {"winner": broken}, 1)


def test_a_new_key_signs_everything_again(here: Shelf, artifacts: Artifacts, registered: Registered, name: str) -> None:
    version = registered(1.0)
    path = here.folder / "signing-key"
    old = path.read_bytes()
    path.unlink()
    try:
        models = here.models
        (unsigned,) = models.versions(name)
        assert (unsigned.signed, unsigned.aliases, unsigned.value) == (False, (), None)
        with pytest.raises(NotFoundError, match="no alias 'best'"):
            models.files(Reference(name=name))
        with pytest.raises(UntrustedError, match="is not signed with the service's key"):
            models.files(Reference(name=name, version=1))
        (row,) = [row for row in models.unsigned() if row.name == name]
        weights = f"{version.source}/model.safetensors"
        right = artifacts.get_bytes(weights)
        artifacts.put_bytes(weights, right[::-1])
        with pytest.raises(UntrustedError, match="altered in the bucket"):
            models.sign_again(row)
        artifacts.put_bytes(weights, right)
        models.sign_again(row)
        assert models.versions(name) == [version]
        assert models.files(Reference(name=name)).version == "1"
    finally:
        path.write_bytes(old)


LOAD = """
import sys, mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))
assert "service.tracking" not in sys.modules and "boto3" in sys.modules
"""


def test_a_version_loads_by_its_alias_and_predicts_as_the_model(
    here: Shelf, uri: str, artifacts: Artifacts, registered: Registered, name: str, tmp_path: Path
) -> None:
    """In a user's process: mlflow alone, with pickle and model code forbidden."""
    version = registered(1.0)
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
    model: Any = checkpoints.load_model(here.folder / str(version.job_id))[0]
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


def test_fault_13b_mlflow_knows_what_a_model_takes(
    artifacts: Artifacts, registered: Registered, tmp_path: Path
) -> None:
    """The signature is shown, and refuses nothing that the loader takes; the example is one that it takes."""
    import mlflow.models
    import mlflow.pyfunc
    import pandas as pd

    folder = artifacts.get_directory(registered(1.0).source, tmp_path / "model")
    described = mlflow.models.Model.load(str(folder))
    for schema in (described.get_input_schema(), described.get_output_schema()):
        assert schema.is_tensor_spec()
        assert (schema.inputs[0].shape, schema.inputs[0].type) == ((-1, *SHAPE), np.dtype("float32"))
    model = mlflow.pyfunc.load_model(str(folder))
    assert model.metadata.get_input_schema() == described.get_input_schema()
    example = described.load_input_example(str(folder))
    assert np.asarray(example).shape == (1, *SHAPE)
    assert model.predict(example).shape == (1, *SHAPE)
    served = json.loads((folder / "serving_input_example.json").read_text())
    assert model.predict(served["inputs"]).shape == (1, *SHAPE)
    images = np.random.default_rng(1).random((7, *SHAPE))
    assert images.dtype == np.float64
    found = model.predict(images)
    for given in (images.astype(np.float32), images.reshape(7, -1), pd.DataFrame(images.reshape(7, -1))):
        np.testing.assert_allclose(model.predict(given), found, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="this model takes"):
        model.predict(images[:, 0, 0])


def test_fault_13b_a_run_shows_its_model_and_the_model_its_versions(here: Shelf, uri: str, name: str) -> None:
    job, door = here.job(name), client(uri)
    run_id = open_run(uri, job, number=1)
    door.log_metric(run_id, "val/elbo", -12.5, timestamp=1_700_000_000_000, step=5)
    here.checkpoint(job, **{"val/elbo": -12.5, "val/rate": 3.0, "train/loss": 4.0})
    for _ in range(2):
        here.register(job)
    run = door.get_run(run_id)
    (output,) = run.outputs.model_outputs
    model = door.get_logged_model(output.model_id)
    assert (model.name, model.model_type, str(model.status)) == (name, "vae", "READY")
    assert (model.source_run_id, model.params["model.latent"]) == (run_id, "16")
    linked = {metric.key: (metric.value, metric.step, metric.dataset_name) for metric in model.metrics}
    assert linked == {"val/elbo": (-12.5, 5, "digits"), "val/rate": (3.0, 5, "digits")}
    assert [(point.step, point.value) for point in door.get_metric_history(run_id, "val/elbo")] == [(5, -12.5)]
    version = door.get_model_version(name, "1")
    assert version.run_id == run_id
    assert [{"name": name, "version": 1}] == json.loads(model.tags["mlflow.modelVersions"])
    assert model.tags["vaesvc.files"] == version.source
    for part in (
        job.id,
        "digits; nats per datum of a density",
        "ann",
        f"/runs/{run_id}?workflowType=machine_learning)",
    ):
        assert part in version.description
    described = door.get_registered_model(name).description
    assert f'vaesvc.load("{name}@best")' in described


def test_fault_13b_what_a_reader_wrote_stays(here: Shelf, uri: str, name: str) -> None:
    job, door = here.job(name), client(uri)
    here.checkpoint(job, **{"val/elbo": 1.0})
    here.register(job)
    door.update_model_version(name, "1", description="shown in the paper")
    door.update_registered_model(name, "ours")
    here.register(job)
    assert door.get_model_version(name, "1").description == "shown in the paper"
    assert door.get_registered_model(name).description == "ours"


def test_fault_13b_many_at_once_log_one_model(here: Shelf, uri: str, name: str) -> None:
    job, door = here.job(name), client(uri)
    run_id = open_run(uri, job, number=1)
    here.checkpoint(job, **{"val/elbo": 1.0})
    with ThreadPoolExecutor(4) as pool:
        assert len({call.result().version for call in [pool.submit(here.register, job) for _ in range(4)]}) == 1
    experiment = door.get_run(run_id).info.experiment_id
    (model,) = door.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    assert {output.model_id for output in door.get_run(run_id).outputs.model_outputs} == {model.model_id}
