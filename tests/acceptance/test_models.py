"""A registered model, read by its users and attacked by others, on the embedded stack."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.tracking.server import client as mlflow_client
from tests import real_jobs
from tests.servers import wait_for

if TYPE_CHECKING:
    from tests.conftest import Stack

ROOT = Path(__file__).resolve().parents[2]
NAME = "digits-beta-vae-mlp"  # as `make quickstart` registers it
SMALL = ("steps=60", "checkpoint.every_steps=30", "evaluation.every_epochs=1", "evaluation.pictures=false")
OF_REALS = (*SMALL, "data.noise.kind=gaussian", "model.likelihood.kind=gaussian", "register_as=noisy-digits")
CANARY = "EVIL_CODE_WRITES_HERE"
EVIL = f"""
import os
open(os.environ["{CANARY}"], "w").close()

def _load_pyfunc(path):
    raise RuntimeError("a stranger's code ran")
"""
MLMODEL = """
flavors: {python_function: {loader_module: evil, code: code, python_version: 3.11.2}}
mlflow_version: 3.4.0
model_uuid: 00000000000000000000000000000000
utc_time_created: '2026-01-01 00:00:00.000000'
"""


@pytest.fixture(scope="module")
def job_id(stack: Stack) -> str:
    """A run of what quickstart submits, and beside it one whose data are reals."""
    reals = real_jobs.submit(stack, real_jobs.DIGITS, OF_REALS)
    job = real_jobs.submit(stack, real_jobs.DIGITS, SMALL)
    for one in (job, reals):
        real_jobs.until_over(stack, one)
    return job


@pytest.fixture(scope="module")
def mlflow(stack: Stack) -> Any:
    return mlflow_client(str(stack.mlflow_uri))


def reader(stack: Stack, code: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python of a user: the service's address and token, as `vaesvc up` left them, and no key of the bucket."""
    environment = {name: value for name, value in stack.environment.items() if not name.startswith(("AWS_", "MLFLOW_"))}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment | more, cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )


def described(stack: Stack, folder: Path, **more: str) -> str:
    """What `vaesvc.load` of the best makes of the digits; the exit code is 0."""
    code = f"""
import numpy, vaesvc
from sklearn.datasets import load_digits
print(numpy.round(vaesvc.load("{NAME}@best").predict(load_digits().data[:9] / 16), 5).tolist())
"""
    return real_jobs.ran(reader(stack, code, folder, PYTHONPATH=str(ROOT), **more))


# --- readers --------------------------------------------------------------------------------------------------------


def test_fault_06_the_readmes_python_works_as_it_stands(stack: Stack, job_id: str) -> None:
    """Copied into a fresh Python in the repository's folder, after what `make quickstart` does. It had no S3 keys."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [one for one in blocks if f"{NAME}@best" in one]
    shown = "\nprint(reconstructions.shape, reconstructions.min() >= 0, reconstructions.max() <= 1)"
    assert real_jobs.ran(reader(stack, block + shown, ROOT)).split(") ")[0] == "(1797, 1, 8, 8"


def test_fault_06_a_reader_imports_neither_mlflow_nor_boto3_nor_ray(stack: Stack, job_id: str, tmp_path: Path) -> None:
    code = f"""
import sys, vaesvc
assert not {{"service", "torch", "numpy"}} & set(sys.modules)
vaesvc.load("{NAME}")
print(sorted({{"mlflow", "boto3", "ray", "sqlalchemy"}} & set(sys.modules)))
"""
    assert real_jobs.ran(reader(stack, code, tmp_path, PYTHONPATH=str(ROOT))) == "[]\n"


def test_fault_08_a_model_of_reals_predicts(stack: Stack, job_id: str, tmp_path: Path) -> None:
    """Digits with Gaussian noise leave [0, 1]: the registered model refused its own data."""
    code = """
import numpy, vaesvc
x = numpy.random.default_rng(0).normal(size=(5, 1, 8, 8))
print(vaesvc.load("noisy-digits").predict(x).shape)
"""
    assert real_jobs.ran(reader(stack, code, tmp_path, PYTHONPATH=str(ROOT))) == "(5, 1, 8, 8)\n"


def test_fault_01_what_is_signed_is_shown_and_verified(stack: Stack, job_id: str) -> None:
    said = json.loads(real_jobs.ran(stack.vaesvc("verify", NAME, "--json")))
    listed = json.loads(real_jobs.ran(stack.vaesvc("models", "--json")))
    (ours,) = [one for one in listed if one["job_id"] == job_id]
    (best,) = [one for one in listed if one["name"] == NAME and one["aliases"] == ["best"]]
    assert (said["name"], said["job_id"], str(said["version"])) == (NAME, best["job_id"], best["version"])
    assert said["value"] == best["value"]
    assert ours["signed"]
    assert ours["version"] == ours["mlflow_version"]
    key = stack.settings().signing_key_file
    assert key.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" in key.read_bytes()


def test_fault_01_the_key_is_not_where_attempts_run(stack: Stack, job_id: str) -> None:
    """Neither in what an attempt is told nor in the cluster's environment."""
    from service.stack import process, state

    secret = stack.settings().signing_key_file.read_text().splitlines()[1]
    parts = process.members(state.mark(stack.home, "ray"), process.recorded(state.record(stack.home, "ray")))
    assert parts
    for one in parts:
        environment = Path(f"/proc/{one.pid}/environ")
        if environment.exists():
            assert secret.encode() not in environment.read_bytes()
    with real_jobs.client(stack) as door:
        assert secret not in door.job(job_id).model_dump_json()


