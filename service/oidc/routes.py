"""The API's calls for logins by a provider: public ones, which end in a token, and the one that ends it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from service import access, wire
from service.access import User
from service.errors import UsageError
from service.oidc import tickets
from service.oidc.provider import Pending
from service.oidc.records import LoginFinish, LoginOffer, LoginReply, LoginRequest, LoginStart
from service.oidc.signing_in import SigningIn, needed
from service.queue.jobs import TokenInfo
from service.services import App
from service.users.records import Revoked

_error: dict[str, Any] = {"model": wire.ErrorReply, "description": "an error; `code` names its kind"}
public = APIRouter(prefix="/v1", tags=["login"], responses={422: _error, "default": _error})
users = APIRouter(prefix="/v1", tags=["users"], responses={422: _error, "default": _error})
CALLBACK = "/callback"  # of the command line's own listener


@public.get("/login", summary="How one may log in")
async def offer(services: App) -> LoginOffer:
    """Return the provider of logins. Needs no token."""
    signing_in = needed(services.signing_in)
    device = await services.log_in(signing_in.provider.has_device)
    return LoginOffer(issuer=signing_in.provider.issuer, device=device)


@public.post("/login", summary="Begin a login by the provider")
async def begin(asked: LoginRequest, services: App) -> LoginStart:
    """Begin a login of a command line. Needs no token: what the user does at the provider decides."""
    signing_in = needed(services.signing_in)
    return await services.log_in(lambda: _begin(signing_in, asked))


def _begin(signing_in: SigningIn, asked: LoginRequest) -> LoginStart:
    prefix = f"cli-{asked.host}" if asked.host else "cli"
    if asked.how == "device":
        sealed, device = signing_in.begin_device(prefix=prefix)
        return LoginStart(
            ticket=sealed,
            url=device.whole_url or device.url,
            plain_url=device.url,
            user_code=device.user_code,
            interval=device.interval,
            seconds=device.seconds,
        )
    if asked.port is None:
        raise UsageError("port: a login by `browser` needs the port that the code is sent to")
    redirect = f"http://127.0.0.1:{asked.port}{CALLBACK}"
    sealed, url = signing_in.begin_code(redirect, purpose="browser", prefix=prefix)
    return LoginStart(ticket=sealed, url=url, seconds=tickets.LIFE_SECONDS)


@public.post("/login/finish", summary="End a login by the provider")
async def finish(asked: LoginFinish, services: App, request: Request) -> LoginReply:
    """Let a token that the caller has made act as whoever has logged in at the provider. Needs no token. Idempotent."""
    signing_in = needed(services.signing_in)
    ended = await services.log_in(lambda: _finish(signing_in, asked))
    if isinstance(ended, Pending):
        request.state.unnoted = True  # asked every few seconds, and nothing has happened
        return LoginReply(slower=ended.slower)
    request.state.user = ended  # for the audit log
    return LoginReply(token=ended)


def _finish(signing_in: SigningIn, asked: LoginFinish) -> TokenInfo | Pending:
    ticket = tickets.unseal(signing_in.secret, asked.ticket, "browser", "device")
    known = signing_in.store.identities.signed_in(ticket.label, asked.sha256)
    if known is not None:
        return known  # the answer was lost on its way
    wanted: dict[str, Any] = {"digest": asked.sha256, "scopes": asked.scopes, "seconds": asked.seconds}
    if ticket.purpose == "device":
        return signing_in.finish_device(ticket, **wanted)
    if asked.code is None or asked.state is None:
        raise UsageError("code, state: a login by `browser` ends with both, as they came back")
    return signing_in.finish_code(ticket, code=asked.code, state=asked.state, issuer=asked.iss, **wanted)


@users.delete("/login", summary="End the login that this token is", dependencies=[access.READS])
def logout(services: App, user: User, request: Request) -> Revoked:
    """Refuse the caller's token from now on, if it came of a login."""
    services.store.identities.sign_out(request.headers["authorization"].partition(" ")[2])
    return Revoked(name=user.name, tokens=1)
