"""The login in front of MLflow, in its server's own process: `mlflow server --app-name vaesvc ...`.

MLflow has no login of its own but `basic-auth`, a second list of users whose passwords are hashed slowly at every
request. Here the tokens of this service open it: a user's (SQL has its SHA-256), an attempt's and the service's own
(HMACs, `service.auth`). They come as `Authorization: Bearer TOKEN`, or as the password of a Basic login with any user
name, which is what browsers ask for, or in the cookie of a login by a provider (`service.oidc.page`). Who was let in is
remembered for a few seconds: a revoked token ends then.

A user reads everything and writes experiments and runs; the registry of models is written by the service, its
attempts, and administrators. Where a user may see their own jobs only (`read = "own"`) MLflow, which shows
everybody's, is the administrators'.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio.to_thread

from service import auth
from service.errors import AuthError, VaesvcError
from service.oidc.page import PATHS, SAFE_METHODS, PageLogin, page_login
from service.queue import roles
from service.tracking.page import Page
from service.tracking.rights import Right, names_a_place, needed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.queue.jobs import TokenInfo
    from service.queue.store import Store

KNOWN_SECONDS = 5.0  # a caller is not asked about again for this long
MOST_KNOWN = 10_000  # callers that are remembered; one more, and all are asked about again
MAX_EXPERIMENT_BYTES = 1 << 20  # of a request that makes an experiment
SIGN_IN = "sign in with any user name, and your token of this service as the password; or set MLFLOW_TRACKING_TOKEN"
SAFE = {  # for MLflow's server: nothing that it is sent is run, and nobody is told of it
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
}


class UnknownError(AuthError):
    """Nobody is known by what was given: to log in may help."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """An authenticated user, with the most that they may do."""

    name: str
    right: Right


class Doorkeeper:
    """The check of tokens. store: asked for users' tokens and attempts; everybody_reads: the setting `read`."""

    def __init__(
        self, store: Store, secret: bytes, *, everybody_reads: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._secret = secret
        self._everybody_reads = everybody_reads
        self._clock = clock
        self._known: dict[bytes, tuple[Caller, float]] = {}  # SHA-256 of the token -> who, until when

    async def caller(self, token: str) -> Caller:
        """Return the token's user. Raises AuthError for a token without rights here, UnavailableError if the database
        is silent."""
        digest = hashlib.sha256(token.encode()).digest()
        caller, until = self._known.get(digest, (None, 0.0))
        if caller is None or self._clock() >= until:
            self._known.pop(digest, None)
            caller = await anyio.to_thread.run_sync(self.look_up, token)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[digest] = (caller, self._clock() + KNOWN_SECONDS)
        return caller

    def look_up(self, token: str) -> Caller:
        """Return the token's user (see `caller`); asks the database every time."""
        tracking = auth.read_tracking_token(self._secret, token)
        if tracking is not None:
            return self._own(*tracking)
        if auth.is_attempt_token(token):
            raise AuthError("this is an attempt's token for the API, not for MLflow")
        user = self._store.token_user(token)
        if user is None:
            raise UnknownError(f"the token is not known here: wrong, or revoked; {SIGN_IN}")
        if not user.operator and not self._everybody_reads:
            raise AuthError(
                'this service shows its users their own jobs only (read = "own"), and MLflow shows everybody\'s: it is '
                "open to administrators and operators"
            )
        return Caller(name=user.name, right=_right(user))

    def _own(self, job_id: str, number: int) -> Caller:
        if not job_id:
            return Caller(name="the service", right=Right.REGISTER)
        if not self._store.attempt_open(job_id, number):
            raise AuthError(f"attempt {number} of job {job_id} is over, and its token with it")
        return Caller(name=f"attempt {number} of {job_id}", right=Right.REGISTER)


def _right(user: TokenInfo) -> Right:
    """Return the most that a user's token opens. Raises AuthError for one that may not even look."""
    for scope, right in (
        (roles.Scope.ADMIN, Right.REGISTER),
        (roles.Scope.SUBMIT, Right.LOG),
        (roles.Scope.READ, Right.READ),
    ):
        if user.may(scope):
            return right
    raise AuthError(
        f"the token {user.label!r} of {user.name} has not got the scope read, which looking at MLflow needs"
    )


class Gate:
    """An ASGI application around MLflow's: requests without the right are refused here, the others go on without
    token."""

    def __init__(
        self, app: ASGIApp, keeper: Doorkeeper, static_prefix: str = "", login: PageLogin | None = None
    ) -> None:
        self._app = app
        self._keeper = keeper
        self._prefix = static_prefix.rstrip("/")
        self._login = login  # by a provider; none: there is no such login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # MLflow has no WebSockets
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        path = scope["path"].removeprefix(self._prefix) if self._prefix else scope["path"]
        right = needed(scope["method"], path)
        if right is Right.OPEN or _asks_whether_it_may(scope["method"], headers):
            await self._app(scope, receive, send)
            return
        if self._login is not None and path in PATHS:
            await self._login(scope, receive, send, path)
            return
        cookie = None if self._login is None or b"authorization" in headers else self._login.token(headers)
        try:
            caller = await self._keeper.caller(cookie or _token(headers))
        except VaesvcError as error:
            unknown = isinstance(error, UnknownError)
            if self._login is not None and unknown and self._login.redirects(scope["method"], headers):
                query = scope["query_string"].decode("latin-1")
                await self._login.to_login(f"{path}?{query}" if query else path)(scope, receive, send)
                return
            # a browser would ask for a password on top of a page whose login is over
            asks = self._login is None or b"sec-fetch-mode" not in headers
            code = _CODES.get(error.http_status, "INTERNAL_ERROR")
            await _refuse(send, error.http_status, code, str(error), asks=asks)
            return
        refusal = _refusal(caller, right, scope["method"], path, headers)
        if cookie and scope["method"] not in SAFE_METHODS and self._login and not self._login.same_origin(headers):
            refusal = f"a page of another address may not {scope['method']} here"
        if refusal is None and caller.right is Right.LOG and names_a_place(path):
            receive, refusal = await _without_a_place(receive)
        if refusal is not None:
            await _refuse(send, 403, "PERMISSION_DENIED", refusal)
            return
        await self._app({**scope, "headers": self._kept(scope)}, receive, send)

    def _kept(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return a request's headers without the login: MLflow never sees it."""
        kept = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
        if self._login is None:
            return kept
        login = self._login
        return [(name, login.without(value) if name == b"cookie" else value) for name, value in kept]


_CODES = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 503: "TEMPORARILY_UNAVAILABLE"}


def create_app() -> Gate:
    """Return the app for `mlflow server --app-name vaesvc`, with the settings that every process of the service
    reads."""
    for name, value in SAFE.items():
        os.environ.setdefault(name, value)
    from mlflow.server.fastapi_app import app

    from service.queue.store import Store
    from service.settings import load

    settings = load()
    store = Store(settings.database_url, lease_seconds=settings.lease_seconds)
    secret = auth.read_secret(settings.secret_file)
    keeper = Doorkeeper(store, secret, everybody_reads=settings.read == "all")
    prefix = os.environ.get("_MLFLOW_STATIC_PREFIX", "")
    return Gate(Page(app, prefix), keeper, prefix, page_login(settings, store, secret))


def _token(headers: Mapping[bytes, bytes]) -> str:
    """Return the request's token. Raises AuthError where there is none that can be read."""
    kind, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "bearer" and given.strip():
        return given.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            raise AuthError(f"the Authorization header cannot be read; {SIGN_IN}") from None
    raise UnknownError(f"MLflow is behind the service's login: {SIGN_IN}")


def _asks_whether_it_may(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Return whether it is a browser's preflight request, which bears no login: MLflow's settings answer it."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def _refusal(caller: Caller, right: Right | None, method: str, path: str, headers: Mapping[bytes, bytes]) -> str | None:
    if right is None:
        return f"{method} {path} is not offered here: docs/security.md says what of MLflow is"
    if caller.right.value < right.value:
        return (
            f"{caller.name} may not {method} {path}: models are registered by the service when their job succeeds, and "
            "otherwise changed by administrators (`vaesvc token role NAME admin`)"
        )
    origin = headers.get(b"origin", b"").decode("latin-1")
    if method not in ("GET", "HEAD") and _another_of_this_machine(origin, headers.get(b"host", b"").decode("latin-1")):
        return f"a page of {origin} may not {method} here"
    return None


def _another_of_this_machine(origin: str, host: str) -> bool:
    """Return whether it is a page of another port of localhost: MLflow lets it write, but it may be another user's."""
    parts = urlsplit(origin)
    return parts.hostname in ("localhost", "127.0.0.1", "::1") and parts.netloc != host


async def _without_a_place(receive: Receive) -> tuple[Receive, str | None]:
    """Return a new experiment's body, to be read again, and why it is refused where it says where its artifacts lie.

    MLflow's server would read and write there with its own keys: models and checkpoints, or files of its machine.
    """
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_EXPERIMENT_BYTES:
            return receive, f"a new experiment takes at most {MAX_EXPERIMENT_BYTES:,} bytes"
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    again = partial(_replay, [{"type": "http.request", "body": bytes(body), "more_body": False}], receive)
    return again, _names_a_place(bytes(body))


def _names_a_place(body: bytes) -> str | None:
    """Read the body as MLflow does: JSON, which old clients encode twice. Return why it is refused, if it is."""
    try:
        given: Any = json.loads(body)
        given = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return "a new experiment is described in JSON"
    if isinstance(given, dict) and (given.get("artifact_location") or given.get("artifactLocation")):
        return "artifact_location is left out: artifacts of every experiment lie where the server keeps them"
    return None


async def _replay(read: list[Message], receive: Receive) -> Message:
    return read.pop() if read else await receive()


async def _refuse(send: Send, status: int, code: str, message: str, *, asks: bool = True) -> None:
    """Send the refusal in MLflow's form, which its clients and its pages understand. asks: for a login, by Basic."""
    body = json.dumps({"error_code": code, "message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401 and asks:
        headers.append((b"www-authenticate", b'Basic realm="vaesvc: any name, your token", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
