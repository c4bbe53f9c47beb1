"""The login of pages: `/oidc/login` sends a browser to the provider, `/oidc/callback` takes it back, `/oidc/session`
shows who is logged in, and `/oidc/logout` ends it. An ASGI application, in front of pages of the same address.

A login ends in a token of this service, in a cookie that scripts cannot read, that other sites' requests do not bear
(SameSite), and that goes over TLS alone where the page has TLS. While a login is under way, a second cookie binds it to
this browser: a code that somebody else has begun to get is of no use in it.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urlsplit

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service import auth
from service.auditing import Strangers
from service.errors import AuthError, ForbiddenError, UnavailableError, VaesvcError
from service.oidc import tickets
from service.oidc.signing_in import SigningIn, local_path, provider_of
from service.queue.acts import Act
from service.queue.roles import sha256

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from service.queue.jobs import TokenInfo
    from service.queue.store import Store
    from service.settings import Settings

log = logging.getLogger("vaesvc.oidc")
T = TypeVar("T")

PATHS = frozenset({"/oidc/login", "/oidc/callback", "/oidc/session", "/oidc/logout"})
SECONDS = 40.0  # for one call of the provider or the database, the wait for a thread included
THREADS = 4
SAFE_METHODS = frozenset({"GET", "HEAD"})
_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "same-origin",  # with no-referrer browsers name no origin in a form's request
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>vaesvc: {title}</title>
<meta name="viewport" content="width=device-width"><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36rem;
margin:15vh auto;padding:0 1rem}}button{{font:inherit;padding:.4rem 1rem}}</style>
<h1>{title}</h1>{body}</html>"""


