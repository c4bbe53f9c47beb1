"""uvicorn, as the API is served: nobody keeps others out by being slow.

A connection has a bounded time to say what it wants, counted anew for each request, and is closed after that. A body
is read from callers with a known token only (`service.middleware`), whole, within a bounded time. Where there are as
many connections as are taken, the one that has been waiting longest without asking for anything gives way to a new
one: strangers who open connections and say nothing close each other's.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # from a connection's or a request's first byte to the end of its head
KEEP_ALIVE_SECONDS = 75
DRAIN_SECONDS = 10  # for calls that run when the server is told to stop
MOST_CALLS = 512  # at once; more are told to come again
MOST_CONNECTIONS = MOST_CALLS - 32  # room for those that are being closed


class Impatient(H11Protocol):
    """HTTP/1.1 with a time limit for the head of a request."""

    _patience: asyncio.TimerHandle | None = None
    _idle_since: float | None = None  # no request is being answered since then

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _send_at_once(transport)
        self._make_room()
        self._idle_since = time.monotonic()
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering():
            self._idle_since = None
            self._head_is_here()
        elif self._patience is None and not self.transport.is_closing():
            self._wait_for_head()  # of the next request on this connection: its first bytes end the keep-alive's time

    def on_response_complete(self) -> None:
        self._idle_since = time.monotonic()
        super().on_response_complete()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        self._patience = self.loop.call_later(HEADER_SECONDS, self._lose_patience)

    def _head_is_here(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        if not self._answering():
            self.transport.close()

    def _make_room(self) -> None:
        connections = cast("set[Impatient]", self.connections)
        if len(connections) <= MOST_CONNECTIONS:
            return
        idle = [
            connection for connection in connections if connection._idle_since is not None and connection is not self
        ]
        if idle:
            longest = min(idle, key=lambda connection: cast(float, connection._idle_since))
            connections.discard(longest)  # counted no more, from now on
            longest.transport.close()


def _send_at_once(transport: asyncio.Transport) -> None:
    """Let an answer's body not wait until the caller has acknowledged its head, which takes 40 ms. asyncio asks for it
    of sockets that say they are TCP, and those of a listening socket that was opened before do not say so."""
    connected = transport.get_extra_info("socket")
    if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def config(app: Any, **more: Any) -> uvicorn.Config:
    """Return the configuration of the API's server; `more` adds to it."""
    values: dict[str, Any] = {
        "http": Impatient,
        "ws": "none",
        "log_config": None,
        "access_log": False,  # heartbeats and polls would fill the disk; slow and failed calls are logged
        "limit_concurrency": MOST_CALLS,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": DRAIN_SECONDS,
        "server_header": False,
        # whose word counts for where a call came from: nobody's, unless a proxy's address is named there
        "proxy_headers": "FORWARDED_ALLOW_IPS" in os.environ,
    }
    return uvicorn.Config(app, **(values | more))
