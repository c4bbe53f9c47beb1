"""Callers that say nothing, or say it slowly, on real sockets: they keep nobody else out."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from uvicorn.server import ServerState

from service import auth, serving, wire
from service.client import Client
from service.kinds.train.spec import resolve
from service.queue.store import Store
from tests.api_server import Api, running_api, settings_in

NORMAL_SECONDS = 2.0  # a call of others, on a machine that does other things too; kept out means for ever
HALF_OPEN = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Slow: "


@dataclass(frozen=True, kw_only=True)
class Served:
    """`vaesvc serve`, as it is run."""

    url: str
    token: str
    process: subprocess.Popen[str]

    def connect(self, stack: ExitStack, text: bytes) -> socket.socket:
        host, port = self.url.removeprefix("http://").split(":")
        made = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
        made.sendall(text)
        return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("served")
    token = auth.new_token()
    store = Store(f"sqlite:///{home}/vaesvc.db")
    store.migrate()
    store.add_token("ann", token)
    store.close()
    command = [sys.executable, "-c", "from service.cli.main import main; main()", "serve", "--port", "0"]
    environment = {**os.environ, "VAESVC_HOME": str(home), "VAESVC_CONFIG": ""}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield Served(url=process.stdout.readline().strip(), token=token, process=process)
    finally:
        process.terminate()
        process.wait(30)


def _post(token: str | None, length: int, body: bytes = b"{") -> bytes:
    """The head of a submit with so long a body, and the first bytes of that."""
    header = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n{header}Content-Length: {length}\r\n\r\n".encode() + body


def _slowest_call(served: Served) -> tuple[float, float]:
    """Seconds of others' calls, each on a connection of its own: the median, and the longest."""
    spec, took = resolve("digits/beta-vae-mlp"), []
    for number in range(10):
        started = time.monotonic()
        with Client(served.url, served.token, retry_seconds=0) as client:
            if number % 2:
                client.submit(spec)
            else:
                client.whoami()
        took.append(time.monotonic() - started)
    return statistics.median(took), max(took)


@pytest.mark.parametrize("kind", ["half open", "slow body", "slow body without a token", "all at once"])
def test_fault_05_fifty_slow_callers_keep_nobody_out(served: Served, kind: str) -> None:
    texts = {
        "half open": HALF_OPEN,
        "slow body": _post(served.token, 1000),
        "slow body without a token": _post(None, 1000),
    }
    with ExitStack() as stack:
        for text in texts.values() if kind == "all at once" else [texts[kind]]:
            for _ in range(50):
                served.connect(stack, text)
        _, longest = _slowest_call(served)
    assert longest < NORMAL_SECONDS


def test_fault_05_more_connections_than_are_taken_give_way_to_those_who_ask(served: Served) -> None:
    """The oldest that say nothing are closed; before, the 513th caller and all after it were refused."""
    number = serving.MOST_CALLS + 40
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * number:
        pytest.skip(f"a process may have {hard} files open here, and this test opens {number} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * number), hard))
    with ExitStack() as stack:
        for _ in range(number):
            served.connect(stack, HALF_OPEN)
        _, longest = _slowest_call(served)
    assert longest < NORMAL_SECONDS


def test_fault_05_nothing_is_read_from_strangers(served: Served) -> None:
    """The answer is there before the body, which is never asked for, and the connection ends."""
    for token in (None, "vaesvc_unknown", auth.attempt_token(b"x" * 32, "j1", 1)):
        with ExitStack() as stack:
            stranger = served.connect(stack, _post(token, 10 * 2**20))
            answer = stranger.recv(4096)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b"connection: close" in answer.lower()
            while stranger.recv(4096):
                pass
    with ExitStack() as stack:  # a call that needs no token needs no body either
        stranger = served.connect(stack, b"GET /v1/health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        assert stranger.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_fault_05_too_large_a_body_is_refused_by_its_head(served: Served) -> None:
    with ExitStack() as stack:
        caller = served.connect(stack, _post(served.token, wire.MAX_REQUEST_BYTES + 1))
        assert caller.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_two_lengths_is_refused_and_what_follows_it_is_not_read(served: Served) -> None:
    both = _post(served.token, 5, b"0\r\n\r\n").replace(b"\r\nHost", b"\r\nTransfer-Encoding: chunked\r\nHost")
    with ExitStack() as stack:
        caller = served.connect(stack, both + WHOLE)
        answers = b"".join(iter(lambda: caller.recv(4096), b""))
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 1


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The same server in this process, with a short patience."""
    monkeypatch.setattr(serving, "HEADER_SECONDS", 0.4)
    with running_api(settings_in(tmp_path)) as api:
        yield api


WHOLE = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("before", "text"),
    [(b"", b""), (b"", HALF_OPEN), (WHOLE, HALF_OPEN)],  # idle after an answer is no fault: it is kept alive
    ids=["nothing", "half a head", "half a head after an answer"],
)
def test_fault_05_a_head_that_does_not_come_is_not_waited_for_for_ever(
    impatient: Api, before: bytes, text: bytes
) -> None:
    host, port = impatient.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        if before:
            caller.sendall(before)
            assert caller.recv(4096).startswith(b"HTTP/1.1 200 ")
        started = time.monotonic()
        for byte in text:  # a byte at a time does not buy more time
            caller.sendall(bytes([byte]))
        while caller.recv(4096):
            pass
        assert time.monotonic() - started < 30


def test_fault_05_a_slow_answer_is_not_cut_by_the_heads_time_limit(
    impatient: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = impatient.store.cluster

    def slow() -> wire.ClusterStatus:
        time.sleep(1.0)
        return real()

    monkeypatch.setattr(impatient.store, "cluster", slow)
    with impatient.client(retry_seconds=0) as client:
        assert client.cluster().ray_ok is False
        time.sleep(0.6)  # an idle connection stays
        assert client.whoami() == "ann"


def test_an_answer_goes_out_at_once_whoever_opened_the_listening_socket() -> None:
    """Else its body waits 40 ms for the caller to acknowledge its head: such sockets do not say that they are TCP."""

    async def option() -> int:
        config = serving.config(lambda: None)
        config.load()
        connections: list[serving.Impatient] = []

        def connected() -> serving.Impatient:
            connections.append(serving.Impatient(config=config, server_state=ServerState(), app_state={}))
            return connections[-1]

        listening = socket.create_server(("127.0.0.1", 0))
        server = await asyncio.get_running_loop().create_server(connected, sock=listening)
        async with server:
            _, caller = await asyncio.open_connection(*listening.getsockname())
            while not connections or connections[0].transport is None:
                await asyncio.sleep(0.01)
            theirs = connections[0].transport.get_extra_info("socket")
            chosen: int = theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            caller.close()
            connections[0].transport.close()
            return chosen

    assert asyncio.run(asyncio.wait_for(option(), 60)) == 1
