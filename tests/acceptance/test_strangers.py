"""The running stack as another user of the machine finds it: every socket of every process, files, command lines.

What is expected of each socket is written down by name, as in docs/security.md. One that is not known fails.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from service import auth
from service.stack import process, state
from tests import real_jobs, stranger
from tests.conftest import Stack
from tests.job_processes import is_worker, processes, slowed
from tests.stranger import Listener

ENDLESS = ("steps=1000000", "evaluation.every_epochs=100000", "checkpoint.every_steps=100000")
PARTS = ("s3", "mlflow", "ray", "api", "dispatcher")
SOCKETS = {  # kind -> what of its process's command line, or of its path, says so
    "s3": r"service\.stack\.swift_server",
    "mlflow": r"uvicorn .*service\.tracking\.gate:create_app",
    "api": r"service\.cli\.main import main; main\(\) serve",
    "gcs": r"/gcs/gcs_server ",
    "raylet": r"/raylet/raylet ",
    "autoscaler": r"autoscaler/_private/monitor\.py",
    "dashboard": r"ray/dashboard/dashboard\.py",
    "agent": r"^ray::DashboardAgent",
    "environments": r"^ray::RuntimeEnvAgent",
    "client": r"-m ray\.util\.client\.server",
    "worker": r"^ray::|-m service\.attempt\.driver",
}
# A call that a server of this kind knows: without Ray's token it must be refused before it is looked at.
CALLS = {
    "gcs": ["NodeInfoGcsService/GetAllNodeInfo", "InternalKVGcsService/InternalKVPut", "JobInfoGcsService/AddJob"],
    "raylet": ["NodeManagerService/GetNodeStats", "NodeManagerService/RequestWorkerLease"],
    "objects": ["ObjectManagerService/Pull", "ObjectManagerService/Push"],
    "agent": ["ReporterService/ReportOCMetrics"],
    "client": ["RayletDriver/ClusterInfo", "RayletDriver/KVGet"],
    "worker": ["CoreWorkerService/GetCoreWorkerStats", "CoreWorkerService/PushTask"],
}
UNSIGNED = {400, 403, 412}  # 412: no account of Swift's, which is what an unsigned request is taken for
WRONG = "AWSAccessKeyId=vaesvc:admin&Expires=9999999999&Signature=d3Jvbmc="
GANG = re.compile(r"^ray::GangWorker")  # torch's meeting point and Gloo's: no login, said in docs/security.md
PAGES = {  # kind -> (request, statuses): anything else is open
    "s3": [("GET /vaesvc", UNSIGNED), ("PUT /vaesvc/evil", UNSIGNED), ("PUT /d1/0/a/c/o", UNSIGNED),
           ("GET /v1/a", {401}), (f"GET /vaesvc?{WRONG}", {403}), (f"PUT /vaesvc/evil?{WRONG}", {403})],
    "mlflow": [("GET /", {401}), ("POST /api/2.0/mlflow/runs/create", {401}), ("GET /health", {200})],
    "api": [("GET /v1/jobs", {401}), ("POST /v1/jobs", {401}), ("GET /v1/health", {200})],
    "dashboard": [("GET /api/jobs/", {401}), ("POST /api/jobs/", {401}), ("GET /nodes?view=summary", {401}),
                  ("GET /logs/", {401}), ("GET /", {200})],
    "agent": [("GET /", {401}), ("GET /api/local_raylet_healthz", {200}), ("POST /api/job_agent/jobs/", {401})],
    "environments": [("GET /", {401}), ("POST /get_or_create_runtime_env", {401})],
    "metrics": [("GET /metrics", {200})],  # open: said in docs/security.md
}  # fmt: skip

TRY = """
import http.client, json, os, socket, sys
order = json.load(sys.stdin) if len(sys.argv) < 2 else json.loads(sys.argv[1])
def page(host, port, request):
    method, path = request.split(" ")
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path, body=b"{}" if method != "GET" else None)
        return connection.getresponse().status
    except OSError as error:
        return type(error).__name__
    except http.client.HTTPException as error:
        return "no HTTP"
