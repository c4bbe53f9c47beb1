"""Who is told of jobs, on real sockets: a receiver of webhooks and a mail server, for tests."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """status: what it answers; hold: it takes requests and answers only when this is set."""

    port: int
    received: list[Received] = field(default_factory=list)
    status: int = 200
    location: str = ""
    hold: threading.Event | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@contextmanager
def receiver(port: int = 0, context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver of webhooks on this port, a free one by default."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            if told.hold is not None:
                told.hold.wait(60)
            self.send_response(told.status)
            if told.location:
                self.send_header("location", told.location)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a caller that was killed

    with Server(("127.0.0.1", port), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        told = Receiver(server.server_address[1])
        with _serving(server):
            yield told


@dataclass
class Mailbox:
    """mails: envelope's recipients, and the mail as it was sent. refuse: this reply instead of taking a recipient."""

    port: int
    mails: list[tuple[list[str], bytes]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    refuse: str = ""


@contextmanager
def mailbox(context: ssl.SSLContext | None = None) -> Iterator[Mailbox]:
    """A mail server: as much of RFC 5321 and of AUTH PLAIN as a client needs that hands over mail."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 here")
            recipients: list[str] = []
            while line := self.rfile.readline().decode().strip():
                verb, _, rest = line.partition(" ")
                match verb.upper():
                    case "EHLO":
                        self._say("250-here")
                        self._say("250 AUTH PLAIN")
                    case "AUTH":
                        _, user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")
                        box.logins.append((user, password))
                        self._say("235 welcome" if password == "right" else "535 who is that, with " + password)
                    case "RCPT" if box.refuse:
                        self._say(box.refuse)
                    case "RCPT":
                        recipients.append(rest.partition(":")[2].strip("<>"))
                        self._say("250 taken")
                    case "DATA":
                        self._say("354 go on")
                        box.mails.append((recipients, self._mail()))
                        self._say("250 taken")
                    case "QUIT":
                        self._say("221 bye")
                        return
                    case _:
                        self._say("250 taken")

        def _mail(self) -> bytes:
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
            return b"".join(lines)

        def _say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        box = Mailbox(server.server_address[1])
        with _serving(server):
            yield box


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    serve: Callable[[], None] = lambda: server.serve_forever(poll_interval=0.05)  # noqa: E731
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(20)
