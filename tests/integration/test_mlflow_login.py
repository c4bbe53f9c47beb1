"""MLflow behind the service's login, as it is started: its clients, its pages, and who comes without a token."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow.exceptions import MlflowException

from service import auth
from service.errors import AuthError
from service.queue.store import Store
from service.tracking import login
from service.tracking.gate import KNOWN_SECONDS
from service.tracking.server import check, client
from tests.servers import Mlflow

WHAT = "/api/2.0/mlflow"


@pytest.fixture(scope="module")
def store(mlflow_server: Mlflow) -> Iterator[Store]:
    queue = Store(mlflow_server.settings.database_url)
    queue.migrate()
    yield queue
    queue.close()


@pytest.fixture(scope="module")
def token(store: Store) -> str:
    """An ordinary user's."""
    made = auth.new_token()
    store.add_token("ann", made)
    return made


@pytest.fixture(scope="module")
def address(mlflow_server: Mlflow) -> str:
    return str(mlflow_server.settings.mlflow_uri)


def ask(method: str, url: str, token: str | None = None, **options: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.request(method, url, headers=headers, trust_env=False, timeout=30, **options)  # type: ignore[arg-type]


def test_fault_01_without_a_token_mlflow_answers_nothing_but_that_it_lives(address: str) -> None:
    assert ask("GET", f"{address}/health").text == "OK"
    calls = [
        ("GET", "/"), ("GET", "/version"), ("GET", f"{WHAT}/experiments/get?experiment_id=0"), ("POST", "/graphql"),
        ("POST", f"{WHAT}/experiments/create"), ("POST", f"{WHAT}/runs/create"),
        ("POST", f"{WHAT}/model-versions/create"), ("POST", f"{WHAT}/registered-models/alias"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/2/artifacts/x"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts"), ("GET", "/ajax-api/3.0/mlflow/server-info"),
        ("POST", "/ajax-api/3.0/mlflow/assistant/message"), ("POST", "/v1/traces"),
    ]  # fmt: skip
    for method, path in calls:
        assert ask(method, address + path, json={} if method == "POST" else None).status_code == 401, path


def test_fault_01_a_user_cannot_move_an_alias_to_a_version_of_their_own(
    mlflow_server: Mlflow, address: str, token: str
) -> None:
    """The attack: code of one's own registered under an existing name, and `best` moved to it."""
    door = client(mlflow_server.uri)
    door.create_registered_model("victim")
    door.create_model_version("victim", "s3://vaesvc/models/victim/1")
    version = {"name": "victim", "source": "s3://vaesvc/mlflow/evil"}
    alias = {"name": "victim", "alias": "best", "version": "1"}
    assert ask("POST", f"{address}{WHAT}/model-versions/create", token, json=version).status_code == 403
    assert ask("POST", f"{address}{WHAT}/registered-models/alias", token, json=alias).status_code == 403
    assert ask("DELETE", f"{address}{WHAT}/registered-models/delete", token, json={"name": "victim"}).status_code == 403
    place = {"name": "theirs", "artifact_location": "s3://vaesvc/models/victim/1"}
    assert ask("POST", f"{address}{WHAT}/experiments/create", token, json=place).status_code == 403
    found = ask("GET", f"{address}{WHAT}/registered-models/get?name=victim", token).json()["registered_model"]
    assert (len(found["latest_versions"]), found.get("aliases")) == (1, None)


LOG = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("of a user")
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 1.0)
    mlflow.log_text("kept", "deep/note.txt")
assert mlflow.artifacts.load_text(run.info.artifact_uri + "/deep/note.txt") == "kept"
print(mlflow.MlflowClient().get_run(run.info.run_id).data.metrics)
"""


@pytest.mark.parametrize("how", ["token", "password"])
def test_a_user_logs_with_plain_mlflow(address: str, token: str, how: str, tmp_path: Path) -> None:
    given = {"MLFLOW_TRACKING_TOKEN": token}
    if how == "password":
        given = {"MLFLOW_TRACKING_USERNAME": "whoever", "MLFLOW_TRACKING_PASSWORD": token}
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **given}
    command = [sys.executable, "-c", LOG, address]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "{'loss': 1.0}"


def test_a_revoked_token_is_out_within_seconds(address: str, store: Store) -> None:
    made = auth.new_token()
    store.add_token("leaves", made)
    assert ask("GET", f"{address}/version", made).status_code == 200
    store.revoke_token("leaves")
    time.sleep(KNOWN_SECONDS + 0.5)
    assert ask("GET", f"{address}/version", made).status_code == 401


def test_what_is_refused_says_how_to_sign_in_and_shows_no_token(mlflow_server: Mlflow, address: str) -> None:
    with pytest.raises(AuthError, match="your token of this service as the password"):
        check(address)
    wrong = auth.new_token()
    settings = mlflow_server.settings.model_copy(update={"token_file": None, "token": None})
    uri = login.for_user(settings)
    assert uri == address
    signed = address.replace("http://", f"http://user:{wrong}@")
    with pytest.raises(AuthError, match="is not known here") as caught:
        check(signed)
    assert wrong not in str(caught.value)
    with pytest.raises(MlflowException) as raw:
        client(signed).get_run("0" * 32)
    assert wrong not in f"{raw.value}{raw.value.__cause__}"
    log = mlflow_server.log.read_text()
    assert wrong not in log
    assert auth.tracking_token(mlflow_server.secret) not in log
