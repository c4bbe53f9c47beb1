"""The client: servers that are away, addresses that are none, strangers, and errors that travel."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.client import Client
from service.errors import StorageError, UnavailableError, UsageError
from service.spec import resolve
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


def test_a_stranger_at_the_address_is_recognised() -> None:
    import http.server
    import threading

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        with (
            Client(f"http://127.0.0.1:{server.server_port}") as client,
            pytest.raises(Exception, match="no vaesvc API"),
        ):
            client.jobs()
    finally:
        server.shutdown()
        server.server_close()


def test_the_error_of_the_wire_is_raised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("the disk is full")

    with running_api(settings_in(tmp_path)) as api, api.client() as client:
        monkeypatch.setattr(api.store, "submit", full)
        with pytest.raises(StorageError, match="the disk is full"):
            client.submit(resolve("digits/beta-vae-mlp").model_dump(mode="json"))
