"""Servers that nobody can work with, one for each way of it: for tests of what callers make of them."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _reply(status: str, kind: str, body: bytes, *more: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", "connection: close", *more]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


_PAGE = b"<html><body>Welcome to the proxy of the house</body></html>"
_CUT = _reply("200 OK", "application/json", b'{"job": {"id": "j-1", ' + b" " * 500)
REPLIES: dict[str, bytes] = {
    "reset": _CUT[:-400],  # then the connection is reset
    "nothing": b"",
    "http-500": _reply("500 Internal Server Error", "text/html", _PAGE),
    "http-502": _reply("502 Bad Gateway", "text/html", _PAGE),
    "http-404": _reply("404 Not Found", "text/html", _PAGE),
    "http-401": _reply("401 Unauthorized", "text/html", _PAGE),
    "page": _reply("200 OK", "text/html", _PAGE),
    "login": _reply("302 Found", "text/html", b"", "location: /login"),
    "no-json": _reply("200 OK", "application/json", b'{"job": \xff\xfe'),
    "null": _reply("200 OK", "application/json", b"null"),
    "other-json": _reply("200 OK", "application/json", b'{"ok": true, "jobs": [1, 2]}'),
    "no-gzip": _reply("200 OK", "application/json", b"this is not compressed", "content-encoding: gzip"),
    "cut-gzip": _reply("200 OK", "application/json", gzip.compress(b"[]" * 500)[:20], "content-encoding: gzip"),
    "no-http": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "long-line": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
}
WAYS = ("closed", "silent", "tls", "plain-for-tls", *REPLIES)


@contextmanager
def bad_server(way: str, folder: Path) -> Iterator[str]:
    """The address of a server that is bad in one of WAYS. closed: nobody listens; silent: it takes connections and
    never answers; tls: with a certificate that nobody trusts; plain-for-tls: https, and there it speaks http."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        if way == "closed":
            listening.close()
            yield f"http://{address}"
            return
        handle: Callable[[socket.socket], None]
        if way == "silent":
            held: list[socket.socket] = []
            handle = held.append
        elif way == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate(folder))

            def handle(connection: socket.socket) -> None:
                with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(65536)
        else:
            reply = REPLIES["page" if way == "plain-for-tls" else way]

            def handle(connection: socket.socket) -> None:
                _answer(connection, reply, reset=way == "reset")

        threading.Thread(target=_accept, args=(listening, handle), daemon=True).start()
        yield f"https://{address}" if way in ("tls", "plain-for-tls") else f"http://{address}"


def _accept(listening: socket.socket, handle: Callable[[socket.socket], None]) -> None:
    with contextlib.suppress(OSError):  # closed
        while True:
            connection, _ = listening.accept()
            connection.settimeout(10)
            threading.Thread(target=handle, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket, reply: bytes, *, reset: bool) -> None:
    with connection, contextlib.suppress(OSError):
        connection.recv(1 << 20)
        connection.sendall(reply)
        if reset:  # closing sends RST instead of FIN
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def certificate(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) for 127.0.0.1 that no machine trusts. Skips where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes the certificate")
    made, key = folder / "certificate.pem", folder / "key.pem"
    if not made.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-keyout", key, "-out", made, "-subj", "/CN=here",
             "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    return made, key
