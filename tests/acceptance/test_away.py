"""Servers that are away, broken or strangers, and every command: one line on stderr, exit code 3, no traceback.

A command that is added has to say here what it needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from service import client, download, services
from service.cli import follow
from service.cli.main import app, main
from service.kinds.study import commands as study
from service.kinds.study.spec import resolve_study
from service.kinds.train.spec import resolve
from service.settings import S3Settings
from tests.api_server import Api, running_api, settings_in
from tests.bad_servers import WAYS, bad_server
from tests.command import RECIPE, start

NEED_API: dict[str, tuple[str, ...]] = {
    "submit": (RECIPE,),
    "jobs": (),
    "show": ("JOB",),
    "watch": ("JOB",),
    "logs": ("JOB", "--follow"),
    "cancel": ("JOB",),
    "hold": ("JOB",),
    "release": ("JOB",),
    "reprioritize": ("JOB", "1"),
    "clone": ("JOB",),
    "diff": ("JOB", "JOB"),
    "retry": ("JOB",),
    "pictures": ("JOB", "--out", "DIR"),
    "data add": ("NAME", "DIR"),
    "data list": (),
    "data show": ("NAME",),
    "data rm": ("NAME",),
    "models": (),
    "pull": ("NAME", "DIR"),
    "verify": ("NAME",),
    "encode": ("NAME", "digits", "--out", "TABLE"),
    "score": ("NAME", "digits", "--out", "TABLE"),
    "reconstruct": ("NAME", "digits", "--out", "PICTURE"),
    "sample": ("NAME", "--out", "PICTURE"),
    "interpolate": ("NAME", "digits", "--out", "PICTURE"),
    "traverse": ("NAME", "digits", "--out", "PICTURE"),
    "export": ("NAME", "--out", "DIR"),
    "card": ("NAME",),
    "evaluate": ("NAME",),
    "report": ("JOB", "--out", "DIR"),
    "studies": (),
    "study show": ("JOB",),
    "study curve": ("JOB", "--out", "DIR"),
    "study stop": ("JOB",),
    "study extend": ("JOB", "--trials", "2"),
    "group set": ("GROUP", "--weight", "2"),
    "group list": (),
    "group add": ("GROUP", "NAME"),
    "group drop": ("GROUP", "NAME"),
    "group rm": ("GROUP",),
    "quota set": ("user", "NAME", "--queued", "5"),
    "quota list": (),
    "quota rm": ("user", "NAME"),
    "node list": (),
    "node drain": ("NODE",),
    "node resume": ("NODE",),
    "audit": (),
    "usage": (),
    "token new": ("LABEL",),
    "token mine": (),
    "token rotate": (),
    "token drop": ("LABEL",),
    "user list": (),
    "notify add": ("webhook:https://hooks.example.org/",),
    "notify list": (),
    "notify rm": ("0" * 32,),
    "notify try": ("0" * 32,),
    "user put": ("NAME",),
    "user remove": ("NAME",),
    "user disable": ("NAME",),
    "user enable": ("NAME",),
    "login": ("--no-open",),
}
NEED_DATABASE: dict[str, tuple[str, ...]] = {
    "serve": ("--port", "0"),
    "token add": ("NAME",),
    "token list": (),
    "token revoke": ("NAME",),
    "token role": ("NAME", "admin"),
    "gc": ("--dry-run",),
}
NEED_NOTHING = {"bench", "parts", "recipes", "reproduce", "run", "searches", "study list", "study run"}
AFTER_LOGIN = {"logout"}  # with nobody logged in it asks nobody; see test_login.py
WAITS = {"dispatch"}  # a daemon: for its database, for Ray and for the API
LOCAL_STACK = {"up", "down", "status", "doctor"}  # they say of each part how it is; see test_stack.py
TAKEN = {"page", "no-json", "null", "other-json", "no-gzip", "cut-gzip"}  # any bytes with status 200 may be a log
SECONDS = 60  # far more than any may take here, on a busy machine


def commands(group: Any = None, above: str = "") -> Iterator[str]:
    for name, command in (group or typer.main.get_command(app).whole()).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} ")
        else:
            yield above + name


def test_fault_13_every_command_says_what_it_needs() -> None:
    assert {*NEED_API, *NEED_DATABASE, *NEED_NOTHING, *AFTER_LOGIN, *WAITS, *LOCAL_STACK} == set(commands())


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits half a minute for a server waits half a second."""
    for module, name, seconds in (
        (client, "CONNECT_SECONDS", 0.3), (client, "READ_SECONDS", 0.3), (client, "SLOW_READ_SECONDS", 5.0),
        (client, "RETRY_SECONDS", 0.0), (follow, "PATIENCE_SECONDS", 0.0), (download, "CONNECT_SECONDS", 0.5),
        (download, "READ_SECONDS", 0.5), (download, "RETRY_SECONDS", 0.3), (study, "PICTURE_SECONDS", 0.5),
        (services, "SLOW_SECONDS", 2.0), (services, "STORAGE_SECONDS", 0.3),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def shell(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)


def problem(
    command: str, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str | None:
    """What is wrong with how the command ended, in this process; None if it is one line, 3 and in time."""
    monkeypatch.setattr(sys, "argv", ["vaesvc", *command.split(), *arguments])
    capsys.readouterr()
    began, code = time.monotonic(), 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else -1
    seconds, printed = time.monotonic() - began, capsys.readouterr()
    as_it_should = (
        code == 3
        and len(printed.err.splitlines()) == 1
        and printed.err.startswith("vaesvc: ")
        and not printed.err.startswith("vaesvc: unexpected")
        and not printed.out
        and seconds < SECONDS
    )
    return None if as_it_should else f"vaesvc {command}: {code} after {seconds:.1f} s: {printed.out}{printed.err}"


def filled(arguments: tuple[str, ...], folder: Path, job: str = "j-1") -> tuple[str, ...]:
    there = str(folder / "there")
    known = {"JOB": job, "NAME": "ann", "DIR": there, "TABLE": f"{there}.parquet", "PICTURE": f"{there}.png"}
    return tuple(known.get(argument, argument) for argument in arguments)


@pytest.mark.parametrize("way", WAYS)
def test_fault_13_an_api_that_is_away_or_none(
    way: str, shell: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bad_server(way, tmp_path) as url:
        monkeypatch.setenv("VAESVC_API_URL", url)
        monkeypatch.setenv("VAESVC_TOKEN", "token")
        found = [problem(name, filled(given, tmp_path), capsys, monkeypatch) for name, given in NEED_API.items()]
    assert not any(found), "\n".join(filter(None, found))
    assert not (tmp_path / "there").exists()


DATABASES = ("closed", "silent", "reset", "nothing", "page")


@pytest.mark.parametrize("way", DATABASES)
def test_fault_13_a_database_that_is_away_or_none(
    way: str, shell: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.queue.database.CONNECT_SECONDS", 1)
    monkeypatch.setattr("service.queue.database.RETRY_SECONDS", 0.1)
    with bad_server(way, tmp_path) as url:
        for name in ("VAESVC_API_URL", "VAESVC_RAY_ADDRESS"):
            monkeypatch.setenv(name, url)
        monkeypatch.setenv("VAESVC_DATABASE_URL", url.replace("http://", "postgresql://ann:secret@") + "/vaesvc")
        found = [problem(name, filled(given, tmp_path), capsys, monkeypatch) for name, given in NEED_DATABASE.items()]
    assert not any(found), "\n".join(filter(None, found))


# --- the service's own servers --------------------------------------------------------------------------------------


@contextlib.contextmanager
def service(way: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """An API that answers, in front of an S3 server and an MLflow that are bad; the settings of its user ann.

    It is waited for as users wait: how soon it answers on a busy machine is no matter of these tests.
    """
    for limit in ("CONNECT_SECONDS", "READ_SECONDS", "SLOW_READ_SECONDS"):
        monkeypatch.setattr(client, limit, float(SECONDS))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr("service.s3_client.CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr("service.s3_client.READ_TIMEOUT", 0.5)
    with bad_server(way, folder) as url:
        s3 = S3Settings(endpoint_url=url, access_key="a:b", secret_key="c")  # type: ignore[arg-type]
        with running_api(settings_in(folder / "service", s3=s3, mlflow_uri=url)) as running:
            monkeypatch.setenv("VAESVC_API_URL", running.url)
            monkeypatch.setenv("VAESVC_TOKEN", running.token)
            yield running


def running_job(running: Api) -> str:
    """A job whose attempt runs: its log is asked of S3."""
    job = running.store.submit(resolve(RECIPE), owner="ann")
    (attempt,) = running.admit()
    running.store.claim(job.id, attempt.number, "r")
    return job.id


def queued_study(running: Api) -> str:
    stage = {"name": "rates", "space": {"optimizer.lr": [0.1, 0.01]}}
    return running.store.submit(resolve_study({"base": RECIPE, "stages": [stage], "name": "rates"}), owner="ann").id


@pytest.mark.parametrize("way", WAYS)
def test_fault_13_an_s3_server_and_an_mlflow_that_are_away_or_none(
    way: str, shell: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(way, tmp_path, monkeypatch) as running:
        job, searched = running_job(running), queued_study(running)
        given = {"study show": (searched,), "study curve": (searched, "--out", str(tmp_path / "there"))}
        if way not in TAKEN:
            given["logs"] = (job,)
        found = [problem(name, arguments, capsys, monkeypatch) for name, arguments in given.items()]
        monkeypatch.setattr(sys, "argv", ["vaesvc", "models"])  # they are the service's own; MLflow shows them
        with pytest.raises(SystemExit, match="0"):
            main()
        assert len(capsys.readouterr().err.splitlines()) <= 1  # of a stranger's JSON MLflow makes an empty list
    assert not any(found), "\n".join(filter(None, found))
    assert not (tmp_path / "there").exists()


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------


def test_fault_13_ctrl_c_ends_whatever_waits_without_a_traceback(env: dict[str, str], tmp_path: Path) -> None:
    with bad_server("silent", tmp_path) as url:
        waiting = env | {"VAESVC_API_URL": url, "VAESVC_TOKEN": "token"}
        running = {
            name: start(waiting, *name.split(), *filled(given, tmp_path))
            for name, given in NEED_API.items()
            if name in ("submit", "watch", "logs", "models", "pull", "study curve")
        }
        time.sleep(3)  # into the call; a slow machine is still importing, which Ctrl-C may meet, too
        for process in running.values():
            process.send_signal(signal.SIGINT)
        ended = {name: (*process.communicate(timeout=60), process.returncode) for name, process in running.items()}
    for name, (out, err, code) in ended.items():
        assert (code, out) == (130, ""), f"{name}: {code}: {err}"
        assert "Traceback" not in err, f"{name}: {err}"


# --- files ----------------------------------------------------------------------------------------------------------

FILES: dict[
    str, tuple[str, bytes | None, dict[str, str]]
] = {  # what is broken: file, its bytes (none: a folder), settings
    "home is a file": ("home", b"", {}),
    "home cannot be made": ("other", b"", {"VAESVC_HOME": "/proc/none"}),
    "stack.json is no JSON": ("home/stack.json", b"\xff{", {}),
    "stack.json is a list": ("home/stack.json", b"[1]", {}),
    "stack.json has no settings": ("home/stack.json", b'{"running": true, "settings": null}', {}),
    "stack.json is a folder": ("home/stack.json", None, {}),
    "stack.json has other types": ("home/stack.json", b'{"running": true, "settings": {"mlflow_uri": 5}}', {}),
    "the database is none": ("home/vaesvc.db", b"no database" * 500, {}),
    "the database is a folder": ("home/vaesvc.db", None, {}),
    "the token is no text": (
        "token",
        b"\xff\xfe",
        {"VAESVC_TOKEN_FILE": "token", "VAESVC_API_URL": "http://127.0.0.1:1"},
    ),
    "the token is a folder": ("token", None, {"VAESVC_TOKEN_FILE": "token", "VAESVC_API_URL": "http://127.0.0.1:1"}),
    "the settings are no text": ("vaesvc.toml", b"\xff", {"VAESVC_CONFIG": "vaesvc.toml"}),
    "the settings are a folder": ("vaesvc.toml", None, {"VAESVC_CONFIG": "vaesvc.toml"}),
    "the settings have other types": ("vaesvc.toml", b"s3 = 5", {"VAESVC_CONFIG": "vaesvc.toml"}),
    "half an address": ("vaesvc.toml", b'api_url = "http://[half"', {"VAESVC_CONFIG": "vaesvc.toml"}),
    "no port": ("vaesvc.toml", b'mlflow_uri = "http://host:99999"', {"VAESVC_CONFIG": "vaesvc.toml"}),
    "the current folder is gone": ("other", b"", {}),
}


@pytest.mark.parametrize("what", FILES)
def test_fault_13_broken_files_of_the_users_are_one_line(
    what: str, shell: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, data, settings = FILES[what]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if data is None else path.write_bytes(data)
    monkeypatch.chdir(tmp_path)
    if what == "the current folder is gone":
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    wrong = []
    for command in (
        ("jobs",),
        ("submit", RECIPE),
        ("token", "list"),
        ("status",),
        ("down",),
        ("recipes",),
        ("doctor",),
    ):
        monkeypatch.setattr(sys, "argv", ["vaesvc", *command])
        with contextlib.suppress(SystemExit):
            main()
        err = capsys.readouterr().err
        if "vaesvc: unexpected" in err or len(err.splitlines()) > 1:
            wrong.append(f"{command}: {err}")
    monkeypatch.chdir(tmp_path)
    assert not wrong, "\n".join(wrong)


def test_fault_13_damaged_files_of_runs_and_studies_are_named(
    shell: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {"name": "rates", "space": {"optimizer.lr": [0.1]}}
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps({"base": {"recipe": RECIPE, "steps": 2}, "stages": [stage]}))
    folder = tmp_path / "out"
    run, search = ("run", RECIPE, "--out", str(folder)), ("study", "run", str(file), "--out", str(folder))
    show = ("study", "show", str(folder))
    study_json = resolve_study(file).study.model_dump_json().encode()
    for name, data, command in (
        ("config.json", b"\xff{", run), ("config.json", None, run), ("study.json", b"{", search),
        ("study.json", None, show), ("study.json", b"[1]", show),
        ("rates/trial-0000/result.json", b"{", search), ("rates/trial-0000/result.json", b"[1]", show),
        ("rates/trial-0000/result.json", None, show),
    ):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True)
        path.mkdir() if data is None else path.write_bytes(data)
        if path.name == "result.json":
            (folder / "study.json").write_bytes(study_json)
        monkeypatch.setattr(sys, "argv", ["vaesvc", *command])
        with pytest.raises(SystemExit, match="1"):
            main()
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"vaesvc: {path} is damaged")
        shutil.rmtree(folder)
