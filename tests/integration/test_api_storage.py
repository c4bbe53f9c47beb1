"""Logs and models through the API and the command line, from a real S3 server and a real MLflow."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import __version__, signing, wire
from service.artifacts import Artifacts
from service.client import Client
from service.download import Fetched, fetch, trusted_keys
from service.errors import ConflictError, NotFoundError, StorageError, UnavailableError, UntrustedError, VaesvcError
from service.kinds.train.spec import TrainSpec, resolve
from service.model_files import PAYLOAD_TYPE, reference
from service.queue.jobs import Job
from service.settings import S3Settings
from service.signing import read_key
from service.tracking.server import client as mlflow
from tests import bad_servers
from tests.api_server import Api, running_api, settings_in
from tests.command import RECIPE, start, vaesvc
from tests.golden.recipes import generated
from tests.registered import Shelf
from tests.servers import Mlflow
from vae_models.training.context import LocalContext
from vae_models.training.loop import train


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


def finish(api: Api, job: Job, number: int, outcome: str, **fields: object) -> None:
    (attempt,) = [one for one in api.store.detail(job.id).attempts if one.number == number]
    with api.attempt_client(attempt) as runner:
        request = {"runner_id": "r", "outcome": outcome, **fields}
        runner.finish(wire.FinishRequest.model_validate(request))


def test_a_log_is_read_as_it_grows_and_after_the_end(api: Api, client: Client, artifacts: Artifacts) -> None:
    job = running_job(api, client)
    assert client.logs(job.id) == wire.LogChunk(text="", offset=0, attempt=1, complete=False)  # not shipped yet
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
def here(api: Api, artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """The API's own queue, key and bucket."""
    key = api.settings.signing_key_file.parent
    return Shelf(store=api.store, artifacts=artifacts, mlflow_uri=api.settings.mlflow_uri, folder=key)


@pytest.fixture(scope="module")
def model(here: Shelf) -> wire.ModelVersion:
    """One registered version."""
    return here.registered("pulled", -12.5)


@pytest.fixture
def fetched(client: Client, api: Api) -> Callable[..., Fetched]:
    """As a reader's process does it, by the API's own answers or by others."""

    def call(into: Path, files: wire.ModelFiles | None = None, asked: str = "pulled", **more: str) -> Fetched:
        wanted = reference(asked)
        answer = files or client.model_files(wanted.name, version=wanted.version)
        keys = trusted_keys(client, api.settings.model_copy(update=more))
        return fetch(answer, into, asked=wanted, keys=keys, report=print)

    return call


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


