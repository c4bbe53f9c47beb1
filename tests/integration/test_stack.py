"""The embedded stack on real parts: started once for the session, then killed piece by piece."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import settings
from service import stack as embedded
from service.artifacts import Artifacts
from service.client import Client
from service.errors import StorageError, UnavailableError, UsageError
from service.stack import process, state
from service.stack.control import UNITS
from service.tracking import login
from tests.conftest import Stack, leftovers

PARTS = ["s3", "mlflow", "ray", "api", "dispatcher"]


def identity(home: Path, part: str) -> process.Identity:
    found = process.recorded(state.record(home, part))
    assert found is not None
    return found


def identities(home: Path) -> dict[str, process.Identity]:
    return {part: identity(home, part) for part in PARTS}


def kill(home: Path, part: str) -> None:
    victim = identity(home, part)
    os.kill(victim.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while process.alive(victim):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def up(stack: Stack) -> list[str]:
    """`vaesvc up`; its progress lines."""
    done = stack.vaesvc("up", seconds=240)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


# --- what it offers -------------------------------------------------------------------------------------------------


def test_every_part_answers_and_says_where(stack: Stack) -> None:
    parts = {part.name: part for part in embedded.status(stack.settings())}
    assert list(parts) == ["database", *PARTS]
    assert all(part.ok for part in parts.values()), parts
    assert all(parts[name].pid and parts[name].log and parts[name].log.exists() for name in PARTS)
    assert stack.vaesvc("status").returncode == 0


def test_all_that_is_secret_is_closed_to_others(stack: Stack) -> None:
    assert stack.home.stat().st_mode & 0o077 == 0
    for name in ("stack.json", "secret", "s3-secret", "token", "ray-token", "s3/etc/proxy-server.conf"):
        assert (stack.home / name).stat().st_mode & 0o777 == 0o600, name
    secrets = [(stack.home / name).read_text().strip() for name in ("s3-secret", "token", "ray-token")]
    shown = stack.vaesvc("status", "--json").stdout + stack.vaesvc("doctor").stdout
    logs = "".join(path.read_text(errors="replace") for path in (stack.home / "logs").iterdir())
    assert not any(secret in shown or secret in logs for secret in secrets)
    for part in PARTS:  # other users see command lines
        command = Path(f"/proc/{identity(stack.home, part).pid}/cmdline").read_text()
        assert not any(secret in command for secret in secrets), part


def test_the_bucket_keeps_what_it_is_given_and_refuses_wrong_keys(stack: Stack) -> None:
    storage = stack.settings().storage()
    artifacts = Artifacts(storage)
    uri = artifacts.uri("test_stack", "ä b+&.bin")
    body = os.urandom(9 * 2**20)
    artifacts.put_bytes(uri, body)
    assert artifacts.get_bytes(uri) == body
    assert artifacts.get_bytes(uri, start=len(body) - 3) == body[-3:]
    assert httpx.get(artifacts.presign(uri, 60), trust_env=False).content == body
    plain = f"{storage.endpoint_url}/{storage.bucket}/test_stack/x"
    assert httpx.get(plain, trust_env=False).status_code in (400, 403)
    assert httpx.put(plain, content=b"x", trust_env=False).status_code in (400, 403)
    for wrong in ({"secret_key": "wrong"}, {"access_key": "vaesvc:nobody"}, {"bucket": "not-there"}):
        with pytest.raises(StorageError):
            Artifacts(storage.model_copy(update=wrong), patience_seconds=0).check()
    artifacts.delete_prefix(artifacts.uri("test_stack"))
    assert list(artifacts.list(artifacts.uri("test_stack"))) == []


def test_mlflow_keeps_runs_and_passes_artifacts_on_to_the_bucket(stack: Stack) -> None:
    uri = stack.mlflow_uri
    assert uri
    call = httpx.Client(base_url=uri, timeout=30, trust_env=False)
    name = f"stack-{uuid.uuid4()}"
    experiment = call.post("/api/2.0/mlflow/experiments/create", json={"name": name}).raise_for_status().json()
    run = call.post("/api/2.0/mlflow/runs/create", json=experiment).raise_for_status().json()["run"]["info"]
    route = f"{run['artifact_uri'].removeprefix('mlflow-artifacts:/')}/note.txt"
    call.put(f"/api/2.0/mlflow-artifacts/artifacts/{route}", content=b"kept").raise_for_status()
    artifacts = Artifacts(stack.settings().storage())
    assert artifacts.get_bytes(artifacts.uri("mlflow", route)) == b"kept"


def test_ray_answers_only_who_has_the_token(stack: Stack) -> None:
    found = stack.settings()
    address = f"{found.ray_address}/api/jobs/"
    assert httpx.get(address, trust_env=False).status_code == 401
    wrong = httpx.get(address, headers={"Authorization": "Bearer wrong"}, trust_env=False)
    assert wrong.status_code == 403
    right = httpx.get(address, headers={"Authorization": f"Bearer {found.ray_token()}"}, trust_env=False)
    assert right.status_code == 200


def test_servers_for_people_listen_on_loopback_only(stack: Stack) -> None:
    """At the addresses that are announced. Of all other sockets: tests/acceptance/test_strangers.py."""
    import psutil

    found = stack.settings()
    wanted = {int(str(uri).rpartition(":")[2]) for uri in (found.mlflow_uri, found.api_url, found.ray_address)}
    wanted.add(int(str(found.s3.endpoint_url).rpartition(":")[2]))
    pids = [one.pid for part in PARTS for one in process.members(state.mark(stack.home, part), None)]
    listening = [c.laddr for pid in pids for c in _connections(psutil, pid) if c.status == psutil.CONN_LISTEN]
    assert {addr.ip for addr in listening if addr.port in wanted} == {"127.0.0.1"}
    assert wanted <= {addr.port for addr in listening}


def _connections(psutil: Any, pid: int) -> list[Any]:
    try:
        return list(psutil.Process(pid).net_connections(kind="tcp"))
    except psutil.Error:
        return []


# --- up, again ------------------------------------------------------------------------------------------------------


def test_up_again_changes_nothing(stack: Stack) -> None:
    before = identities(stack.home)
    lines = up(stack)
    assert identities(stack.home) == before
    assert sum("runs already" in line for line in lines) == len(PARTS)


def test_two_at_once_are_one_after_the_other(stack: Stack) -> None:
    before = identities(stack.home)
    kill(stack.home, "api")
    with ThreadPoolExecutor(2) as pool:
        lines = [line for said in pool.map(lambda _: up(stack), range(2)) for line in said]
    after = identities(stack.home)
    assert [part for part in PARTS if after[part] != before[part]] == ["api"]
    started = [line for line in lines if line.startswith("api") and "runs already" not in line]
    assert len(started) == 1
    assert len(process.members(state.mark(stack.home, "api"), None)) == 1


@pytest.mark.parametrize("part", PARTS)
def test_a_killed_part_comes_back_with_its_data(stack: Stack, part: str) -> None:
    """kill -9 of one, `up`: that one is new, at its old address; the others are as before; nothing stored is lost."""
    found = stack.settings()
    artifacts = Artifacts(found.storage(), patience_seconds=0)
    uri = artifacts.uri("test_stack", f"{part}.bin")
    body = os.urandom(300_000)
    artifacts.put_bytes(uri, body)
    note = _remember(found, part)
    before = identities(stack.home)
    kill(stack.home, part)
    dead = next(one for one in embedded.status(found) if one.name == part)
    assert (dead.ok, dead.pid) == (False, None)
    assert "died" in dead.detail
    up(stack)
    after = identities(stack.home)
    assert [name for name in PARTS if after[name] != before[name]] == [part]
    assert stack.settings() == found
    assert all(one.ok for one in embedded.status(stack.settings()))
    assert artifacts.get_bytes(uri) == body
    assert _remembered(found, note)
    with Client(str(found.api_url), found.user_token()) as client:
        assert client.whoami()


def _remember(found: settings.Settings, note: str) -> str:
    name = f"{note}-{uuid.uuid4()}"
    httpx.post(
        f"{login.for_user(found)}/api/2.0/mlflow/experiments/create", json={"name": name}, timeout=30, trust_env=False
    ).raise_for_status()
    return name


def _remembered(found: settings.Settings, name: str) -> bool:
    address = f"{login.for_user(found)}/api/2.0/mlflow/experiments/get-by-name"
    return httpx.get(address, params={"experiment_name": name}, timeout=30, trust_env=False).status_code == 200


# --- stacks of single parts, without Ray ----------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[settings.Settings]:
    """Settings for a second stack, of which tests start single parts."""
    monkeypatch.setenv("VAESVC_HOME", str(tmp_path / "small"))
    found = settings.load()
    yield found
    embedded.down(found)
    assert leftovers(found.home) == {}


def test_down_ends_exactly_its_own_processes_and_up_finds_everything_again(small: settings.Settings) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
    try:
        embedded.up(small, only=["s3", "api"])
        found = settings.load()
        artifacts = Artifacts(found.storage(), patience_seconds=0)
        artifacts.put_bytes(artifacts.uri("kept"), b"data")
        token = found.user_token()
        embedded.down(found)
        assert leftovers(small.home) == {}
        assert bystander.poll() is None
        assert settings.load().api_url is None
        embedded.down(found)  # again: nothing to do
        embedded.up(small, only=["s3", "api"])
        again = settings.load()
        assert (again.api_url, again.s3.endpoint_url) == (found.api_url, found.s3.endpoint_url)
        assert again.user_token() == token
        assert artifacts.get_bytes(artifacts.uri("kept")) == b"data"
        with Client(str(again.api_url), token) as client:
            assert client.whoami()
    finally:
        bystander.kill()
        bystander.wait()


def test_a_port_that_was_taken_meanwhile_is_given_up(small: settings.Settings) -> None:
    """The kept port is somebody else's now: the part moves, and everybody is told."""
    embedded.up(small, only=["api"])
    old = int(str(settings.load().api_url).rpartition(":")[2])
    embedded.down(small)
    with socket.create_server(("127.0.0.1", old)):
        embedded.up(small, only=["api"])
        assert settings.load().api_url != f"http://127.0.0.1:{old}"
        with Client(str(settings.load().api_url), settings.load().user_token()) as client:
            assert client.health().ok


