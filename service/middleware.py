"""Around every call of the API: a bound on its body, the audit log, one shape for every error, the version on every
answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import __version__, access, wire
from service.auditing import Auditing
from service.errors import VaesvcError
from service.mistakes import listed

log = logging.getLogger("vaesvc.api")

BODY_SECONDS = 30.0  # a request's body must be here by then
LARGE_AT_ONCE = 4  # packages of own code that are read at once; the others wait within BODY_SECONDS
SEND_SECONDS = 60.0  # for a caller to take a piece of an answer
SLOW_LOG_SECONDS = 2.0  # calls that take longer are logged
_VERSION_BYTES = wire.VERSION_HEADER.encode()


def install(app: FastAPI) -> None:
    """Install all of this middleware around `app`."""
    app.add_exception_handler(VaesvcError, _on_known)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unknown)
    app.add_middleware(Auditing)
    app.add_middleware(BodyLimit)
    app.add_middleware(Stamp)


class BodyLimit:
    """Reads each request's body before the handler sees it: at most MAX_REQUEST_BYTES, within BODY_SECONDS, and of one
    length.

    A package of own code may be larger, where the caller may bring one; few of those are read at once.

    Of a caller whose token is not known nothing is read but the little that a login takes: the handler, which will
    refuse it or needs no body, sees an empty one, and the connection ends with the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _of_two_lengths(scope):
            both = "a request with both a Content-Length and a Transfer-Encoding is not taken: send one of them"
            await _reply(400, "usage", both, last=True)(scope, receive, send)
            return
        declared = _declared(scope)
        if declared == 0:
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                known = await access.may_send(Request(scope))
                most = access.most_bytes(Request(scope)) if known else 0
                async with self._large if most > wire.MAX_REQUEST_BYTES else contextlib.nullcontext():
                    body = await _read_body(receive, declared, most) if known else b""
        except TimeoutError:
            late = f"the body was not here within {BODY_SECONDS:.0f} s"
            await _reply(408, "unavailable", late, last=True)(scope, receive, send)
            return
        except VaesvcError as error:
            await _reply(error.http_status, error.code, str(error), last=True)(scope, receive, send)
            return
        if body is None:
            message = f"the request is larger than {most:,} bytes, the most that is taken"
            await _reply(413, "usage", message, last=True)(scope, receive, send)
            return
        unread = True

        async def ending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        async def replay() -> Message:
            nonlocal unread
            if unread:
                unread = False
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await self.app(scope, replay, send if known else ending)


class Stamp:
    """Puts the service's version on every answer, and calls that took long into the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_VERSION_BYTES, __version__.encode())]
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        started = time.monotonic()
        await self.app(scope, receive, stamped)
        if scope["type"] == "http" and (seconds := time.monotonic() - started) > SLOW_LOG_SECONDS:
            log.warning("%s %s took %.1f s", scope["method"], scope["path"], seconds)


def _of_two_lengths(scope: Scope) -> bool:
    """Return whether a proxy may see the body's end elsewhere, and so in what follows the next caller's request."""
    return {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}


def _declared(scope: Scope) -> int | None:
    """Return the body's bytes by the request's head; None for one that comes in pieces, of any length."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return None
    return int(headers.get(b"content-length", b"0"))  # h11 has seen to it that it is a number


async def _read_body(receive: Receive, declared: int | None, most: int) -> bytes | None:
    """Return the whole body; None if it is larger than allowed, unread where its head says so."""
    if declared is not None and declared > most:
        return None
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if message["type"] != "http.request" or not message.get("more_body", False):
            return bytes(body)


def _reply(status: int, code: str, message: str, *, last: bool = False) -> JSONResponse:
    """Return a reply. last: the connection ends with it, because what else the caller sends is not read."""
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    if last:
        headers["connection"] = "close"
    return JSONResponse(wire.ErrorReply(code=code, message=message).model_dump(), status_code=status, headers=headers)


async def _on_known(request: Request, error: Exception) -> Response:
    assert isinstance(error, VaesvcError)
    return _reply(error.http_status, error.code, str(error))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    reasons = (f"{'.'.join(str(part) for part in mistake['loc'])}: {mistake['msg']}" for mistake in error.errors())
    return _reply(422, "usage", listed(reasons, between="; "))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _reply(404, "not_found", f"no such call: {request.method} {_path(request)}; /docs lists them")
    return _reply(error.status_code, "usage", f"{request.method} {_path(request)}: {error.detail}")


def _path(request: Request) -> str:
    return request.url.path[:200]


async def _on_unknown(request: Request, error: Exception) -> Response:  # the server logs the traceback
    return _reply(500, "error", "the service failed on this request; its API log has the details")