@dataclass(frozen=True, kw_only=True)
class PageLogin:
    """The login of the pages at one address.

    url: where browsers find them, without a slash at the end.
    """

    signing_in: SigningIn
    url: str
    _threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(THREADS))
    _strangers: Strangers = field(default_factory=Strangers)

    @property
    def store(self) -> Store:
        return self.signing_in.store

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def path(self) -> str:
        """Return the path of the page's address: its cookies' and its links'."""
        return urlsplit(self.url).path

    def cookie(self, name: str) -> str:
        """Return a cookie's whole name. `__Host-`: browsers take it over TLS and of this very host alone."""
        return f"__Host-vaesvc_{name}" if self.secure else f"vaesvc_{name}"

    def token(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return the token in a request's cookie; None where there is none."""
        return _cookies(headers).get(self.cookie("session"))

    def without(self, value: bytes) -> bytes:
        """Return a Cookie header's value less the cookies of the login."""
        mine = (f"{self.cookie('session')}=".encode(), f"{self.cookie('login')}=".encode())
        return b"; ".join(part for part in (each.strip() for each in value.split(b";")) if not part.startswith(mine))

    def same_origin(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether a request that bears the cookie comes from these pages themselves."""
        origin = headers.get(b"origin")
        if origin is not None:
            parts = urlsplit(self.url)
            return origin.decode("latin-1") == f"{parts.scheme}://{parts.netloc}"
        return headers.get(b"sec-fetch-site") == b"same-origin"

    def redirects(self, method: str, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether it is a browser that opens a page: it is sent to the login."""
        opens = headers.get(b"sec-fetch-mode", b"navigate") == b"navigate"
        return method == "GET" and opens and b"text/html" in headers.get(b"accept", b"")

    def to_login(self, path: str) -> Response:
        """Return the way to the login, and back to the path afterwards."""
        return self._redirect(f"{self.url}/oidc/login?{urlencode({'next': path})}", 302)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """Answer a request for one of `PATHS`."""
        request = Request(scope, receive)
        answers: Mapping[tuple[str, str], Callable[[Request], Any]] = {
            ("GET", "/oidc/login"): self._login,
            ("GET", "/oidc/callback"): self._callback,
            ("GET", "/oidc/session"): self._session,
            ("POST", "/oidc/logout"): self._logout,
        }
        answer = answers.get((request.method, path))
        if answer is None:
            response: Response = self._problem(405, "That is not how this page is asked")
        else:
            try:
                response = await answer(request)
            except VaesvcError as error:
                await self._note(request, path, error.http_status, None)
                response = self._problem(error.http_status, str(error))
                response.delete_cookie(self.cookie("login"), path="/", secure=self.secure, httponly=True)
        await response(scope, receive, send)

    async def _login(self, request: Request) -> Response:
        begin = partial(
            self.signing_in.begin_code,
            f"{self.url}/oidc/callback",
            purpose="page",
            prefix="page",
            path=local_path(request.query_params.get("next", "/")),
        )
        sealed, url = await self._apart(begin)
        response = self._redirect(url, 302)
        self._set(response, "login", sealed, tickets.LIFE_SECONDS)
        return response

    async def _callback(self, request: Request) -> Response:
        given = request.query_params
        sealed = _cookies(dict(request.scope["headers"])).get(self.cookie("login"))
        if sealed is None:
            raise AuthError("no login was begun in this browser, or its cookie is gone: begin the login again")
        ticket = tickets.unseal(self.signing_in.secret, sealed, "page")
        tickets.check_state(ticket, given.get("state", ""))
        if "error" in given:
            said = "".join(letter for letter in given["error"][:100] if letter.isascii() and letter.isprintable())
            raise ForbiddenError(f"the provider has not logged you in: {said}")
        token = auth.new_token()
        finish = partial(
            self.signing_in.finish_code,
            ticket,
            code=given.get("code", ""),
            state=given.get("state", ""),
            issuer=given.get("iss"),
            digest=sha256(token),
        )
        made = await self._apart(finish)
        await self._note(request, "/oidc/callback", 200, made)
        response = self._redirect(f"{self.url}{ticket.path}", 303)
        self._set(response, "session", token, int(self.signing_in.settings.seconds))
        response.delete_cookie(self.cookie("login"), path="/", secure=self.secure, httponly=True)
        return response

    async def _session(self, request: Request) -> Response:
        token = self.token(dict(request.scope["headers"]))
        known = None if token is None else await self._apart(partial(self.store.token_user, token))
        if known is None:
            body = f'<p>Nobody is logged in here.</p><p><a href="{self.path}/oidc/login">Log in</a></p>'
            return self._page("Not logged in", body, 200)
        body = (
            f"<p>You are <b>{html.escape(known.name)}</b>, role {known.role.value}.</p>"
            f'<form method="post" action="{self.path}/oidc/logout"><button>Log out</button></form>'
            f'<p><a href="{self.path}/">Back</a></p>'
        )
        return self._page("Logged in", body, 200)

    async def _logout(self, request: Request) -> Response:
        headers = dict(request.scope["headers"])
        if not self.same_origin(headers):
            raise ForbiddenError("only a page of this very address logs somebody out")
        token = self.token(headers)
        ended = None if token is None else await self._apart(partial(self.store.identities.sign_out, token))
        if ended is not None:
            await self._note(request, "/oidc/logout", 200, ended)
        body = (
            "<p>The login is over here. The provider may still know you.</p>"
            f'<p><a href="{self.path}/oidc/login">Log in again</a></p>'
        )
        response = self._page("Logged out", body, 200)
        response.delete_cookie(self.cookie("session"), path="/", secure=self.secure, httponly=True)
        return response

    async def _apart(self, call: Callable[[], T]) -> T:
        """Run a call that waits on the provider or the database in a thread, for a bounded time."""
        try:
            with anyio.fail_after(SECONDS):
                return await anyio.to_thread.run_sync(call, limiter=self._threads, abandon_on_cancel=True)
        except TimeoutError:
            raise UnavailableError(f"the login did not come to an end within {SECONDS:.0f} s; try again") from None

    async def _note(self, request: Request, path: str, status: int, user: TokenInfo | None) -> None:
        """Write into the audit log who logged in or out, and who was refused."""
        detail: dict[str, Any] | None = {}
        if user is None and (status not in (401, 403) or (detail := self._strangers.detail()) is None):
            return
        act = Act(
            actor="" if user is None else user.name,
            token="" if user is None else user.label,
            act=f"{request.method} {path}",
            origin="" if request.client is None else request.client.host,
            status=status,
            detail=detail or {},
        )
        try:
            await self._apart(partial(self.store.audit.add, act))
        except VaesvcError as error:
            log.warning("not in the audit log (%s): %s", error, act.model_dump_json())

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        # Lax: the way back from the provider begins at another site, and so do links to the pages
        response.set_cookie(
            self.cookie(name), value, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def _redirect(self, url: str, status: int) -> Response:
        return RedirectResponse(url, status, headers=_HEADERS)

    def _page(self, title: str, body: str, status: int) -> Response:
        return HTMLResponse(_PAGE.format(title=html.escape(title), body=body), status, headers=_HEADERS)

    def _problem(self, status: int, message: str) -> Response:
        link = f'<p><a href="{self.path}/oidc/login">Log in again</a></p>'
        return self._page("The login has failed", f"<p>{html.escape(message)}</p>{link}", status)


def page_login(settings: Settings, store: Store, secret: bytes) -> PageLogin | None:
    """Return the login of MLflow's pages; None where the settings name no provider, or pages have no address."""
    provider = provider_of(settings.oidc, cli=False)
    url = settings.oidc.page_url or settings.mlflow_uri
    if provider is None:
        return None
    if url is None or not urlsplit(url).hostname:
        log.warning("MLflow's pages have no login by the provider: set oidc.page_url to where browsers find them")
        return None
    plain = urlsplit(url)
    url = plain._replace(netloc=plain.netloc.rpartition("@")[2], query="", fragment="").geturl().rstrip("/")
    return PageLogin(
        signing_in=SigningIn(provider=provider, settings=settings.oidc, store=store, secret=secret), url=url
    )


def _cookies(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return a request's cookies. Those of other programs of the same host may be of any form: they change nothing."""
    pairs = (part.partition("=") for part in headers.get(b"cookie", b"").decode("latin-1").split(";"))
    return {name.strip(): value.strip().strip('"') for name, _, value in pairs}