def connect(path):
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.connect(path)
        except OSError as error:
            return type(error).__name__
        return "connected"
def read(path):
    try:
        with open(path, "rb") as file:
            return "read" if file.read(1) is not None else ""
    except OSError as error:
        return type(error).__name__
print(json.dumps({
    "pages": [page(*one) for one in order["pages"]],
    "sockets": {path: connect(path) for path in order["sockets"]},
    "files": {path: read(path) for path in order["files"]},
}))
"""


@pytest.fixture(scope="module")
def pids(stack: Stack) -> Iterator[dict[int, str]]:
    """Every process of the stack, while a job with two workers trains."""
    job = real_jobs.submit(stack, real_jobs.DIGITS, ENDLESS, "--workers", "2")
    real_jobs.until(stack, job, lambda one: bool(one.job.progress.get("step")), real_jobs.START_SECONDS, "no step")
    with slowed(lambda: processes(job, is_worker)):  # that it trains is enough
        yield members(stack)
    real_jobs.ran(stack.vaesvc("cancel", job))
    real_jobs.until_over(stack, job, "CANCELLED")


def members(stack: Stack) -> dict[int, str]:
    """pid -> part"""
    found = {}
    for part in PARTS:
        identity = process.recorded(state.record(stack.home, part))
        for member in process.members(state.mark(stack.home, part), identity):
            found[member.pid] = part
    return found


@pytest.fixture(scope="module")
def listeners(pids: dict[int, str]) -> list[Listener]:
    return stranger.listeners(pids)


def kind(one: Listener) -> str:
    for name, pattern in SOCKETS.items():
        if re.search(pattern, one.command):
            return name
    pytest.fail(f"nobody knows the port {one.place} of {one.command!r}: docs/security.md has to say what it gives away")


def number(place: str) -> int:
    return int(place.rpartition(":")[2])


def refused(port: int, names: list[str]) -> set[str]:
    """How a gRPC server answers these calls without a token."""
    codes = set()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for name in names:
            try:
                channel.unary_unary(f"/ray.rpc.{name}")(b"", timeout=10)
                codes.add("OK")
            except grpc.RpcError as error:
                codes.add(error.code().name)
    return codes


def speaks_http(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=10)
    except httpx.HTTPError:
        return False
    return True


def ports(listeners: list[Listener]) -> Iterator[tuple[str, int]]:
    """(kind, port), those of one process told apart: pages, gRPC, and Prometheus' numbers."""
    for port, one in sorted({one.port: one for one in listeners if one.kind != "unix"}.items()):
        found = kind(one)
        if speaks_http(port):
            metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=10)
            if found in ("autoscaler", "dashboard", "agent") and metrics.text.startswith("# HELP"):
                found = "metrics"
        elif found == "raylet" and "UNIMPLEMENTED" in refused(port, CALLS["raylet"]):
            found = "objects"
        elif found == "agent" and "UNIMPLEMENTED" in refused(port, CALLS["agent"]):
            found = "worker"  # it talks to the cluster as workers do, once a job has begun
        elif found == "worker" and refused(port, CALLS["worker"]) <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:  # no gRPC
            assert any(GANG.match(one.command) for one in listeners if one.kind != "unix" and one.port == port)
            found = "gang"
        yield found, port


def test_fault_03_every_port_is_on_loopback(listeners: list[Listener]) -> None:
    """Of Ray's, too: the network of a laptop is a café's. But for the meeting point of a gang that trains: torch's."""
    loopback = ("127.0.0.1:", "0000000000000000FFFF00000100007F:", "00000000000000000000000001000000:")
    wide = [one for one in listeners if one.kind != "unix" and not one.place.startswith(loopback)]
    assert [one for one in wide if not GANG.match(one.command)] == []
    assert len(wide) <= 1


