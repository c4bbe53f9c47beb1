"""The calls for users, tokens and the audit log: the part of `service.client.Client` that is about them."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from pydantic import TypeAdapter

from service.data.calls import Http
from service.queue.acts import ActRecord
from service.queue.jobs import TokenInfo
from service.queue.roles import Role, Scope, UserInfo, sha256
from service.users.records import GRACE_SECONDS, Revoked, RoleRequest, RotateRequest, TokenRequest

_tokens = TypeAdapter(list[TokenInfo])
_users = TypeAdapter(list[UserInfo])
_acts = TypeAdapter(list[ActRecord])


class UserCalls:
    """Calls about users and tokens. Every one may be repeated: a token is known by its SHA-256."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def tokens(self, user: str | None = None) -> list[TokenInfo]:
        """Return the tokens of the caller, or, for an administrator, of `user`."""
        return self._http.call("GET", _of(user), _tokens.validate_json)

    def new_token(
        self,
        label: str,
        token: str,
        *,
        scopes: Sequence[Scope] | None = None,
        seconds: float | None = None,
        user: str | None = None,
    ) -> TokenInfo:
        """Let `token` act as the caller, or, for an administrator, as `user`. Raises ConflictError for a label that is
        taken."""
        wanted = None if scopes is None else tuple(scopes)
        request = TokenRequest(sha256=sha256(token), scopes=wanted, seconds=seconds)
        return self._http.call("PUT", f"{_of(user)}/{_quoted(label)}", TokenInfo.model_validate_json, body=request)

    def rotate(
        self, label: str, token: str, *, seconds: float | None = None, grace_seconds: float = GRACE_SECONDS
    ) -> TokenInfo:
        """Let `token` take the place of the caller's token of this label. Raises NotFoundError where there is none."""
        request = RotateRequest(sha256=sha256(token), seconds=seconds, grace_seconds=grace_seconds)
        path = f"/v1/tokens/{_quoted(label)}/rotate"
        return self._http.call("POST", path, TokenInfo.model_validate_json, body=request)

    def revoke_token(self, label: str, *, user: str | None = None) -> Revoked:
        """Revoke the tokens of this label of the caller, or, for an administrator, of `user`."""
        return self._http.call("DELETE", f"{_of(user)}/{_quoted(label)}", Revoked.model_validate_json)

    def all(self) -> list[UserInfo]:
        """Return the users. An administrator's."""
        return self._http.call("GET", "/v1/users", _users.validate_json)

    def put(self, name: str, role: Role) -> UserInfo:
        """Make a user, or give one another role. An administrator's."""
        path = f"/v1/users/{_quoted(name)}"
        return self._http.call("PUT", path, UserInfo.model_validate_json, body=RoleRequest(role=role))

    def remove(self, name: str) -> Revoked:
        """Revoke all of a user's tokens, and forget the role. An administrator's."""
        return self._http.call("DELETE", f"/v1/users/{_quoted(name)}", Revoked.model_validate_json)

    def disable(self, name: str, *, disabled: bool) -> UserInfo:
        """Refuse a user's tokens and logins, or take them again. An administrator's. Raises NotFoundError."""
        path = f"/v1/users/{_quoted(name)}/disabled"
        return self._http.call("PUT" if disabled else "DELETE", path, UserInfo.model_validate_json)

    def acts(
        self,
        *,
        actor: str | None = None,
        object: str | None = None,
        refused: bool = False,
        since: float | None = None,
        until: float | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[ActRecord]:
        """Return the audit log's acts, newest first. An administrator's. Times in seconds since 1970."""
        params = {
            "actor": actor, "object": object, "refused": refused or None, "since": since, "until": until,
            "before": before, "limit": limit,
        }  # fmt: skip
        return self._http.call("GET", "/v1/audit", _acts.validate_json, params=params)


def _of(user: str | None) -> str:
    return "/v1/tokens" if user is None else f"/v1/users/{_quoted(user)}/tokens"


def _quoted(text: str) -> str:
    return quote(text, safe="")
