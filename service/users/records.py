"""What is sent about users and tokens. A token itself is never sent to be kept: its maker sends its SHA-256."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.queue.jobs import Record
from service.queue.roles import Role, Scope

NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"  # of users and of their tokens
DAY = 86_400
LONGEST_SECONDS = 3650.0 * DAY
LONGEST_GRACE_SECONDS = 30.0 * DAY
GRACE_SECONDS = 3600.0

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the token, in hexadecimal")]
Seconds = Annotated[float, Field(ge=60, le=LONGEST_SECONDS, description="how long it is taken")]


class RoleRequest(Record):
    role: Role = Role.USER


class Revoked(Record):
    name: str  # the user
    tokens: int  # so many


class TokenRequest(Record):
    """A new token. Its maker has drawn it at random, 256 bits, and keeps it."""

    sha256: Digest
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=len(Scope))] | None = Field(
        default=None, description="what it may do of what its user may; left out: all of it"
    )
    seconds: Seconds | None = Field(default=None, description="how long it is taken; left out: for ever")


class RotateRequest(Record):
    """A token in the place of another one, which is taken for a while still."""

    sha256: Digest
    seconds: Seconds | None = Field(default=None, description="how long the new one is taken; left out: for ever")
    grace_seconds: float = Field(
        default=GRACE_SECONDS, ge=0, le=LONGEST_GRACE_SECONDS, description="how long the old one is taken still"
    )
