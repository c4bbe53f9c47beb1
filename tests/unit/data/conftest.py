"""A real HTTP server with the faults of real ones, and where the published files are."""

from __future__ import annotations

import http.server
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.unit.data import publishing
from vae_models.data.places import Places

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass
class Mirror:
    """Serves `files` under `url`. The faults count down: each one spoils one answer."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True  # honours Range
    cut_after: list[int] = field(
        default_factory=list
    )  # next answers: this many bytes of the body, then the link is cut
    statuses: list[int] = field(default_factory=list)  # next answers: this status and no file
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range)
    sent: int = 0  # bytes of bodies

    def __post_init__(self) -> None:
        self.lock = threading.Lock()


def _handler(mirror: Mirror) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with mirror.lock:
                mirror.requests.append((self.path, self.headers.get("Range")))
                status = mirror.statuses.pop(0) if mirror.statuses else 200
            body = mirror.files.get(self.path.lstrip("/"))
            if status != 200 or body is None:
                self.send_error(status if status != 200 else 404)
                return
            self._send(body)

        def _send(self, body: bytes) -> None:
            wanted, start = self.headers.get("Range"), 0
            if wanted and mirror.ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            rest = body[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            with mirror.lock:
                rest = rest[: mirror.cut_after.pop(0)] if mirror.cut_after else rest
                mirror.sent += len(rest)
            self.wfile.write(rest)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    served = Mirror()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    served.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between the tests and their server."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def published(tmp_path: Path) -> Places:
    """The published files; what is not there is not downloaded either."""
    folder = Path(os.environ.get("VAESVC_DATA_DIR") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "mnist").is_dir():
        pytest.skip(
            f"the published files are not at {folder}: set VAESVC_DATA_DIR to a folder with mnist/ and the others"
        )
    return Places(data_dir=folder, cache_dir=tmp_path / "cache")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "data").mkdir()
    return Places(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, places: Places) -> publishing.Publish:
    """`publishing.publish` into `places`."""
    return partial(publishing.publish, monkeypatch, places)


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that others may enter, as pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)


@contextmanager
def somebody_else() -> Iterator[None]:
    """As a user whom file permissions bind: root is asked for none."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
