"""What is sent about logins between the API and the command line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.queue.jobs import Record, TokenInfo
from service.queue.roles import Scope
from service.users.records import Digest

Text = Annotated[str, Field(min_length=1, max_length=8192)]
Lasts = Annotated[float, Field(ge=60, le=90 * 86_400.0)]


class LoginOffer(Record):
    """How one may log in."""

    issuer: str
    device: bool  # the provider has a login by a device's code


class LoginRequest(Record):
    """A login that begins."""

    how: Literal["device", "browser"] = Field(
        description="by a code that is confirmed in any browser, or by one that comes back to this machine's loopback"
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="for `browser`: the port of 127.0.0.1 that the code is sent to"
    )
    host: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]{0,30}$", description="the caller's machine, for the token's label"
    )


class LoginStart(Record):
    """What the user has to do. The ticket goes back to the service, which alone can read it."""

    ticket: str
    url: str  # to be opened in a browser
    user_code: str | None = None  # of a device: to be entered there, where `url` does not hold it
    plain_url: str | None = None  # of a device: where the code is entered
    interval: float = 0.0  # of a device: seconds between two questions
    seconds: float  # so long it may take


class LoginFinish(Record):
    """A login that ends. The caller has drawn the token at random, 256 bits, and keeps it."""

    ticket: Text
    sha256: Digest
    code: Text | None = Field(default=None, description="for `browser`: what came back")
    state: Text | None = Field(default=None, description="for `browser`: what came back with it")
    iss: Text | None = Field(default=None, description="for `browser`: what came back with it, if anything did")
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=len(Scope))] | None = Field(
        default=None, description="what the token may do of what its user may; left out: all of it"
    )
    seconds: Lasts | None = Field(
        default=None, description="how long it is taken; left out, and at most: as the service is set"
    )


class LoginReply(Record):
    """How a login stands."""

    token: TokenInfo | None = None  # none: nobody has confirmed the device's code yet
    slower: bool = False  # ask less often: five seconds more between two questions (RFC 8628, section 3.5)
