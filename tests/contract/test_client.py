"""The client: servers that are away, addresses that are none, strangers, and errors that travel."""

from __future__ import annotations

import http.server
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.client import Client
from service.errors import StorageError, UnavailableError, UsageError
from service.kinds.train.spec import resolve
from tests import bad_servers
from tests.api_server import running_api, settings_in


def test_a_server_that_is_not_there_is_named_with_what_to_do() -> None:
    free = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{free.getsockname()[1]}"
    free.close()
    started = time.monotonic()
    with Client(url, "t", retry_seconds=1) as client, pytest.raises(UnavailableError) as caught:
        client.jobs()
    assert url in str(caught.value)
    assert "vaesvc up" in str(caught.value)
    assert 0.5 < time.monotonic() - started < 20


def test_an_api_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with running_api(settings) as api:
        token, url = api.token, api.url
    port = int(url.rpartition(":")[2])
    with ThreadPoolExecutor(1) as pool, Client(url, token, retry_seconds=20) as client:
        answer = pool.submit(client.whoami)
        time.sleep(1)
        assert not answer.done()
        import uvicorn

        from service.api import create_app

        server = uvicorn.Server(uvicorn.Config(create_app(settings), port=port, log_config=None))
        with ThreadPoolExecutor(1) as second:
            running = second.submit(server.run)
            try:
                assert answer.result(20) == "ann"
            finally:
                server.should_exit = True
                running.result(20)


@pytest.mark.parametrize("url", ["localhost:8470", "ftp://x", "", "http://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match="http://HOST:PORT"):
        Client(url)


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server that is no API of ours."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Silent)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_stranger_at_the_address_is_recognised(stranger: http.server.ThreadingHTTPServer) -> None:
    url = f"http://127.0.0.1:{stranger.server_port}"
    with Client(url) as client, pytest.raises(Exception, match="no vaesvc API"):
        client.jobs()


def test_tls_is_for_those_whom_the_machine_trusts(
    stranger: http.server.ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = bad_servers.certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    stranger.socket = context.wrap_socket(stranger.socket, server_side=True)
    call = (
        f"from service.client import Client; Client('https://127.0.0.1:{stranger.server_port}', retry_seconds=0).jobs()"
    )

    def said(environment: dict[str, str]) -> str:
        done = subprocess.run(
            [sys.executable, "-c", call], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stderr

    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert "certificate verify failed" in said(dict(os.environ))
    assert "no vaesvc API" in said({**os.environ, "SSL_CERT_FILE": str(certificate)})


def test_the_error_of_the_wire_is_raised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    with running_api(settings_in(tmp_path)) as api, api.client() as client:
        monkeypatch.setattr(api.store, "submit", full)
        with pytest.raises(StorageError, match="the disk is full"):
            client.submit(resolve("digits/beta-vae-mlp").model_dump(mode="json"))
