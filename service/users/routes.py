"""The API's calls for users, tokens and the audit log. Tokens of one's own are anybody's to make; the rest is the
administrators'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from service import access, wire
from service.access import User
from service.errors import ForbiddenError
from service.queue.acts import ActRecord
from service.queue.jobs import TokenInfo
from service.queue.roles import UserInfo
from service.users.records import NAME, Revoked, RoleRequest, RotateRequest, TokenRequest

_error: dict[str, Any] = {"model": wire.ErrorReply, "description": "an error; `code` names its kind"}
router = APIRouter(prefix="/v1", tags=["users"], responses={422: _error, "default": _error})
Label = Annotated[str, Path(pattern=NAME, description="which of the user's tokens")]
Name = Annotated[str, Path(pattern=NAME, description="the user")]
LAST = 2**63 - 1  # ids that a database counts to
LATEST = 1e11  # seconds since 1970: the year 5138


def _store(request: Request) -> Any:
    return request.app.state.services.store


def _whole(user: TokenInfo, label: str | None = None) -> None:
    """Raise ForbiddenError for a token with scopes of its own: it may replace itself, and nothing else."""
    if user.scopes is not None and user.label != label:
        raise ForbiddenError(
            f"the token {user.label!r} of {user.name} has scopes of its own: it may replace itself "
            "(`vaesvc token rotate`), and neither make nor revoke others"
        )


@router.get("/tokens", summary="One's own tokens", dependencies=[access.READS])
def own_tokens(request: Request, user: User) -> Sequence[TokenInfo]:
    """Return what is known of the caller's tokens: labels, scopes and ends, not the tokens."""
    tokens: list[TokenInfo] = _store(request).users.tokens(user.name)
    return tokens


@router.put("/tokens/{label}", summary="A new token of one's own", dependencies=[access.READS])
def new_token(label: Label, asked: TokenRequest, request: Request, user: User) -> TokenInfo:
    """Let a token that the caller has made act as the caller, with fewer scopes or for a while, where it says so. It is
    kept as its SHA-256. Idempotent."""
    _whole(user)
    made: TokenInfo = _store(request).users.put_token(
        user.name, label, asked.sha256, scopes=asked.scopes, seconds=asked.seconds, by=user
    )
    return made


@router.post("/tokens/{label}/rotate", summary="Replace a token of one's own", dependencies=[access.READS])
def rotate(label: Label, asked: RotateRequest, request: Request, user: User) -> TokenInfo:
    """Let another token take the place of the label's, with its scopes, for at most as long as that one was made
    for. The old one is taken for the grace time still. Idempotent."""
    _whole(user, label)
    made: TokenInfo = _store(request).users.put_token(
        user.name, label, asked.sha256, seconds=asked.seconds, grace_seconds=asked.grace_seconds
    )
    return made


@router.delete("/tokens/{label}", summary="Revoke a token of one's own", dependencies=[access.READS])
def revoke_own(label: Label, request: Request, user: User) -> Revoked:
    """Revoke the label's tokens, the replaced ones too: from now on they are refused."""
    _whole(user)
    return Revoked(name=user.name, tokens=_store(request).users.revoke(user.name, label))


@router.get("/users", summary="List users", dependencies=[access.ADMINISTERS])
def users(request: Request) -> Sequence[UserInfo]:
    """Return the users and their roles, by name."""
    everybody: list[UserInfo] = _store(request).users.all()
    return everybody


@router.put("/users/{name}", summary="Make a user, or change a role", dependencies=[access.ADMINISTERS])
def put_user(name: Name, asked: RoleRequest, request: Request) -> UserInfo:
    """Let there be this user, with this role. It counts from the next call of theirs."""
    made: UserInfo = _store(request).users.put(name, asked.role)
    return made


@router.delete("/users/{name}", summary="Revoke all of a user's tokens", dependencies=[access.ADMINISTERS])
def remove_user(name: Name, request: Request) -> Revoked:
    """Revoke all of the user's tokens, and forget the role. Their jobs, names and models stay theirs."""
    return Revoked(name=name, tokens=_store(request).users.revoke(name))


@router.put("/users/{name}/disabled", summary="Refuse a user's tokens", dependencies=[access.ADMINISTERS])
def disable(name: Name, request: Request) -> UserInfo:
    """Refuse the user's tokens and logins until they are enabled again. What they have queued goes on. Idempotent."""
    changed: UserInfo = _store(request).identities.disable(name, disabled=True)
    return changed


@router.delete("/users/{name}/disabled", summary="Take a user's tokens again", dependencies=[access.ADMINISTERS])
def enable(name: Name, request: Request) -> UserInfo:
    """Take the user's tokens and logins again. Idempotent."""
    changed: UserInfo = _store(request).identities.disable(name, disabled=False)
    return changed


@router.get("/users/{name}/tokens", summary="A user's tokens", dependencies=[access.ADMINISTERS])
def users_tokens(name: Name, request: Request) -> Sequence[TokenInfo]:
    """Return what is known of the user's tokens."""
    tokens: list[TokenInfo] = _store(request).users.tokens(name)
    return tokens


@router.put("/users/{name}/tokens/{label}", summary="A new token of a user's", dependencies=[access.ADMINISTERS])
def put_token(name: Name, label: Label, asked: TokenRequest, request: Request) -> TokenInfo:
    """Let a token act as the user. Idempotent."""
    made: TokenInfo = _store(request).users.put_token(
        name, label, asked.sha256, scopes=asked.scopes, seconds=asked.seconds
    )
    return made


@router.delete("/users/{name}/tokens/{label}", summary="Revoke a user's token", dependencies=[access.ADMINISTERS])
def revoke(name: Name, label: Label, request: Request) -> Revoked:
    """Revoke the label's tokens of the user, the replaced ones too."""
    return Revoked(name=name, tokens=_store(request).users.revoke(name, label))


@router.get("/audit", summary="Who did what", dependencies=[access.ADMINISTERS])
def audit(
    request: Request,
    actor: Annotated[str | None, Query(max_length=200, description="acts of this user only")] = None,
    object: Annotated[str | None, Query(max_length=500, description="about this job, name or user only")] = None,
    refused: Annotated[bool, Query(description="those that were not allowed only")] = False,
    since: Annotated[float | None, Query(ge=0, le=LATEST, description="seconds since 1970")] = None,
    until: Annotated[float | None, Query(ge=0, le=LATEST, description="seconds since 1970")] = None,
    before: Annotated[int | None, Query(ge=1, le=LAST, description="the last act's id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Sequence[ActRecord]:
    """Return acts, newest first: every call that changes something, and every one that was refused."""
    acts: list[ActRecord] = _store(request).audit.acts(
        actor=actor, object=object, refused=refused, since=since, until=until, before=before, limit=limit
    )
    return acts
