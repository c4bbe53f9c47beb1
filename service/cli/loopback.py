"""A listener on this machine's loopback, to which a browser brings the code of a login (RFC 8252, section 7.3)."""

from __future__ import annotations

import hmac
import html
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from service.errors import AuthError, UsageError

CALLBACK = "/callback"
ANSWER_SECONDS = 90.0  # the browser waits so long to be told how it went
SHOW_SECONDS = 5.0  # for the answer to be on its way
REQUEST_SECONDS = 10.0  # for a request's head
_PAGE = "<!doctype html><meta charset=utf-8><title>vaesvc</title><p style='font:16px sans-serif;margin:15vh 10vw'>{}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is nobody's trouble."""


class Listener:
    """Waits for one request with the right state; others are refused, and the waiting goes on."""

    def __init__(self, port: int) -> None:
        self._came: queue.Queue[dict[str, str]] = queue.Queue()
        self._said: queue.Queue[str] = queue.Queue()
        self._shown = threading.Event()
        self._state = ""
        self._taken = threading.Lock()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_SECONDS
            server_version, sys_version = "vaesvc", ""

            def do_GET(self) -> None:
                listener._get(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass  # its addresses hold codes

        self._server = _Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]

    def serve(self) -> threading.Thread:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, url: str, seconds: float) -> dict[str, str]:
        """Return the query of the request that the login at `url` ends in. Raises AuthError when it does not come."""
        self._state = parse_qs(urlsplit(url).query).get("state", [""])[0]
        try:
            return self._came.get(timeout=seconds)
        except queue.Empty:
            raise AuthError(f"no browser came back within {seconds / 60:.0f} minutes: log in again") from None

    def answer(self, text: str) -> None:
        """Show the browser how it went, and give the answer a moment to be on its way."""
        self._said.put(text)
        self._shown.wait(SHOW_SECONDS)

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        right = bool(self._state) and hmac.compare_digest(query.get("state", "").encode(), self._state.encode())
        if parts.path != CALLBACK or not right or not self._taken.acquire(blocking=False):
            _reply(handler, 400, "This is not the login that was begun here.")
            return
        self._came.put(query)
        try:
            _reply(handler, 200, self._said.get(timeout=ANSWER_SECONDS))
        except (queue.Empty, OSError):
            return
        finally:
            self._shown.set()


def _reply(handler: BaseHTTPRequestHandler, status: int, text: str) -> None:
    body = _PAGE.format(html.escape(text)).encode()
    handler.send_response(status)
    for name, value in (
        ("content-type", "text/html; charset=utf-8"), ("content-length", str(len(body))), ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"), ("connection", "close"),
        ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ):  # fmt: skip
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def listening(port: int) -> Iterator[Listener]:
    """A listener on this port of 127.0.0.1; 0: any that is free. Raises UsageError for a port that is taken."""
    try:
        listener = Listener(port)
    except OSError as error:
        raise UsageError(f"--port {port}: 127.0.0.1 has that port taken ({error.strerror}); leave it out") from error
    thread = listener.serve()
    try:
        yield listener
    finally:
        listener.close()
        thread.join(10)
