"""A real API on a real socket over a real store, and a proxy that loses answers: for tests."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import SecretStr

from service import auth, serving
from service.api import create_app
from service.artifacts import Artifacts
from service.client import AttemptClient, Client
from service.queue.jobs import Attempt, Capacity
from service.queue.store import Store
from service.settings import S3Settings, Settings
from tests.servers import wait_for

NODE = {"CPU": 4.0, "memory": 8e9}


@dataclass(frozen=True, kw_only=True)
class Api:
    """`token` is that of the user "ann", who is no administrator."""

    url: str
    token: str
    store: Store
    settings: Settings

    def client(self, token: str | None = None, **options: Any) -> Client:
        return Client(self.url, token or self.token, **options)

    def user(self, name: str, *, admin: bool = False) -> Client:
        """Another user's client."""
        token = auth.new_token()
        self.store.add_token(name, token, admin=admin)
        return self.client(token)

    def attempt_client(self, attempt: Attempt, **options: Any) -> AttemptClient:
        secret = auth.read_secret(self.settings.secret_file)
        token = auth.attempt_token(secret, attempt.job_id, attempt.number)
        return AttemptClient(self.url, token, job_id=attempt.job_id, number=attempt.number, **options)

    def admit(self) -> list[Attempt]:
        """What the dispatcher does when a cluster of one node is there."""
        self.store.observe_cluster(Capacity(nodes=(NODE,)), address="http://ray", ok=True)
        return self.store.admit()


def s3_under(artifacts: Artifacts, prefix: str) -> S3Settings:
    """Return the settings of the same bucket under a prefix of a test's own."""
    storage = artifacts.settings
    return S3Settings(
        bucket=storage.bucket, prefix=prefix, endpoint_url=storage.endpoint_url, access_key=storage.access_key,
        secret_key=SecretStr(storage.secret_key or ""),
    )  # fmt: skip


def lay_tables(database_url: str) -> None:
    """Copy this version's tables to where there is no database yet: to make them takes a tenth of a second."""
    path = Path(database_url.removeprefix("sqlite:///"))
    if database_url.startswith("sqlite:///") and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_tables())


@cache
def _tables() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        store = Store(f"sqlite:///{path}")
        store.migrate()
        store.close()
        return path.read_bytes()


@contextmanager
def running_api(settings: Settings) -> Iterator[Api]:
    """The API of `settings` on a free port, its database made."""
    lay_tables(settings.database_url)
    store = Store(settings.database_url, lease_seconds=settings.lease_seconds)
    store.migrate()
    token = auth.new_token()
    store.add_token("ann", token)
    config = serving.config(create_app(settings, store), timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started, 20, "the API does not start")
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield Api(url=url, token=token, store=store, settings=settings)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        store.close()
    assert not thread.is_alive()


def settings_in(folder: Path, **more: Any) -> Settings:
    """Settings of an API that keeps everything in `folder`."""
    return Settings(home=folder, **more)


class LossyProxy:
    """Hands requests on, and for the next `lose` of them throws the answer away: processed there, unknown here."""

    def __init__(self, target: str, *, lose: int) -> None:
        host, port = target.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self.lose = lose
        self.requests = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        """One request per connection: the answer says so."""
        with client, socket.create_connection(self._target, timeout=10) as server:
            client.settimeout(10)
            request = _message(client)
            if not request:
                return
            self.requests += 1
            server.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            answer = b""
            while chunk := server.recv(65536):
                answer += chunk
            if self.lose > 0:
                self.lose -= 1
                return  # the request was processed; the connection ends without a word
            client.sendall(answer)


def _message(connection: socket.socket) -> bytes:
    """Head and body of one HTTP message with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := connection.recv(65536)):
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = (int(lengths[0]) if lengths else 0) - len(body)
    while missing > 0:
        chunk = connection.recv(65536)
        data += chunk
        missing -= len(chunk)
    return data
