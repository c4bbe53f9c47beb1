"""Around every call: what users do, and whom the API refuses, goes into the audit log before the answer goes out.

An act is a user's call that is no plain reading. What attempts do is in their job's events. Calls without a known token
are noted too, of each minute no more than `STRANGERS`: the log must not be what a flood fills the disk with.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import VaesvcError
from service.queue.acts import Act, allowed

if TYPE_CHECKING:
    from service.queue.jobs import TokenInfo

log = logging.getLogger("vaesvc.audit")

STRANGERS = 60  # calls without a known token that are noted in a minute; of others their number is
READING = frozenset({"GET", "HEAD", "OPTIONS"})
_MINUTE = 60.0


def about(request: Request, *names: str) -> None:
    """Say what the call is about, where its path does not."""
    request.state.about = " ".join(names)


def act_of(request: Request, status: int) -> Act:
    """Return the act that a call is which is answered with `status`."""
    scope = request.scope
    user: TokenInfo | None = getattr(request.state, "user", None)
    route = scope.get("route")
    names = [str(value) for value in scope.get("path_params", {}).values()]
    return Act(
        actor="" if user is None else user.name,
        token="" if user is None else user.label,
        act=f"{scope['method']} {getattr(route, 'path', scope['path'])}",
        object=getattr(request.state, "about", None) or " ".join(names),
        origin="" if scope.get("client") is None else str(scope["client"][0]),
        status=status,
    )


def already_noted(request: Request) -> None:
    """Say that the call's act, `act_of` it, was written with what it did: in one transaction."""
    request.state.unnoted = True


class Strangers:
    """Counts calls without a known token: so many of each minute are noted."""

    def __init__(self) -> None:
        self._minute = 0.0
        self._noted = 0
        self._passed_over = 0

    def detail(self) -> dict[str, Any] | None:
        """Return the detail of such a call; None where this minute has had enough of them."""
        if time.monotonic() - self._minute >= _MINUTE:
            self._minute, self._noted = time.monotonic(), 0
        if self._noted >= STRANGERS:
            self._passed_over += 1
            return None
        self._noted += 1
        passed_over, self._passed_over = self._passed_over, 0
        return {"more_since": passed_over} if passed_over else {}


class Auditing:
    """Notes acts and refusals. Where the database is silent, they are in the API's log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._strangers = Strangers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and (act := self._act(scope, message["status"])) is not None:
                await _note(scope, act)
            await send(message)

        await self._app(scope, receive, noted)

    def _act(self, scope: Scope, status: int) -> Act | None:
        """Return what is to be noted of a call that is answered with `status`; None: nothing."""
        route, refused = scope.get("route"), not allowed(status)
        reading = scope["method"] in READING or "number" in scope.get("path_params", {})
        if route is None or (reading and not refused):
            return None
        request = Request(scope)
        if getattr(request.state, "unnoted", False) and not refused:
            return None
        if getattr(request.state, "user", None) is not None:
            return act_of(request, status)
        detail = self._strangers.detail()
        return None if detail is None else act_of(request, status).model_copy(update={"detail": detail})


async def _note(scope: Scope, act: Act) -> None:
    store = scope["app"].state.services.store
    try:
        await anyio.to_thread.run_sync(partial(store.audit.add, act))
    except VaesvcError as error:
        log.warning("not in the audit log (%s): %s", error, act.model_dump_json())
