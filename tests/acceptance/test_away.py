"""Servers that are away, broken or strangers, and every command: one line on stderr, exit code 3, no traceback.

A command that is added has to say here what it needs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from service import api, client, download
from service.cli import follow, study
from service.cli.main import app, main
from service.settings import S3Settings
from service.spec import resolve
from service.study_spec import resolve_study
from tests.api_server import Api, running_api, settings_in
from tests.bad_servers import WAYS, bad_server
from tests.command import RECIPE

NEED_API: dict[str, tuple[str, ...]] = {
    "submit": (RECIPE,),
    "jobs": (),
    "show": ("JOB",),
    "watch": ("JOB",),
    "logs": ("JOB", "--follow"),
    "cancel": ("JOB",),
    "retry": ("JOB",),
    "models": (),
    "pull": ("NAME", "DIR"),
    "verify": ("NAME",),
    "studies": (),
    "study show": ("JOB",),
    "study curve": ("JOB", "--out", "DIR"),
    "study stop": ("JOB",),
    "study extend": ("JOB", "--trials", "2"),
}
NEED_DATABASE: dict[str, tuple[str, ...]] = {
    "serve": ("--port", "0"),
    "dispatch": (),
    "token add": ("NAME",),
    "token list": (),
    "token revoke": ("NAME",),
    "token role": ("NAME", "admin"),
}
NEED_NOTHING = {"recipes", "run", "study list", "study run"}
LOCAL_STACK = {"up", "down", "status", "doctor"}  # they say of each part how it is; see test_stack.py
TAKEN = {"page", "no-json", "null", "other-json", "no-gzip", "cut-gzip"}  # any bytes with status 200 may be a log
SECONDS = 20  # far more than any may take here


def commands(group: Any = None, above: str = "") -> Iterator[str]:
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} ")
        else:
            yield above + name


def test_fault_13_every_command_says_what_it_needs() -> None:
    assert {*NEED_API, *NEED_DATABASE, *NEED_NOTHING, *LOCAL_STACK} == set(commands())


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits half a minute for a server waits half a second."""
    for module, name, seconds in (
        (client, "CONNECT_SECONDS", 0.3), (client, "READ_SECONDS", 0.3), (client, "SLOW_READ_SECONDS", 5.0),
        (client, "RETRY_SECONDS", 0.0), (follow, "PATIENCE_SECONDS", 0.0), (download, "CONNECT_SECONDS", 0.5),
        (download, "READ_SECONDS", 0.5), (download, "RETRY_SECONDS", 0.3), (study, "PICTURE_SECONDS", 0.5),
        (api, "SLOW_SECONDS", 2.0), (api, "STORAGE_SECONDS", 0.3),
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
        and "unexpected" not in printed.err
        and not printed.out
        and seconds < SECONDS
    )
    return None if as_it_should else f"vaesvc {command}: {code} after {seconds:.1f} s: {printed.out}{printed.err}"


def filled(arguments: tuple[str, ...], folder: Path, job: str = "j-1") -> tuple[str, ...]:
    known = {"JOB": job, "NAME": "ann", "DIR": str(folder / "there")}
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


# --- the service's own servers --------------------------------------------------------------------------------------


@contextlib.contextmanager
def service(way: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """An API that answers, in front of an S3 server and an MLflow that are bad; the settings of its user ann."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr("service.artifacts.CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr("service.artifacts.READ_TIMEOUT", 0.5)
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
    running.store.claim(job.id, attempt.epoch, "r")
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