def test_a_port_taken_between_the_look_and_the_start_is_given_up(
    small: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race itself: somebody binds the chosen port after it was found free and before the daemon has it."""
    from service.stack import control, process

    thieves: list[socket.socket] = []
    start = process.start

    def start_too_late(daemon: process.Daemon, record: Path, fingerprint: str) -> process.Identity:
        if not thieves:
            port = int(daemon.command[-1])
            thieves.append(socket.create_server(("127.0.0.1", port)))
        return start(daemon, record, fingerprint)

    monkeypatch.setattr(control.process, "start", start_too_late)
    said: list[str] = []
    try:
        parts = embedded.up(small, said.append, only=["api"])
    finally:
        for thief in thieves:
            thief.close()
    assert all(part.ok for part in parts)
    assert any("was taken by another program; choosing other ports" in line for line in said)


def test_a_part_that_does_not_start_is_named_with_its_log(
    small: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/not/there")  # the daemon's interpreter cannot start with it
    with pytest.raises(UnavailableError, match=r"(?s)api did not come up: it ended.*logs/api\.log:\n.*PYTHONHOME"):
        embedded.up(small, only=["api"])
    monkeypatch.delenv("PYTHONHOME")
    assert all(part.ok for part in embedded.up(small, only=["api"]))


def test_a_server_of_the_users_is_checked_and_not_started(
    stack: Stack, small: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts given by address: used when they answer, an error that names the setting's server when they do not."""
    theirs = stack.settings()
    monkeypatch.setenv("VAESVC_MLFLOW_URI", str(theirs.mlflow_uri))
    monkeypatch.setenv("VAESVC_S3_BUCKET", theirs.s3.bucket)
    monkeypatch.setenv("VAESVC_S3_ENDPOINT_URL", str(theirs.s3.endpoint_url))
    monkeypatch.setenv("VAESVC_S3_ACCESS_KEY", str(theirs.s3.access_key))
    monkeypatch.setenv("VAESVC_S3_SECRET_KEY", str(theirs.storage().secret_key))
    parts = {part.name: part for part in embedded.up(settings.load(), only=["s3", "mlflow", "api"])}
    assert parts["mlflow"].ok
    assert (parts["mlflow"].pid, parts["mlflow"].detail) == (None, "named by VAESVC_MLFLOW_URI")
    assert leftovers(small.home, PARTS).keys() == {"api"}
    written = (small.home / "stack.json").read_text()
    assert str(theirs.mlflow_uri) in written
    assert str(theirs.storage().secret_key) not in written  # a secret that the user gave is not written down

    closed = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    closed.close()
    monkeypatch.setenv("VAESVC_MLFLOW_URI", address)
    with pytest.raises(UnavailableError, match=f"MLflow at {address} does not answer"):
        embedded.up(settings.load(), only=["mlflow"])
    monkeypatch.setenv("VAESVC_S3_SECRET_KEY", "wrong")
    with pytest.raises(StorageError):
        embedded.up(settings.load(), only=["s3"])


def test_a_database_that_cannot_be_opened_is_named(
    small: settings.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VAESVC_DATABASE_URL", f"sqlite:///{tmp_path}/file/x.db")
    with pytest.raises((StorageError, UnavailableError), match=r"file/x\.db"):
        embedded.up(settings.load(), only=["api"])


def test_a_damaged_state_file_is_said_and_loses_nothing(small: settings.Settings) -> None:
    embedded.up(small, only=["s3"])
    before = identity(small.home, "s3")
    (small.home / "stack.json").write_text("{")
    for use in (settings.load, lambda: embedded.up(small, only=["s3"])):
        with pytest.raises(UsageError, match=r"stack\.json.*delete it and run `vaesvc up`"):
            use()
    (small.home / "stack.json").unlink()
    parts = embedded.up(small, only=["s3"])
    assert [part.ok for part in parts] == [True]
    assert not process.alive(before)  # its port was forgotten with the file, so it was started at a new one


def test_every_part_is_known_by_the_names_that_are_shown() -> None:
    assert {unit.name for unit in UNITS} == set(PARTS)