# --- attacks through MLflow -----------------------------------------------------------------------------------------


@pytest.fixture
def strangers(stack: Stack, job_id: str, mlflow: Any, tmp_path: Path) -> Iterator[str]:
    """A version with code of a stranger's own under the service's model, `best` moved to it. Its number."""
    folder = tmp_path / "evil"
    (folder / "code").mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "code" / "evil.py").write_text(EVIL)
    run = mlflow.create_run("0").info.run_id
    mlflow.log_artifacts(run, str(folder), "model")
    source = f"{mlflow.get_run(run).info.artifact_uri}/model"
    tags = {"vaesvc.job_id": job_id, "vaesvc.metric": "val/elbo", "vaesvc.value": "1000.0", "vaesvc.mode": "max"}
    number = mlflow.create_model_version(NAME, source, run_id=run, tags=tags, await_creation_for=0).version
    mlflow.set_registered_model_alias(NAME, "best", number)
    yield str(number)
    mlflow.delete_model_version(NAME, number)


def test_fault_01_a_strangers_code_is_not_run(stack: Stack, strangers: str, mlflow: Any, tmp_path: Path) -> None:
    """What README told readers to call ran it, by MLflow's defaults. `vaesvc` gives the service's best, and says so."""
    uri = stack.mlflow_uri
    plain = f"""
from service.tracking.server import client
client({uri!r})
import mlflow
mlflow.set_tracking_uri({uri!r})
mlflow.pyfunc.load_model("models:/{NAME}/{strangers}")
"""
    canary = tmp_path / "canary"
    more = {CANARY: str(canary), "PYTHONPATH": str(ROOT)}
    ran = reader(stack, plain, tmp_path, **more)
    assert canary.exists(), f"the attack is none: plain MLflow does not run the code\n{ran.stderr}"
    assert "a stranger's code ran" in ran.stderr
    canary.unlink()

    assert described(stack, tmp_path, **{CANARY: str(canary)})
    pulled = tmp_path / "pulled"
    real_jobs.ran(stack.vaesvc("pull", NAME, str(pulled), **{CANARY: str(canary)}))
    assert "loader_module: service.pyfunc" in (pulled / "MLmodel").read_text()
    refused = stack.vaesvc("pull", f"{NAME}/{strangers}", str(tmp_path / "out"))
    assert f"has no version {strangers}" in refused.stderr
    assert refused.returncode == 2
    assert not canary.exists()

    listed = stack.vaesvc("models")
    assert f"MLflow has version {strangers} of '{NAME}', which this service did not make" in listed.stderr

    def put_back() -> bool:
        return str(mlflow.get_model_version_by_alias(NAME, "best").version) != strangers

    wait_for(put_back, 60, "the dispatcher does not put the alias back", every=real_jobs.LOOK_SECONDS)


def test_fault_02_a_version_of_another_prefix_is_never_presigned(
    stack: Stack, job_id: str, mlflow: Any, tmp_path: Path
) -> None:
    """Everything in the bucket could be pulled by a name in MLflow: here a checkpoint of somebody's job."""
    with real_jobs.client(stack) as door:
        elsewhere = door.job(job_id).checkpoints[0].uri.rstrip("/")
        number = mlflow.create_model_version(NAME, elsewhere, await_creation_for=0).version
        mlflow.set_registered_model_alias(NAME, "best", number)
        try:
            addresses = door.model_files(NAME).files.values()
            refused = stack.vaesvc("pull", NAME, str(tmp_path / "out"), "--version", str(number))
        finally:
            mlflow.delete_model_version(NAME, number)
    assert all("/models/" in address and "/checkpoints/" not in address for address in addresses)
    assert refused.returncode == 2
    assert not (tmp_path / "out").exists()


# --- attacks on the bucket ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agreeing", [False, True], ids=["the-weights", "the-weights-and-the-manifest"])
def test_fault_01_files_rewritten_in_the_bucket_are_refused(
    stack: Stack, job_id: str, tmp_path: Path, agreeing: bool
) -> None:
    artifacts = real_jobs.artifacts(stack)
    with real_jobs.client(stack) as door:
        (source,) = [one.source for one in door.models() if one.name == NAME and one.aliases]
    before = {item.uri: artifacts.get_bytes(item.uri) for item in artifacts.list(source)}
    weights = f"{source}/model.safetensors"
    other = before[weights][:-64] + bytes(64)
    assert described(stack, tmp_path)
    try:
        artifacts.put_bytes(weights, other)
        if agreeing:
            manifest = json.loads(before[f"{source}/manifest.json"])
            manifest["files"]["model.safetensors"]["sha256"] = hashlib.sha256(other).hexdigest()
            artifacts.put_bytes(f"{source}/manifest.json", json.dumps(manifest).encode())
        code = f"""
import vaesvc
try:
    vaesvc.load("{NAME}@best")
except Exception as error:
    print(type(error).__name__, error)
"""
        said = real_jobs.ran(reader(stack, code, tmp_path, PYTHONPATH=str(ROOT)))
        pulled = stack.vaesvc("pull", NAME, str(tmp_path / "out"))
    finally:
        for uri, data in before.items():
            artifacts.put_bytes(uri, data)
    name, words = ("UntrustedError", "not the one that was signed") if agreeing else ("CorruptObjectError", "SHA-256")
    assert said.startswith(name)
    assert words in said
    assert said.count("\n") == 1
    assert pulled.returncode == 1
    assert words in pulled.stderr
    assert not (tmp_path / "out").exists()
    assert described(stack, tmp_path)
