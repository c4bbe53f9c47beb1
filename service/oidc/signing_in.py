"""A login, from its beginning to a token of this service: for the page and the command line alike."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.errors import UnavailableError, UsageError
from service.oidc import tickets
from service.oidc.identity import identity_of, lacks
from service.oidc.provider import Device, Pending, Provider
from service.oidc.tickets import Ticket

if TYPE_CHECKING:
    from service.oidc.settings import OidcSettings
    from service.queue.jobs import TokenInfo
    from service.queue.roles import Scope
    from service.queue.store import Store

MOST_A_MINUTE = 600  # of strangers, in one process of the service
_MINUTE = 60.0
MOST_PATH = 2000  # characters of where the page goes on


def provider_of(settings: OidcSettings, *, cli: bool) -> Provider | None:
    """Return the provider that the settings name; None where they name none. cli: as the command line's client there.

    Raises UsageError for settings that do not suffice, AuthError for a secret that cannot be read.
    """
    if settings.issuer is None:
        return None
    client_id, secret = settings.client(cli=cli)
    if not client_id:
        raise UsageError(
            "oidc.issuer is set, and oidc.client_id is not: register a client at the provider and set both"
        )
    return Provider(settings.issuer, client_id, secret, settings.scopes)


class Few:
    """Counts calls of the provider that strangers have us make: so many of each minute, and no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute = 0.0
        self._made = 0

    def take(self) -> None:
        """Count one. Raises UnavailableError where this minute has had enough of them."""
        with self._lock:
            if time.monotonic() - self._minute >= _MINUTE:
                self._minute, self._made = time.monotonic(), 0
            self._made += 1
            if self._made > MOST_A_MINUTE:
                raise UnavailableError("too many logins are under way at this moment: try again in a minute")


@dataclass(frozen=True, kw_only=True)
class SigningIn:
    """Logins by one provider. Its methods call the provider, or the database, or both."""

    provider: Provider
    settings: OidcSettings
    store: Store
    secret: bytes  # the service's: tickets are sealed with it
    few: Few = field(default_factory=Few)

    def begin_code(self, redirect: str, *, purpose: str, prefix: str, path: str = "/") -> tuple[str, str]:
        """Return a sealed ticket, and where the browser is sent. prefix: of the token's label."""
        state = tickets.random_text()
        ticket = Ticket(
            purpose=purpose,
            label=_label(prefix, state),
            state=state,
            nonce=tickets.random_text(),
            verifier=tickets.random_text(),
            redirect=redirect,
            path=local_path(path),
        )
        return tickets.seal(self.secret, ticket), self.provider.authorization_url(ticket)

    def begin_device(self, *, prefix: str) -> tuple[str, Device]:
        """Return a sealed ticket, and what is to be confirmed where."""
        self.few.take()
        if not self.provider.has_device():
            raise UsageError("the provider has no login by a device's code: log in with `vaesvc login --browser`")
        device = self.provider.begin_device()
        label = _label(prefix, device.device_code)
        ticket = Ticket(purpose="device", label=label, device_code=device.device_code)
        return tickets.seal(self.secret, ticket), device

    def finish_code(
        self, ticket: Ticket, *, code: str, state: str, issuer: str | None, digest: str, **wanted: Any
    ) -> TokenInfo:
        """Let the token of this SHA-256 act as whoever the code is about. See `_finish`."""
        tickets.check_state(ticket, state)
        self.few.take()
        self.provider.check_issuer(issuer)
        return self._finish(self.provider.redeem(ticket, code), ticket, digest, **wanted)

    def finish_device(self, ticket: Ticket, *, digest: str, **wanted: Any) -> TokenInfo | Pending:
        """Let the token of this SHA-256 act as whoever has confirmed; Pending where nobody has yet."""
        self.few.take()
        claims = self.provider.poll_device(ticket.device_code)
        return claims if isinstance(claims, Pending) else self._finish(claims, ticket, digest, **wanted)

    def _finish(
        self,
        claims: Mapping[str, Any],
        ticket: Ticket,
        digest: str,
        *,
        scopes: Sequence[Scope] | None = None,
        seconds: float | None = None,
    ) -> TokenInfo:
        """Raises ForbiddenError for whoever is not let in, AuthError for a ticket that was used already."""
        access = claims["access_token"]
        if access is not None and lacks(claims, self.settings):
            claims = {**self.provider.user_info(access, claims["sub"]), **claims}
        lasts = self.settings.seconds if seconds is None else min(seconds, self.settings.seconds)
        identity = identity_of(claims, self.settings)
        return self.store.identities.sign_in(identity, ticket.label, digest, scopes=scopes, seconds=lasts)


def needed(signing_in: SigningIn | None) -> SigningIn:
    """Return it. Raises UsageError where there is no login by a provider."""
    if signing_in is None:
        raise UsageError(
            "this service has no login by a provider (the setting oidc.issuer): an administrator makes tokens, with "
            "`vaesvc token add NAME`"
        )
    return signing_in


def local_path(path: str) -> str:
    """Return a path of this page; / for an address of anywhere else."""
    fine = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if fine and path.isascii() and len(path) <= MOST_PATH else "/"


def _label(prefix: str, secret: str) -> str:
    """Return the token's label: the same for the same login, so that one login never ends in two tokens."""
    return f"{prefix}-{hashlib.sha256(secret.encode()).hexdigest()[:12]}"
