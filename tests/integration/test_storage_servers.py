"""The servers behind the embedded S3 server, which ask for no keys: nobody but their user reaches them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.artifacts import Artifacts
from tests import stranger
from tests.servers import Swift, wait_for

NAMES = ["account", "container", "object"]

# What rewrote a model and its manifest: a PUT to the object server, which takes whoever reaches it for the proxy.
PUT = """
import http.client, json, socket, sys
class Connection(http.client.HTTPConnection):
    def connect(self):
        if place.startswith("/"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(5)
            self.sock.connect(place)
        else:
            super().connect()
answers = {}
for place in sys.argv[1:]:
    connection = Connection("127.0.0.1" if place.startswith("/") else place, timeout=5)
    try:
        headers = {"X-Timestamp": "9999999999.00000", "Content-Type": "text/plain"}
        connection.request("PUT", "/d1/0/a/c/o", body=b"evil", headers=headers)
        answers[place] = connection.getresponse().status
    except OSError as error:
        answers[place] = type(error).__name__
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def deep() -> Iterator[Swift]:
    """In a state directory whose path is longer than the address of a Unix socket may be."""
    with tempfile.TemporaryDirectory(prefix="vaesvc-deep-") as folder:
        server = Swift(Path(folder) / "/".join(["a" * 60] * 3))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def family(server: Swift) -> list[psutil.Process]:
    assert server._process is not None
    leader = psutil.Process(server._process.pid)
    return [leader, *leader.children(recursive=True)]


def sockets(server: Swift) -> Path:
    return server.log.parent / "s3" / "sockets"


def test_fault_03_the_storage_servers_have_no_ports(deep: Swift) -> None:
    found = stranger.listeners([process.pid for process in family(deep)])
    endpoint = str(deep.storage.endpoint_url).removeprefix("http://")
    assert [one.place for one in found if one.kind != "unix"] == [endpoint]
    assert sorted(Path(one.place).name for one in found if one.kind == "unix") == NAMES
    folder = sockets(deep)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder.iterdir() if path.is_socket()) == NAMES


def test_fault_03_another_user_cannot_write_past_the_keys(deep: Swift) -> None:
    """Neither through a port of its processes, nor through a socket whose folder were open as far as it."""
    stranger.need_root()
    places = [one.place for one in stranger.listeners([p.pid for p in family(deep)]) if one.kind == "tcp"]
    opened = [folder for folder in sockets(deep).parents if "vaesvc-deep-" in str(folder)]
    door = Path(tempfile.mkdtemp(prefix="vaesvc-door-"))  # short enough to be tried
    try:
        for folder in (door, *opened):
            folder.chmod(0o755)
        (door / "s").symlink_to(sockets(deep))
        paths = [f"{door}/s/{name}" for name in NAMES]
        answers = stranger.run(PUT, *places, *paths)
    finally:
        shutil.rmtree(door)
        for folder in opened:
            folder.chmod(0o700)
    assert {place: answers[place] for place in paths} == dict.fromkeys(paths, "PermissionError")
    assert places, "the proxy has one"
    assert all(answers[place] in (400, 401, 403, 404) for place in places), answers


def test_a_storage_server_that_dies_comes_back_on_its_socket(deep: Swift) -> None:
    """So do all of them after kill -9, and nothing is lost."""
    artifacts = Artifacts(deep.storage, patience_seconds=30)
    uri = artifacts.uri("test_storage_servers")
    artifacts.put_bytes(uri, b"kept")
    listening = {Path(one.place).name: one.pid for one in stranger.listeners([p.pid for p in family(deep)])}
    for name in NAMES:
        os.kill(listening[name], 9)
        wait_for(lambda: artifacts.get_bytes(uri) == b"kept", 30, f"nothing after the {name} server's death")
        artifacts.put_bytes(uri, b"kept")
    deep.kill()
    deep.start()
    assert artifacts.get_bytes(uri) == b"kept"


WARN = """
import psutil, sys
from service.stack import swift_server
if sys.argv[1] == "ours":
    swift_server._log_to_stderr_alone()
from swift.common.utils import get_logger
get_logger({"log_level": "WARNING"}, "proxy-server", log_to_console=True, log_route="proxy").warning("a disk is slow")
print(len(psutil.Process().net_connections("udp")))
"""


@pytest.mark.skipif(os.path.exists("/dev/log"), reason="this machine has a system log at /dev/log: Swift opens no port")
@pytest.mark.parametrize(("whose", "sockets"), [("ours", "0"), ("swift's", "1")])
def test_a_warning_goes_to_stderr_and_opens_no_port(whose: str, sockets: str) -> None:
    """Swift's own way, without a system's log, is a UDP socket on every interface."""
    command = [sys.executable, "-c", WARN, whose]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == sockets
    assert "a disk is slow" in ended.stderr
