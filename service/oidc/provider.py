"""A provider of logins, by discovery: its addresses, its keys, and the calls that a login makes.

Every call has a time limit, follows no redirection, and reads at most `MAX_BYTES`. What changes nothing is begun again
after a failure, for a short time; a code or a device's code is sent again only where it cannot have arrived. Metadata
and keys are kept for a while, keys asked for anew when a token names an unknown one (rotation), but not more often than
every `KEYS_AGAIN_SECONDS`: a stranger's tokens must not make us call the provider as often as they like.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import httpx

from service.errors import AuthError, ForbiddenError, UnavailableError
from service.oidc import id_tokens, tickets
from service.oidc.settings import LOOPBACK, safe_address
from service.retry import again

if TYPE_CHECKING:
    import ssl

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
RETRY_SECONDS = 4.0
MAX_BYTES = 1 << 20
METADATA_SECONDS = 3600.0
KEYS_SECONDS = 600.0
KEYS_AGAIN_SECONDS = 10.0
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL_SECONDS = 5.0  # between two questions for a device's login, where the provider names none (RFC 8628)


@dataclass(frozen=True, kw_only=True)
class Device:
    """A login that somebody confirms in a browser anywhere (RFC 8628)."""

    device_code: str
    user_code: str
    url: str
    whole_url: str | None  # with the code in it
    interval: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A device's login that nobody has confirmed yet. slower: ask less often from now on."""

    slower: bool


class _AgainError(Exception):
    def __init__(self, *, sent: bool, final: UnavailableError) -> None:
        super().__init__(str(final))
        self.sent = sent
        self.final = final