def test_the_readmes_commands_use_a_registered_model(
    here: Shelf, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, one after another, on the best version that the service has signed."""
    here.registered("digits-beta-vae-mlp", -20.0)
    root = Path(__file__).resolve().parents[2]
    blocks = re.findall(r"```bash\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    (block,) = [one for one in blocks if "vaesvc encode" in one]
    monkeypatch.chdir(tmp_path)
    said = ""
    for line in filter(None, block.splitlines()):
        program, *arguments = shlex.split(line, comments=True)
        assert program == "vaesvc"
        said += vaesvc(env, *arguments).stderr
    pictures = {f"{name}.png" for name in ("reconstructions", "samples", "ways", "dimensions")}
    made = {path.name for path in tmp_path.iterdir()} - {"home"}
    assert made == {"latents.parquet", "scores.parquet", "programs", "CARD.md", "model", *pictures}
    assert said.count("digits-beta-vae-mlp version 1") >= 9
    assert "| chosen by | val/elbo = -20 |" in (tmp_path / "CARD.md").read_text()
    for name in pictures:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


PREDICT = """
import sys, mlflow, numpy as np, vaesvc
folder, given = sys.argv[1], np.load(sys.argv[2])
loaded = mlflow.pyfunc.load_model(folder), vaesvc.load("motion@best")
means = [model.predict(given) for model in (*loaded, *loaded)]
assert all(np.array_equal(means[0], other) for other in means)
np.save(sys.argv[3], means[0])
for model in loaded:
    try:
        model.predict(given[..., :7])
    except Exception as error:
        print(error)
"""


def test_a_model_of_joint_angles_predicts_by_mlflow_and_by_vaesvc(
    here: Shelf, env: dict[str, str], tmp_path: Path
) -> None:
    """x is in radians, outside [0, 1] for the most part; trained, registered, pulled."""
    job = here.job("motion", "steps=6", "batch_size=8", "evaluation.every_epochs=0.1", recipe="cmu-motion/iwae")
    config = TrainSpec.model_validate(job.spec).train
    dataset = generated(config)
    train(config, LocalContext(tmp_path / "run"), dataset=dataset)
    here.checkpoint(job, tmp_path / "run" / "checkpoints" / "step-0000000006", step=6, **{"val/elbo": -3.0})
    here.register(job)
    vaesvc(env, "pull", "motion", str(tmp_path / "model"))
    x = dataset.test.x.numpy()
    assert x.min() < 0
    assert x.max() > 1
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, "-c", PREDICT, *(str(tmp_path / name) for name in ("model", "x.npy", "means.npy"))]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("this model takes [n, 50]") == 2
    assert np.load(tmp_path / "means.npy").shape == x.shape


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch"], ["nosuch", "pulled"]),
        (["pulled", "--version", "7"], ["version 7", "1 @best"]),
        (["pulled/7"], ["version 7", "1 @best"]),
        (["pulled", "--alias", "worst"], ["'worst'", "@best"]),
        (["pulled@worst"], ["'worst'", "@best"]),
        (["pulled", "--alias", "best", "--version", "1"], ["not both"]),
        (["pulled@best", "--version", "1"], ["already"]),
        (["../pulled"], ["names no model"]),
    ],
)
def test_pull_says_what_there_is(
    model: wire.ModelVersion, env: dict[str, str], tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    name, *options = arguments
    done = vaesvc(env, "pull", name, str(tmp_path / "out"), *options, code=2)
    assert not [word for word in words if word not in done.stderr], done.stderr
    assert not (tmp_path / "out").exists()


def test_pull_overwrites_nothing(fetched: Callable[..., Fetched], model: wire.ModelVersion, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConflictError, match="not empty"):
        fetched(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert fetched(tmp_path / "empty").bytes > 1000


def test_fault_13_a_pull_that_is_cut_off_leaves_nothing_and_can_be_repeated(
    client: Client,
    fetched: Callable[..., Fetched],
    model: wire.ModelVersion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first files come, the weights from a server that is bad in every way that one can be."""
    for name, seconds in (("CONNECT_SECONDS", 0.5), ("READ_SECONDS", 0.5), ("RETRY_SECONDS", 0.0)):
        monkeypatch.setattr(f"service.download.{name}", seconds)
    files = client.model_files("pulled")
    for way in bad_servers.WAYS:
        with bad_servers.bad_server(way, tmp_path) as url:
            cut = files.files | {"model.safetensors": f"{url}/model.safetensors"}
            with pytest.raises(VaesvcError) as raised:
                fetched(tmp_path / "into" / "model", files.model_copy(update={"files": cut}))
        assert len(str(raised.value).splitlines()) == 1
        assert list((tmp_path / "into").iterdir()) == []  # neither the folder nor what it was to become
    assert fetched(tmp_path / "into" / "model").files > 1
    assert fetched(tmp_path / "into" / "model").files == 0  # it is there


def test_presigned_addresses_hold_no_secret(client: Client, artifacts: Artifacts, model: wire.ModelVersion) -> None:
    secret = artifacts.settings.secret_key
    assert secret
    assert secret not in client.model_files("pulled").model_dump_json()


# --- attacks on a registered model ----------------------------------------------------------------------------------


@pytest.fixture
def restored(artifacts: Artifacts, model: wire.ModelVersion) -> Iterator[str]:
    """The model's address, whose objects are as they were when the test ends."""
    before = {item.uri: artifacts.get_bytes(item.uri) for item in artifacts.list(model.source)}
    yield model.source
    for item in artifacts.list(model.source):
        if item.uri not in before:
            artifacts.delete_prefix(item.uri)
    for uri, data in before.items():
        artifacts.put_bytes(uri, data)


def test_fault_01_an_altered_object_is_refused_and_leaves_nothing(
    fetched: Callable[..., Fetched], artifacts: Artifacts, restored: str, tmp_path: Path
) -> None:
    uri = f"{restored}/model.safetensors"
    right = artifacts.get_bytes(uri)
    artifacts.put_bytes(uri, right[:-1] + bytes([right[-1] ^ 1]))
    with pytest.raises(StorageError, match="SHA-256"):
        fetched(tmp_path / "out")
    artifacts.put_bytes(uri, right + bytes(100))
    with pytest.raises(UntrustedError, match=f"more than the {len(right)} bytes"):
        fetched(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "MLmodel", "model.pkl"])
