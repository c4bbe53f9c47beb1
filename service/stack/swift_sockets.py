"""Swift's storage servers on Unix sockets in a folder that only this user may enter, instead of TCP ports.

They believe whoever reaches them: keys are checked by the proxy alone. On a port of loopback every user of the machine
reaches them; through a closed folder nobody else does. Swift knows addresses and ports only, so the two places where
it opens a socket are changed: where a server listens, and where the proxy, the updater and the servers themselves
connect. The ports in its rings and configurations are names then: nothing listens on them, and were anything ever to
bypass this module, it would find nobody.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
PORTS: Mapping[str, int] = {"account": 1, "container": 2, "object": 3}  # of the rings: names, never opened


def use(folder: Path) -> None:
    """Put the storage servers' addresses, of this process and of those it forks, at `folder`/NAME from now on."""
    from eventlet.convenience import listen
    from eventlet.green import socket
    from swift.common import bufferedhttp, wsgi

    path = _paths(folder)
    open_port: Callable[[Mapping[str, Any]], Any] = wsgi.get_socket
    connect_port: Callable[[Any], None] = bufferedhttp.BufferedHTTPConnection.connect

    def get_socket(conf: Mapping[str, Any]) -> Any:
        chosen = path.get(int(conf["bind_port"]))
        if chosen is None:
            return open_port(conf)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(chosen)  # of a server that was killed; there is one per state directory
        return listen(chosen, family=socket.AF_UNIX, backlog=int(conf.get("backlog", 4096)), reuse_port=False)

    def connect(connection: Any) -> None:
        chosen = path.get(connection.port) if connection.host == HOST else None
        if chosen is None:
            connect_port(connection)
            return
        connection._connected_time = time.time()
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(chosen)

    wsgi.get_socket = get_socket
    bufferedhttp.BufferedHTTPConnection.connect = connect


def _paths(folder: Path) -> dict[int, str]:
    """Return each server's path by port. The address of a Unix socket has 107 bytes at most, so the folder goes by its
    descriptor, not by its path, which may be longer; children inherit the descriptor."""
    folder.mkdir(exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    return {port: f"/proc/self/fd/{descriptor}/{name}" for name, port in PORTS.items()}
