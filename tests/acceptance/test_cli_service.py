"""The real command against a service: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from service import __version__, wire
from service.client import Client
from tests.api_server import Api
from tests.command import RECIPE, VAESVC, start, vaesvc
from tests.servers import wait_for

# --- with a service -------------------------------------------------------------------------------------------------


def test_several_specs_are_submitted_together(online: dict[str, str]) -> None:
    done = vaesvc(online, "submit", RECIPE, "digits/nvae-tiny")
    ids = done.stdout.split()
    listed = json.loads(vaesvc(online, "jobs", "--json").stdout)
    shown = {job["id"]: job["name"] for job in listed}
    assert [shown[job_id] for job_id in ids] == [RECIPE, "digits/nvae-tiny"]
    assert "one job" in vaesvc(online, "submit", RECIPE, RECIPE, "--key", "k", code=2).stderr


def test_submit_show_list_cancel_retry(online: dict[str, str]) -> None:
    done = vaesvc(online, "submit", RECIPE, "--name", "one", "--key", "k")
    job_id = done.stdout.strip()
    assert done.stdout == f"{job_id}\n"  # id=$(vaesvc submit ...)
    assert job_id in done.stderr
    assert vaesvc(online, "submit", RECIPE, "--name", "one", "--key", "k").stdout.strip() == job_id
    assert "key" in vaesvc(online, "submit", RECIPE, "--key", "k", code=2).stderr
    listed = vaesvc(online, "jobs").stdout.splitlines()
    header = "ID NAME OWNER STATE POSITION STARTS IN [h:mm:ss] PRIORITY STEP ELBO [nats] AGE [h:mm:ss] REASON"
    assert " ".join(listed[0].split()) == header
    assert listed[1].split()[:7] == [job_id, "one", "ann", "QUEUED", "1", "-", "0"]
    assert json.loads(vaesvc(online, "jobs", "--json", "--state", "queued").stdout)[0]["id"] == job_id
    assert json.loads(vaesvc(online, "jobs", "--json", "--state", "failed").stdout) == []
    assert "SUCCEEDED" in vaesvc(online, "jobs", "--state", "sleeping", code=2).stderr
    shown = vaesvc(online, "show", job_id, "--events").stdout
    assert "submitted" in shown
    assert "1 x (1 CPU)" in shown
    assert json.loads(vaesvc(online, "show", job_id, "--json", "--events").stdout)["events"][0]["kind"] == "submitted"
    assert vaesvc(online, "cancel", job_id).stdout.split() == [job_id, "CANCELLED"]
    assert vaesvc(online, "retry", job_id).stdout.split() == [job_id, "QUEUED"]
    assert "QUEUED" in vaesvc(online, "retry", job_id, code=2).stderr
    assert "no log yet" in vaesvc(online, "logs", job_id).stderr
    assert "nosuch" in vaesvc(online, "show", "nosuch", code=2).stderr


def test_a_page_ends_with_how_to_see_the_next(online: dict[str, str]) -> None:
    ids = [vaesvc(online, "submit", RECIPE).stdout.strip() for _ in range(3)]
    first = vaesvc(online, "jobs", "--limit", "2")
    assert [line.split()[0] for line in first.stdout.splitlines()[1:]] == ids[:0:-1]
    assert f"--before {ids[1]}" in first.stderr
    second = vaesvc(online, "jobs", "--limit", "2", "--before", ids[1])
    assert [line.split()[0] for line in second.stdout.splitlines()[1:]] == ids[:1]


def finish_soon(api: Api, outcome: Any, *, metrics: dict[str, float] | None = None, error: str | None = None) -> None:
    """What dispatcher and runner do to the first job that waits, without training."""
    deadline = time.monotonic() + 30
    while not (admitted := api.admit()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with api.attempt_client(admitted[0]) as runner:
        runner.claim(wire.ClaimRequest(runner_id="r", version=__version__))
        metrics = metrics or {}
        now = {"step": 50, "total_steps": 100, "epoch": 0.5, "images_per_second": 1234.0, "seconds_left": 61.0}
        runner.progress(wire.ProgressReport(progress={**now, "metrics": {"train/elbo": -80.5, "train/rate": 20.25}}))
        time.sleep(2.5)
        result = {"metrics": metrics}
        runner.finish(wire.FinishRequest(runner_id="r", outcome=outcome, error=error, retryable=False, result=result))


def test_wait_shows_the_progress_and_ends_with_0(api: Api, online: dict[str, str]) -> None:
    process = start(online, "submit", RECIPE, "--wait")
    finish_soon(api, "succeeded", metrics={"test/elbo": -79.25})
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0
    assert re.fullmatch(r"\S+\n", out)
    for word in ("step 50/100", "epoch 0.50", "ELBO -80.50", "rate 20.25", "images/s 1,234", "left 0:01:01", "-79.25"):
        assert word in err, err
    assert "SUCCEEDED" in err


def test_wait_ends_with_1_when_the_job_failed_and_says_why(api: Api, online: dict[str, str]) -> None:
    process = start(online, "submit", RECIPE, "--wait", "--json")
    finish_soon(api, "failed", error="the loss is NaN")
    out, err = process.communicate(timeout=180)
    assert process.returncode == 1
    assert "the loss is NaN" in err
    assert json.loads(out)["state"] == "FAILED"
    watched = vaesvc(online, "watch", json.loads(out)["id"], code=1)
    assert "the loss is NaN" in watched.stderr


def test_watch_writes_json_lines(api: Api, online: dict[str, str]) -> None:
    job_id = vaesvc(online, "submit", RECIPE).stdout.strip()
    process = start(online, "watch", job_id, "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["state"] == "QUEUED"
    finish_soon(api, "succeeded")
    out, _ = process.communicate(timeout=180)
    states = [json.loads(line)["state"] for line in out.splitlines()]
    assert states[-1] == "SUCCEEDED"
    assert "RUNNING" in states


def test_ctrl_c_detaches_and_says_how_to_come_back(api: Api, online: dict[str, str]) -> None:
    process = start(online, "submit", RECIPE, "--wait")
    assert process.stdout is not None
    job_id = process.stdout.readline().strip()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 130
    assert f"vaesvc watch {job_id}" in err
    with api.client() as client:
        assert client.job(job_id).job.state == "QUEUED"


def test_watch_on_a_terminal_shows_a_table_that_is_updated(api: Api, online: dict[str, str]) -> None:
    job_id = vaesvc(online, "submit", RECIPE).stdout.strip()
    ours, theirs = pty.openpty()
    process = subprocess.Popen([VAESVC, "watch", job_id], env=online, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    finish_soon(api, "succeeded")
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait(15) == 0
    process.stdout.close()  # type: ignore[union-attr]
    for word in (b"50/100", b"train ELBO [nats]", b"-80.50", b"images/s", b"left [h:mm:ss]", b"SUCCEEDED"):
        assert word in shown


# --- servers --------------------------------------------------------------------------------------------------------


def test_serve_on_a_free_port_and_tokens(env: dict[str, str]) -> None:
    token = vaesvc(env, "token", "add", "ann").stdout.strip()
    process = start(env, "serve", "--port", "0")
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        assert httpx.get(f"{url}/v1/health", timeout=20).json()["ok"]
        user = env | {"VAESVC_API_URL": url, "VAESVC_TOKEN": token}
        assert vaesvc(user, "jobs", "--json").stdout == "[]\n"
        assert "ann" in vaesvc(env, "token", "list").stdout
        vaesvc(env, "token", "revoke", "ann")
        vaesvc(user, "jobs", code=3)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert token not in out + err
    assert (Path(env["VAESVC_HOME"]) / "secret").stat().st_mode & 0o777 == 0o600


def test_serve_refuses_to_listen_wider_without_tokens(env: dict[str, str]) -> None:
    done = vaesvc(env, "serve", "--host", "0.0.0.0", "--port", "0", code=2)
    assert "vaesvc token add" in done.stderr
    vaesvc(env, "token", "add", "ann")
    process = start(env, "serve", "--host", "0.0.0.0", "--port", "0")
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip().rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/v1/health", timeout=20).is_success
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_serve_in_several_processes_of_which_one_is_killed_loses_no_job(env: dict[str, str]) -> None:
    token = vaesvc(env, "token", "add", "ann").stdout.strip()
    process = start(env, "serve", "--port", "0", "--processes", "2")
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        killed = 0
        with Client(url, token) as client, Client(url, token) as other:
            sent = []
            for number in range(30):
                caller = client if number % 2 else other  # their connections are of two processes
                sent.append(caller.submit({"recipe": RECIPE}, key=f"k{number}").id)
                if number in (9, 19):  # and both of these meet a death
                    killed = psutil.Process(process.pid).children()[0].pid
                    os.kill(killed, signal.SIGKILL)
            assert len(set(sent)) == 30
            assert {job.id for job in client.jobs(limit=100)} == set(sent)
        wait_for(lambda: len(psutil.Process(process.pid).children()) == 2, 60, "another process in its place")
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert f"process {killed} of the API has ended and is replaced" in said
    assert not any(child.is_running() for child in children)


def test_serve_names_a_port_that_is_taken(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in vaesvc(env, "serve", "--port", str(port), code=3).stderr


def test_a_token_file_is_private_and_never_overwritten(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    assert vaesvc(env, "token", "add", "bob", "--file", str(file)).stdout == f"{file}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_text()
    assert "exists" in vaesvc(env, "token", "add", "eve", "--file", str(file), code=1).stderr
    assert file.read_text() == before
    assert "eve" not in vaesvc(env, "token", "list").stdout
    assert "bob" in vaesvc(env, "token", "add", "bob", code=2).stderr  # revoke it first


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_says_what_is_wrong_and_how_to_mend_it(online: dict[str, str], tmp_path: Path) -> None:
    broken = online | {
        "VAESVC_MLFLOW_URI": "http://127.0.0.1:9",
        "VAESVC_RAY_ADDRESS": "http://127.0.0.1:9",
        "VAESVC_S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "VAESVC_S3_ACCESS_KEY": "key",
        "VAESVC_S3_SECRET_KEY": "very-secret",
        "VAESVC_DATA_DIR": str(tmp_path / "nowhere"),
    }
    done = vaesvc(broken, "doctor", code=1, seconds=180)
    assert "very-secret" not in done.stdout + done.stderr
    assert online["VAESVC_TOKEN"] not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    levels: dict[str, set[str]] = {}
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if (found := re.match(r"(OK|WARN|FAIL) +(.{12}) \S", line)) is not None:
            level, what = found.groups()
            levels.setdefault(what.strip(), set()).add(level)
            assert level == "OK" or re.match(r" +-> \S", following), line  # how to mend it
    for what in ("python", "packages", "API", "token", "clock"):
        assert levels[what] == {"OK"}, (what, done.stdout)
    for what in ("MLflow", "S3", "Ray", "data", "dispatcher"):  # nothing listens there; nobody looks at a cluster
        assert "FAIL" in levels[what], (what, done.stdout)
    assert re.search(rf"settings +api_url = {online['VAESVC_API_URL']} +\(from VAESVC_API_URL\)", done.stdout)
    assert re.search(r"MLflow .*127\.0\.0\.1:9", done.stdout)


def test_doctor_without_a_service_says_how_to_get_one(env: dict[str, str]) -> None:
    found = json.loads(vaesvc(env, "doctor", "--json", seconds=180).stdout)
    (api,) = [one for one in found if one["what"] == "API"]
    assert api["level"] == "WARN"
    assert "vaesvc up" in api["mend"]


def test_order_labels_clones_and_differences(online: dict[str, str]) -> None:
    first = vaesvc(online, "submit", RECIPE, "--label", "team=vision", "--note", "why not").stdout.strip()
    assert vaesvc(online, "hold", first).stdout.split() == [first, "HELD"]
    assert f"held by ann; `vaesvc release {first}`" in vaesvc(online, "jobs", "--state", "held").stdout
    shown = vaesvc(online, "show", first).stdout
    assert "team=vision" in shown
    assert "why not" in shown
    second = vaesvc(online, "clone", first, "--set", "optimizer.lr=0.5", "--set", "labels.team=sound").stdout.strip()
    assert (
        json.loads(vaesvc(online, "jobs", "--label", "team=sound", "--since", "1h", "--json").stdout)[0]["id"] == second
    )
    assert json.loads(vaesvc(online, "jobs", "--owner", "bob", "--json").stdout) == []
    assert vaesvc(online, "reprioritize", second, "--", "-3").stdout.split() == [second, "QUEUED"]
    assert "administrator" in vaesvc(online, "reprioritize", second, "3", code=2).stderr
    changed = json.loads(vaesvc(online, "diff", first, second, "--json").stdout)
    assert changed["spec"] == {
        "priority": [0, -3], "labels.team": ["vision", "sound"], "train.optimizer.lr": [0.002, 0.5],
    }  # fmt: skip
    assert "train.optimizer.lr" in vaesvc(online, "diff", first, second).stdout
    assert "name=value" in vaesvc(online, "jobs", "--label", "vision", code=2).stderr
    assert vaesvc(online, "release", first).stdout.split() == [first, "QUEUED"]


def test_an_array_is_one_line_and_one_name(online: dict[str, str], api: Api) -> None:
    array = vaesvc(online, "submit", RECIPE, "--array", "0-4%2", "--set", "seed={index}").stdout.strip()
    api.admit()
    line = vaesvc(online, "jobs").stdout.splitlines()[1]
    assert line.split()[:4] == [array, RECIPE, "ann", "ARRAY"]
    assert "3 HELD, 2 STARTING" in line
    members = json.loads(vaesvc(online, "jobs", "--array", array, "--json").stdout)
    assert sorted(job["spec"]["train"]["seed"] for job in members) == [0, 1, 2, 3, 4]
    after = vaesvc(online, "submit", RECIPE, "--after", f"{members[0]['id']}:ended").stdout.strip()
    assert f"starts after job {members[0]['id']} has ended" in vaesvc(online, "show", after).stdout
    assert "nosuch" in vaesvc(online, "submit", RECIPE, "--after", "nosuch", code=2).stderr
    cancelled = vaesvc(online, "cancel", array).stdout
    assert (cancelled.count("CANCELLED"), cancelled.count("CANCELLING")) == (3, 2)
    assert vaesvc(online, "retry", array).stdout.count("HELD") == 3
    assert "a-nosuch" in vaesvc(online, "cancel", "a-nosuch", code=2).stderr
