"""ID tokens: what makes one trustworthy (OpenID Connect Core 1.0, section 3.1.3.7). Pure, but for the clock.

Only signatures by a provider's private key count: an algorithm of `ALGORITHMS`, a public key of its set. So neither
"none" nor an HMAC, which whoever has the public key could make, is ever looked at.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from service.errors import AuthError

if TYPE_CHECKING:
    import jwt

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS = 60  # by which the provider's clock may differ from ours
MAX_TOKEN_BYTES = 64 << 10
MAX_SUBJECT = 255  # characters, by the standard
_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_MIN_RSA_BITS = 2048


class UnknownKeyError(AuthError):
    """The token is signed with a key that is not in the set: the provider may have a new one."""


def verify(
    token: str,
    keys: Sequence[Mapping[str, Any]],
    *,
    issuer: str,
    client_id: str,
    nonce: str | None = None,
    access_token: str | None = None,
) -> Mapping[str, Any]:
    """Return the claims of an ID token that the issuer has made for this client, and that holds now.

    keys: the provider's public keys (JWK). nonce: what the login began with; None where its kind has none.
    access_token: what came with it; compared with `at_hash`, where that is. Raises AuthError, for a key that is not
    known UnknownKeyError. No message holds the token.
    """
    import jwt  # only where somebody logs in

    algorithm, key = _key(token, keys)
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=client_id,
            leeway=LEEWAY_SECONDS,
            options={"require": ["iss", "sub", "aud", "exp", "iat"]},
        )
    except jwt.PyJWTError as error:
        raise _refused(str(error)) from None
    subject, audience = claims["sub"], claims["aud"]
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
        raise _refused("its subject is no text of 1 to 255 characters")
    if isinstance(audience, list) and len(audience) > 1 and "azp" not in claims:
        raise _refused("it is for several clients and does not say which one asked (azp)")
    if claims.get("azp", client_id) != client_id:
        raise _refused("another client has asked for it (azp)")
    if not isinstance(claims["exp"], int | float) or claims["exp"] - time.time() > 7 * 86_400:
        raise _refused("it is valid for more than a week")
    if nonce is not None and not _same(claims.get("nonce"), nonce):
        raise _refused("its nonce is not that of this login: it was made for another one")
    if (
        access_token is not None
        and "at_hash" in claims
        and not _same(claims["at_hash"], _half(access_token, algorithm))
    ):
        raise _refused("its at_hash does not fit the access token")
    return claims


def _key(token: str, keys: Sequence[Mapping[str, Any]]) -> tuple[str, jwt.PyJWK]:
    """Return the algorithm of the token's head, which is one that is taken, and the provider's key for it."""
    import jwt

    if len(token) > MAX_TOKEN_BYTES:
        raise _refused(f"it is larger than {MAX_TOKEN_BYTES:,} bytes")
    try:
        head = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise _refused("it is no signed token") from None
    algorithm, identifier = head.get("alg"), head.get("kid")
    if algorithm not in ALGORITHMS:
        raise _refused(f"it is signed by {str(algorithm)[:20]!r}; taken are {', '.join(ALGORITHMS)}")
    fitting = [key for key in keys if _fits(key, algorithm, identifier)]
    if not fitting:
        raise UnknownKeyError("the provider's ID token is refused: it is signed with a key that the provider lacks")
    if len(fitting) > 1:
        raise _refused("several of the provider's keys could have signed it, and it does not name which (kid)")
    try:
        key = jwt.PyJWK(dict(fitting[0]), algorithm=algorithm)
    except jwt.PyJWTError as error:
        raise _refused(f"the provider's key is none ({error})") from None
    if key.key_type == "RSA" and key.key.key_size < _MIN_RSA_BITS:
        raise _refused(f"the provider's key has {key.key.key_size} bits; {_MIN_RSA_BITS} are the fewest that are taken")
    return algorithm, key


def _fits(key: Mapping[str, Any], algorithm: str, identifier: Any) -> bool:
    return (
        key.get("kty") == _TYPES[algorithm[:2]]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (identifier is None or key.get("kid") == identifier)
    )


def _half(access_token: str, algorithm: str) -> str:
    """Return the left half of the access token's hash (section 3.1.3.6)."""
    size = {"384": hashlib.sha384, "512": hashlib.sha512, "DSA": hashlib.sha512}.get(algorithm[-3:], hashlib.sha256)
    digest = size(access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _same(given: Any, wanted: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode(), wanted.encode())


def _refused(why: str) -> AuthError:
    return AuthError(f"the provider's ID token is refused: {why}")
