"""Who calls the API, and what they may do: FastAPI's dependencies, in front of every call but the health's.

A call of a user needs a user's token, a call of an attempt that attempt's own (`service.auth`). Every call of a user
names the scopes that it needs (`READS`, `SUBMITS`, `CHANGES`, `OPERATES`, `ADMINISTERS`): a token has those that its
user's role and its own list both hold (`service.queue.roles`). They stand in the OpenAPI document, and a call that
names none is refused to everybody. A job is changed by its owner or by an operator. It is read by everybody, or, where
the setting `read` is "own", by those two only; to anybody else it is then as unknown as one that never was.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Protocol

import anyio.to_thread
from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from service import auth
from service.errors import AuthError, ForbiddenError
from service.queue.jobs import MAX_ATTEMPT, TokenInfo
from service.queue.roles import SCOPES, Scope, holders
from service.queue.rows import unknown_job
from service.wire import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from service.queue.shares import Shares
    from service.services import Services
    from service.settings import Settings
    from service.specs.job import JobSpec

_user_bearer = HTTPBearer(auto_error=False, scheme_name="user token", description="made by `vaesvc token add NAME`")
_attempt_bearer = HTTPBearer(
    auto_error=False, scheme_name="attempt token", description="a runner gets it when it starts"
)

PUBLIC_BODIES = frozenset(
    {"/v1/login", "/v1/login/finish"}
)  # read of callers without a token, too, if there are logins
MAX_LOGIN_BYTES = 32 << 10
_ATTEMPT_PATH = re.compile(r"/v1/jobs/([^/]+)/attempts/([0-9]{1,10})/")
JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
AttemptNumber = Annotated[int, Path(ge=1, le=MAX_ATTEMPT)]


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def user(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_user_bearer)],
    needed: SecurityScopes,
) -> TokenInfo:
    """Return the caller, by its token, if it has every scope that the call needs: the owner of what it submits."""
    token = await _known(request, given)
    request.state.user = token
    if not needed.scopes:
        raise ForbiddenError(f"{request.method} {request.url.path[:200]} names no scope that opens it: it is closed")
    for scope in (Scope(name) for name in needed.scopes):
        if not token.may(scope):
            raise ForbiddenError(_lacks(token, scope))
    request.state.permitted = token
    return token


async def _known(request: Request, given: HTTPAuthorizationCredentials | None) -> TokenInfo:
    if given is None:
        how = "An administrator makes one with `vaesvc token add NAME`."
        raise AuthError(
            "this call needs a token: send `Authorization: Bearer TOKEN`; for the command line set VAESVC_TOKEN or "
            f"VAESVC_TOKEN_FILE. {'`vaesvc login` gets you one.' if _services(request).signing_in else how}"
        )
    if auth.is_attempt_token(given.credentials):
        raise AuthError("this is an attempt's token: it opens that attempt's calls only, and this call is a user's")
    token: TokenInfo | None = getattr(request.state, "user", None)  # known already, where there was a body to be read
    if token is None:
        token = await anyio.to_thread.run_sync(_services(request).store.token_user, given.credentials)
    if token is None:
        again = "Log in again with `vaesvc login`, or check" if _services(request).signing_in else "Check"
        raise AuthError(
            "the token is not known here: wrong, past its end, revoked, or made for another service. "
            f"{again} VAESVC_TOKEN and VAESVC_TOKEN_FILE (`vaesvc doctor` says which one is used)."
        )
    return token


def _lacks(token: TokenInfo, scope: Scope) -> str:
    if scope not in SCOPES[token.role]:
        roles = ", ".join(holders(scope))
        return (
            f"this needs the scope {scope}, which is of the roles {roles}, and {token.name} is a {token.role}: "
            f"`vaesvc token role {token.name} {holders(scope)[0]}`, on the service's machine, changes it"
        )
    return (
        f"this needs the scope {scope}, and the token {token.label!r} of {token.name} has "
        f"{', '.join(token.scopes or ())} alone: use another one, or make one with `vaesvc token new --scope {scope}`"
    )


async def permitted(request: Request) -> TokenInfo:
    """Return the caller that the call's scopes have let in. Raises ForbiddenError where it names none."""
    token: TokenInfo | None = getattr(request.state, "permitted", None)
    if token is None:
        raise ForbiddenError(f"{request.method} {request.url.path[:200]} names no scope that opens it: it is closed")
    return token


READS, SUBMITS, CHANGES, OPERATES, ADMINISTERS = (Security(user, scopes=[scope.value]) for scope in Scope)