def test_fault_03_no_port_gives_a_stranger_more_than_is_said(listeners: list[Listener]) -> None:
    """Without a token, and for pages as another user: a new port, or a call that answers, fails."""
    stranger.need_root()
    pages: list[tuple[str, int, str]] = []
    expected = []
    seen = set()
    closed = set()  # processes with a port of Ray's that refuses
    owners = {one.port: one for one in listeners if one.kind != "unix"}
    for found, port in ports(listeners):
        seen.add(found)
        if found == "gang":
            continue
        if speaks_http(port):
            assert found in PAGES, f"port {port} ({found}) answers pages that nobody expects"
            pages += [("127.0.0.1", port, request) for request, _ in PAGES[found]]
            expected += [(found, request, statuses) for request, statuses in PAGES[found]]
        else:
            assert found in CALLS, f"port {port} ({found}) is no gRPC that anybody expects"
            assert refused(port, CALLS[found]) == {"UNAUTHENTICATED"}, (found, port)
            closed.add(owners[port].pid)
    assert {one.pid for one in owners.values() if GANG.match(one.command)} <= closed
    answers = stranger.run(TRY, json.dumps({"pages": pages, "sockets": [], "files": []}))["pages"]
    wrong = [(*one[:2], answer) for one, answer in zip(expected, answers, strict=True) if answer not in one[2]]
    assert wrong == []
    assert {*PAGES, *CALLS} - {"client"} <= seen


def test_fault_03_no_socket_and_no_file_is_another_users(
    stack: Stack, listeners: list[Listener], pids: dict[int, str]
) -> None:
    stranger.need_root()
    named = {str(stack.home / "s3" / "sockets" / Path(one.place).name) if "/proc/" in one.place else one.place
             for one in listeners if one.kind == "unix"}  # fmt: skip
    assert all(path.startswith("/") for path in named), f"abstract sockets are everybody's: {named}"
    files = {str(path) for path in stack.home.rglob("*") if stat.S_ISREG(path.lstat().st_mode)}
    files |= {f"/proc/{pid}/environ" for pid in pids} | set(_opened(pids))
    order = {"pages": [], "sockets": sorted(named), "files": sorted(files)[:20_000]}
    script = TRY.replace("json.loads(sys.argv[1])", "json.load(open(sys.argv[1]))")
    orders = Path(f"/tmp/vaesvc-strangers-{os.getpid()}.json")
    try:
        orders.write_text(json.dumps(order))
        answers = stranger.run(script, str(orders))
    finally:
        orders.unlink()
    assert len(answers["sockets"]) > 5
    assert {path: how for path, how in answers["sockets"].items() if how != "PermissionError"} == {}
    assert len(answers["files"]) > 50
    gone = ("PermissionError", "FileNotFoundError", "ProcessLookupError")
    assert {path: how for path, how in answers["files"].items() if how not in gone} == {}


def _opened(pids: dict[int, str]) -> Iterator[str]:
    """What the processes have open for writing, wherever it lies."""
    for pid in pids:
        try:
            opened = psutil.Process(pid).open_files()
        except psutil.Error:
            continue
        yield from (one.path for one in opened if one.mode != "r" and one.path.startswith("/"))


def test_fault_03_no_command_line_holds_a_secret(stack: Stack, pids: dict[int, str]) -> None:
    """All users of the machine see them."""
    secret = auth.read_secret(stack.home / "secret")
    secrets = [(stack.home / name).read_text().strip() for name in ("s3-secret", "token", "ray-token")]
    secrets += [auth.tracking_token(secret), secret.hex()]
    lines = {}
    for pid in pids:
        try:
            lines[pid] = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        except OSError:
            continue
    assert len(lines) > 15
    assert [line for line in lines.values() if any(one in line for one in secrets)] == []