def test_fault_01_objects_altered_with_a_manifest_that_agrees_are_refused(
    client: Client, env: dict[str, str], artifacts: Artifacts, restored: str, tmp_path: Path, file: str
) -> None:
    """Who has the bucket's keys can write both; the signature is about the manifest."""
    data = b"\x80\x04."
    manifest = json.loads(artifacts.get_bytes(f"{restored}/manifest.json"))
    manifest["files"][file] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    artifacts.put_bytes(f"{restored}/{file}", data)
    artifacts.put_bytes(f"{restored}/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(UntrustedError, match=r"its manifest\.json is not the one that was signed"):
        client.model_files("pulled")
    for arguments in (["pull", "pulled", str(tmp_path / "out")], ["verify", "pulled"]):
        assert "is not the one that was signed" in vaesvc(env, *arguments, code=1).stderr
    assert list(tmp_path.iterdir()) == []


def test_fault_01_the_reader_checks_by_itself(
    client: Client, here: Shelf, fetched: Callable[..., Fetched], model: wire.ModelVersion, tmp_path: Path
) -> None:
    """Whatever the API says: a signature of another name, version or key, addresses of other files."""
    files, other, second = client.model_files("pulled"), here.registered("other", 1.0), here.registered("pulled", -99.0)
    of_other = client.model_files("other")
    of_second = client.model_files("pulled", version=int(second.version))
    stranger = read_key(tmp_path / "stranger")
    forged = stranger.sign(signing.payload(files.envelope), PAYLOAD_TYPE)
    attacks: list[tuple[dict[str, Any], str]] = [
        ({"envelope": of_other.envelope}, "its signature is about other version 1"),
        ({"envelope": of_second.envelope}, "its signature is about pulled version 2"),
        ({"envelope": forged}, "not signed by a key that is trusted"),
        ({"envelope": "{}"}, "no signature that can be read"),
        ({"files": of_other.files}, r"its manifest\.json is not the one that was signed"),
        (
            {"files": {name: files.files[name] for name in files.files if name != "MLmodel"}},
            "no address for its MLmodel",
        ),
        ({"files": files.files | {"MLmodel": files.files["config.json"]}}, r"SHA-256|more than"),
    ]
    for change, words in attacks:
        with pytest.raises(StorageError, match=words):
            fetched(tmp_path / "out", files.model_copy(update=change))
    with pytest.raises(UntrustedError, match="pulled/1 was asked for, and its signature is about pulled version 2"):
        fetched(tmp_path / "out", of_second, asked="pulled/1")
    with pytest.raises(UntrustedError, match="other@best was asked for"):
        fetched(tmp_path / "out", files, asked="other")
    assert [path.name for path in tmp_path.iterdir()] == ["stranger"]
    assert other.name == "other"


def test_fault_01_a_reader_may_pin_the_key(
    api: Api,
    client: Client,
    fetched: Callable[..., Fetched],
    model: wire.ModelVersion,
    env: dict[str, str],
    tmp_path: Path,
) -> None:
    (key,) = client.keys()
    stranger = read_key(tmp_path / "stranger").public
    assert fetched(tmp_path / "one", verify_key=key).statement.name == "pulled"
    assert fetched(tmp_path / "two", verify_key=f"{stranger}, {key}").statement.name == "pulled"
    with pytest.raises(UntrustedError, match=r"trusts .* alone: is this another service, or was its key replaced"):
        fetched(tmp_path / "three", verify_key=stranger)
    done = vaesvc(env | {"VAESVC_VERIFY_KEY": stranger}, "pull", "pulled", str(tmp_path / "four"), code=1)
    assert "verify_key (from VAESVC_VERIFY_KEY)" in done.stderr
    assert "is no public key" in vaesvc(env | {"VAESVC_VERIFY_KEY": "x"}, "verify", "pulled", code=2).stderr
    said = json.loads(vaesvc(env | {"VAESVC_VERIFY_KEY": key}, "verify", "pulled@best", "--json").stdout)
    assert (said["name"], said["version"], said["value"]) == ("pulled", 1, -12.5)


def test_fault_02_a_version_in_mlflow_that_points_elsewhere_is_never_presigned(
    client: Client, here: Shelf, artifacts: Artifacts, model: wire.ModelVersion
) -> None:
    """It was pulled, with the service's keys: whatever was in the bucket, under the name of a model."""
    secret = artifacts.uri("secrets", "x")
    artifacts.put_bytes(f"{secret}/manifest.json", b'{"files": {}}')
    door = mlflow(str(here.mlflow_uri))
    made = door.create_model_version("pulled", secret, await_creation_for=0)
    door.set_registered_model_alias("pulled", "best", made.version)
    assert client.model_files("pulled").version == "1"
    with pytest.raises(NotFoundError, match=f"has no version {made.version}"):
        client.model_files("pulled", version=int(made.version))
    said = " ".join(client.mirror().differences)
    assert f"MLflow has version {made.version} of 'pulled', which this service did not make" in said
    assert f"pulled@best is on version {made.version}; the service's best is 1" in said
    for listed in client.models():
        assert listed.source.startswith(artifacts.uri("models"))


def test_mlflow_that_is_away_hides_no_model(artifacts: Artifacts, tmp_path: Path) -> None:
    storage = S3Settings.model_validate(artifacts.settings.model_dump())
    with running_api(settings_in(tmp_path, s3=storage, mlflow_uri="http://127.0.0.1:9")) as api, api.client() as client:
        assert client.models() == []
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"):
            client.mirror()
        assert client.health().ok