class Provider:
    """One provider, with one client of ours there. Threads may share it.

    secret: the client's; None for a public one.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        secret: str | None,
        scopes: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self._secret = secret
        self._scopes = scopes
        self._clock = clock
        self._lock = threading.Lock()
        self._metadata: tuple[float, Mapping[str, Any]] | None = None  # when they were read, and what they are
        self._keys: tuple[float, list[Mapping[str, Any]]] | None = None
        loopback = urlsplit(issuer).hostname in LOOPBACK
        self._http = httpx.Client(
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            verify=_certificates(),
            trust_env=not loopback,  # a proxy cannot reach this machine's loopback
            follow_redirects=False,
        )

    def close(self) -> None:
        self._http.close()

    def metadata(self) -> Mapping[str, Any]:
        """Return what the provider says of itself (OpenID Connect Discovery 1.0), at most an hour old.

        Raises UnavailableError where it does not answer, or with something else.
        """
        with self._lock:
            if self._metadata is not None and self._clock() - self._metadata[0] < METADATA_SECONDS:
                return self._metadata[1]
            url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
            given = self._json(self._get(url), url)
            if given.get("issuer") != self.issuer:
                raise UnavailableError(
                    f"{url} is of the issuer {str(given.get('issuer'))[:200]!r}, and the setting oidc.issuer is "
                    f"{self.issuer!r}: they must be equal, to the last character"
                )
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                _address(given, name)
            self._metadata = (self._clock(), given)
            return given

    def has_device(self) -> bool:
        """Return whether the provider has the device authorization grant."""
        return "device_authorization_endpoint" in self.metadata()

    # --- an authorization code (RFC 6749, 7636) ---------------------------------------------------------------------

    def authorization_url(self, ticket: tickets.Ticket) -> str:
        """Return where a browser is sent, to come back to the ticket's redirect with a code."""
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": ticket.redirect,
            "scope": self._scopes,
            "state": ticket.state,
            "nonce": ticket.nonce,
            "code_challenge": tickets.challenge(ticket.verifier),
            "code_challenge_method": "S256",
        }
        address = _address(self.metadata(), "authorization_endpoint")
        return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(query)}"

    def check_issuer(self, given: str | None) -> None:
        """Raise AuthError where an answer came from another provider than the one that was asked (RFC 9207)."""
        promised = self.metadata().get("authorization_response_iss_parameter_supported") is True
        if (given is None and promised) or given not in (None, self.issuer):
            raise AuthError("the answer is not from the provider that was asked: begin the login again")

    def redeem(self, ticket: tickets.Ticket, code: str) -> Mapping[str, Any]:
        """Return the verified claims that an authorization code stands for. Raises AuthError."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": ticket.redirect,
            "code_verifier": ticket.verifier,
        }
        answer, status = self._post("token_endpoint", form)
        if status != 200:
            raise _refused("the code", answer)
        return self._claims(answer, nonce=ticket.nonce)

    # --- a device (RFC 8628) ----------------------------------------------------------------------------------------

    def begin_device(self) -> Device:
        """Return a login to be confirmed in any browser."""
        answer, status = self._post("device_authorization_endpoint", {"scope": self._scopes}, repeatable=True)
        if status != 200:
            raise _refused("to begin a device's login", answer)
        whole = answer.get("verification_uri_complete")
        try:
            return Device(
                device_code=str(answer["device_code"]),
                user_code=_printable(answer["user_code"]),
                url=_address(answer, "verification_uri"),
                whole_url=None if whole is None else _address(answer, "verification_uri_complete"),
                interval=max(1.0, float(answer.get("interval", _INTERVAL_SECONDS))),
                seconds=min(float(answer["expires_in"]), tickets.LIFE_SECONDS),
            )
        except (KeyError, TypeError, ValueError):
            raise UnavailableError(f"the provider {self.issuer} began a device's login with no sense in it") from None

    def poll_device(self, device_code: str) -> Mapping[str, Any] | Pending:
        """Return the verified claims of who has confirmed, or that nobody has yet. Raises AuthError, ForbiddenError."""
        answer, status = self._post("token_endpoint", {"grant_type": DEVICE, "device_code": device_code})
        if status == 200:
            return self._claims(answer, nonce=None)
        error = answer.get("error")
        if error in ("authorization_pending", "slow_down"):
            return Pending(slower=error == "slow_down")
        if error == "access_denied":
            raise ForbiddenError("the login was declined at the provider")
        raise _refused("the device's code", answer)

    # --- what they have in common -----------------------------------------------------------------------------------

    def user_info(self, access_token: str, subject: str) -> Mapping[str, Any]:
        """Return further claims about the subject; none where the provider has no UserInfo. Raises AuthError for
        somebody else's (OpenID Connect Core 1.0, section 5.3.4)."""
        if "userinfo_endpoint" not in self.metadata():
            return {}
        url = _address(self.metadata(), "userinfo_endpoint")
        claims = self._json(self._get(url, {"authorization": f"Bearer {access_token}"}), url)
        if claims.get("sub") != subject:
            raise AuthError("the provider's UserInfo is about somebody else than its ID token")
        return claims

    def _claims(self, answer: Mapping[str, Any], *, nonce: str | None) -> Mapping[str, Any]:
        """Return the claims of a token endpoint's answer; under "access_token" what may ask for more of them."""
        token, access = answer.get("id_token"), answer.get("access_token")
        if not isinstance(token, str):
            raise AuthError("the provider gave no ID token: is openid among the client's scopes there?")
        access = access if isinstance(access, str) else None
        try:
            claims = self._verify(token, nonce, access, fresh=False)
        except id_tokens.UnknownKeyError:
            claims = self._verify(token, nonce, access, fresh=True)
        return {**claims, "access_token": access}

    def _verify(self, token: str, nonce: str | None, access: str | None, *, fresh: bool) -> Mapping[str, Any]:
        keys = self.keys(fresh=fresh)
        return id_tokens.verify(
            token, keys, issuer=self.issuer, client_id=self.client_id, nonce=nonce, access_token=access
        )

    def keys(self, *, fresh: bool = False) -> list[Mapping[str, Any]]:
        """Return the provider's public keys, at most ten minutes old; fresh: ten seconds."""
        url = _address(self.metadata(), "jwks_uri")
        with self._lock:
            most = KEYS_AGAIN_SECONDS if fresh else KEYS_SECONDS
            if self._keys is None or self._clock() - self._keys[0] >= most:
                keys = self._json(self._get(url), url).get("keys")
                if not isinstance(keys, list):
                    raise UnavailableError(f"{url} holds no keys")
                self._keys = (self._clock(), [key for key in keys if isinstance(key, dict)])
            return self._keys[1]

    def _get(self, url: str, headers: Mapping[str, str] | None = None) -> tuple[bytes, int]:
        return self._send("GET", url, headers=headers or {}, repeatable=True)

    def _post(
        self, endpoint: str, form: Mapping[str, str], *, repeatable: bool = False
    ) -> tuple[Mapping[str, Any], int]:
        """Send a form as our client. Return the answer and its status."""
        url, headers, form = _address(self.metadata(), endpoint), {}, dict(form)
        methods = self.metadata().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._secret is None or "client_secret_basic" not in methods:
            form["client_id"] = self.client_id
            if self._secret is not None:
                form["client_secret"] = self._secret
        else:  # RFC 6749, section 2.3.1: both are encoded before they become a Basic login
            login = httpx.BasicAuth(quote(self.client_id, safe=""), quote(self._secret, safe=""))
            request = next(login.sync_auth_flow(httpx.Request("POST", url)))
            headers["authorization"] = request.headers["authorization"]
        body, status = self._send("POST", url, headers=headers, form=form, repeatable=repeatable)
        return self._json((body, status), url, whatever=True), status

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        repeatable: bool,
    ) -> tuple[bytes, int]:
        """Return an answer's body and status. Raises UnavailableError where there is none in time."""

        def once() -> tuple[bytes, int]:
            try:
                head = {"accept": "application/json", **headers}
                with self._http.stream(method, url, headers=head, data=form) as answer:
                    body = bytearray()
                    for piece in answer.iter_bytes():
                        body += piece
                        if len(body) > MAX_BYTES:
                            raise UnavailableError(f"the provider's answer at {url} is larger than {MAX_BYTES:,} bytes")
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise _AgainError(sent=False, final=_away(url, error)) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise _AgainError(sent=True, final=_away(url, error)) from error
            if answer.status_code >= 500:
                final = UnavailableError(f"the provider failed: {url} answered HTTP {answer.status_code}")
                raise _AgainError(sent=True, final=final)
            return bytes(body), answer.status_code

        may = lambda error: isinstance(error, _AgainError) and (repeatable or not error.sent)  # noqa: E731
        try:
            return again(once, when=may, seconds=RETRY_SECONDS, first=0.1, longest=1.0)
        except _AgainError as error:
            raise error.final from None

    def _json(self, answer: tuple[bytes, int], url: str, *, whatever: bool = False) -> Mapping[str, Any]:
        """Return an answer's JSON object. whatever: of any status."""
        body, status = answer
        try:
            read = json.loads(body)
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict) or (status != 200 and not whatever):
            raise UnavailableError(f"{url} answered HTTP {status} with no such thing as a provider of logins would")
        return read


@cache
def _certificates() -> ssl.SSLContext:
    """Return the context of this machine's trusted certificates. Read once: it takes 20 to 30 ms."""
    return httpx.create_ssl_context()


def _address(given: Mapping[str, Any], name: str) -> str:
    """Return an address that the provider names. Raises UnavailableError where it is none, or has no TLS."""
    try:
        return safe_address(str(given[name]))
    except KeyError:
        raise UnavailableError(f"the provider has no {name}") from None
    except ValueError as error:
        raise UnavailableError(f"the provider's {name} is not taken: {error}") from None


def _away(url: str, error: Exception) -> UnavailableError:
    return UnavailableError(f"the provider does not answer at {url} ({str(error) or type(error).__name__})")


def _refused(what: str, answer: Mapping[str, Any]) -> AuthError:
    said = " ".join(filter(None, (_printable(answer.get(name, "")) for name in ("error", "error_description"))))
    return AuthError(f"the provider refuses {what}: {said or 'without a reason'}. Begin the login again")


def _printable(text: Any) -> str:
    """Return a stranger's text as it may be shown on a terminal."""
    return "".join(letter for letter in str(text)[:200] if letter.isascii() and letter.isprintable())
