"""Tickets: what a login has begun with, sealed, in the keeping of whoever logs in.

No process has to remember a login that is under way, so that every process of the service can end it. A ticket is
encrypted and signed (Fernet: AES-128-CBC, HMAC-SHA256) with a key that is derived from the service's secret, is for one
purpose, and is taken for `LIFE_SECONDS`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import AuthError

LIFE_SECONDS = 900  # a device's code lives as long at many providers
_DOMAIN = b"vaesvc login ticket v1"


class Ticket(BaseModel):
    """A login that is under way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    purpose: str  # "page", "browser", "device"
    label: str  # of the token that it ends in: there is one at most, whatever is repeated
    state: str = ""  # of an authorization code's way: what must come back with the code
    nonce: str = ""  # and what must be in the ID token
    verifier: str = ""  # PKCE: who asks for the code's token is who asked for the code
    redirect: str = ""  # where the code is sent
    path: str = "/"  # of the page, afterwards
    device_code: str = ""  # of a device's way


def random_text() -> str:
    """Return 256 random bits as text that goes into an address; also a PKCE verifier (RFC 7636, section 4.1)."""
    return secrets.token_urlsafe(32)


def challenge(verifier: str) -> str:
    """Return the S256 challenge of a PKCE verifier (RFC 7636, section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def seal(secret: bytes, ticket: Ticket) -> str:
    """Return the ticket as text that nobody without the secret can read or change."""
    return _cipher(secret).encrypt(ticket.model_dump_json().encode()).decode()


def unseal(secret: bytes, sealed: str, *purposes: str) -> Ticket:
    """Return a ticket for one of these purposes. Raises AuthError for one that is old, altered, or for another one."""
    again = "begin the login again"
    try:
        values: Any = json.loads(_cipher(secret).decrypt(sealed.encode(), ttl=LIFE_SECONDS))
        ticket = Ticket.model_validate(values)
    except (InvalidToken, ValueError, ValidationError):
        raise AuthError(
            f"this login was not begun here, or longer than {LIFE_SECONDS // 60} minutes ago: {again}"
        ) from None
    if ticket.purpose not in purposes:
        raise AuthError(f"this login was begun for another purpose: {again}")
    return ticket


def check_state(ticket: Ticket, state: str) -> None:
    """Raise AuthError unless the state that came back is the one that the login began with."""
    if not ticket.state or not hmac.compare_digest(ticket.state.encode(), state.encode()):
        raise AuthError("the state that came back is not that of this login: begin the login again")


def _cipher(secret: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hmac.new(secret, _DOMAIN, hashlib.sha256).digest()))
