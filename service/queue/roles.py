"""What users and their tokens may do, as data: scopes, and roles as sets of them. Pure.

    viewer    read
    user      read, submit, change
    operator  read, submit, change, operate
    admin     read, submit, change, operate, admin

A token may do what its user's role and its own scopes both allow. Every call of the API names the scopes that it needs
(`service.access`); they stand in the OpenAPI document, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict


class Scope(StrEnum):
    READ = "read"  # look at what its user may see
    SUBMIT = "submit"  # queue jobs, bring the data and the code that they need, point its user's names to data
    CHANGE = "change"  # cancel, retry, stop and extend its user's jobs; remove its user's names of data
    OPERATE = "operate"  # see everything, change everybody's jobs and names of data, set priorities above 0
    ADMIN = "admin"  # users, roles, everybody's tokens, the audit log, the registry of models


class Role(StrEnum):
    VIEWER = "viewer"
    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"


SCOPES: Mapping[Role, frozenset[Scope]] = MappingProxyType(
    {
        Role.VIEWER: frozenset({Scope.READ}),
        Role.USER: frozenset({Scope.READ, Scope.SUBMIT, Scope.CHANGE}),
        Role.OPERATOR: frozenset({Scope.READ, Scope.SUBMIT, Scope.CHANGE, Scope.OPERATE}),
        Role.ADMIN: frozenset(Scope),
    }
)


def holders(scope: Scope) -> tuple[Role, ...]:
    """Return the roles that have this scope, the one with the fewest rights first."""
    return tuple(role for role in Role if scope in SCOPES[role])


class UserInfo(BaseModel):
    """A user of the service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    role: Role
    created_at: float  # seconds since 1970
    disabled_at: float | None = None  # their tokens and logins are refused since then


def sha256(token: str) -> str:
    """Return what is kept of a token. 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()