async def attempt(
    request: Request,
    job_id: JobId,
    number: AttemptNumber,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_attempt_bearer)],
) -> None:
    if given is None or not auth.verify_attempt_token(_services(request).secret, given.credentials, job_id, number):
        raise AuthError(
            f"this call needs the token of attempt {number} of {job_id}. If the service's secret file was replaced, "
            "attempts that run now cannot go on."
        )


async def may_send(request: Request) -> bool:
    """Return whether the caller's token is known: a body of anybody else is not read, but a login's. Keeps the caller
    for `user`."""
    if _logs_in(request):
        return True
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return False
    services = _services(request)
    if auth.is_attempt_token(token):
        place = _ATTEMPT_PATH.match(request.scope["path"])
        return place is not None and auth.verify_attempt_token(services.secret, token, place[1], int(place[2]))
    request.state.user = await anyio.to_thread.run_sync(services.store.token_user, token)
    return request.state.user is not None


def _logs_in(request: Request) -> bool:
    there = request.method == "POST" and request.scope["path"] in PUBLIC_BODIES
    return there and _services(request).signing_in is not None


def most_bytes(request: Request) -> int:
    """Return the most bytes of this request's body, its caller known: more for a package, of those who may bring
    one."""
    if _logs_in(request):
        return MAX_LOGIN_BYTES
    token: TokenInfo | None = getattr(request.state, "user", None)
    if token is None or request.method != "PUT" or not request.url.path.startswith("/v1/code/"):
        return MAX_REQUEST_BYTES
    settings = _services(request).settings
    try:
        may_bring_code(settings, token)
    except ForbiddenError:
        return MAX_REQUEST_BYTES
    return max(MAX_REQUEST_BYTES, settings.code_bytes)


User = Annotated[TokenInfo, Depends(permitted)]


def sees_all(settings: Settings, user: TokenInfo) -> bool:
    """Return whether the user sees what is not their own."""
    return user.operator or settings.read == "all"


def reader(job_id: JobId, request: Request, user: User) -> None:
    """Raise NotFoundError for another's job, where users see their own only: as if it did not exist."""
    services = _services(request)
    if not sees_all(services.settings, user) and services.store.owner(job_id) != user.name:
        raise unknown_job(job_id)


def changer(job_id: JobId, request: Request, user: User, _: Annotated[None, Depends(reader)]) -> None:
    """Raise ForbiddenError unless the caller is the job's owner or an operator."""
    if user.operator:
        return
    owner = _services(request).store.owner(job_id)
    if owner != user.name:
        raise ForbiddenError(
            f"job {job_id} is {owner}'s: only {owner}, an operator or an administrator may change it, and you are "
            f"{user.name}. "
            "`vaesvc token role NAME operator`, on the service's machine, makes operators"
        )


def may_bring_code(settings: Settings, user: TokenInfo) -> None:
    """Raise ForbiddenError unless the setting `user_code` lets the user bring own code: it runs as the service's
    user."""
    if settings.user_code == "users" or (settings.user_code == "admins" and user.admin):
        return
    who = "administrators alone may bring it here" if settings.user_code == "admins" else "nobody may bring it here"
    raise ForbiddenError(
        f"code: own code runs on the cluster with the service's rights, and {who} (user_code = "
        f"{settings.user_code!r}). Who runs the service may change that: VAESVC_USER_CODE=admins or users for the API, "
        "after reading docs/security.md"
    )


class HasPriority(Protocol):
    """A spec, or a request to change what is left of it."""

    @property
    def priority(self) -> int: ...


def may_go_first(spec: HasPriority, user: TokenInfo, shares: Shares) -> None:
    """Raise ForbiddenError unless the user may set this priority: above 0 it could keep all others waiting for ever. A
    quota that names a priority allows so much, and is checked when the job is submitted."""
    if spec.priority > 0 and not user.operator and all(quota.priority is None for quota in shares.of_user(user.name)):
        raise ForbiddenError(
            f"priority: {spec.priority} is an administrator's, and you are {user.name}: "
            "others set 0, or less to let everybody pass; a quota may allow more: "
            f"`vaesvc quota set user {user.name} --priority {spec.priority}`"
        )


def may_submit(spec: JobSpec, user: TokenInfo, shares: Shares) -> None:
    """Raise ForbiddenError unless the user may set the spec's priority, and may keep its room from higher ones."""
    may_go_first(spec, user, shares)
    if not spec.preemptible and not user.operator:
        raise ForbiddenError(
            f"preemptible: false is an operator's or an administrator's, and you are {user.name}: it would keep its "
            "room from jobs of any priority. Leave it out: an attempt that makes room checkpoints, and goes on later "
            "from there"
        )
