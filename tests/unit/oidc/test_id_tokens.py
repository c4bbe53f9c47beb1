"""ID tokens: which one is taken, and each way to forge one is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from service.errors import AuthError
from service.oidc import id_tokens

ISSUER, CLIENT, NONCE = "https://login.example", "vaesvc", "n-1"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY, ED_KEY = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {"RS256": RSA_KEY, "PS384": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}


def public(algorithm: str = "RS256", **more: Any) -> dict[str, Any]:
    """The provider's public key of an algorithm."""
    kind: Any = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}[algorithm[:2]]
    return {**kind.to_jwk(PRIVATE[algorithm].public_key(), as_dict=True), "kid": "k", **more}


def claims(**more: Any) -> dict[str, Any]:
    now = time.time()
    known = {"iss": ISSUER, "aud": CLIENT, "sub": "u1", "iat": now, "exp": now + 300, "nonce": NONCE, **more}
    return {name: value for name, value in known.items() if value is not None}


def token(given: dict[str, Any] | None = None, *, key: Any = RSA_KEY, algorithm: str = "RS256", kid: str = "k") -> str:
    return jwt.encode(claims() if given is None else given, key, algorithm, headers={"kid": kid})


def verify(given: str, *keys: dict[str, Any], nonce: str | None = NONCE, **more: Any) -> Any:
    known = list(keys) or [public()]
    return id_tokens.verify(given, known, issuer=ISSUER, client_id=CLIENT, nonce=nonce, **more)


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_a_providers_token_is_taken_by_any_algorithm_with_a_public_key(algorithm: str) -> None:
    given = token(key=PRIVATE[algorithm], algorithm=algorithm)
    assert verify(given, public(algorithm, use="sig", alg=algorithm))["sub"] == "u1"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"aud": "another"}, "[Aa]udience"),
        ({"aud": None}, "aud"),
        ({"iss": "https://login.example.evil"}, "[Ii]ssuer"),
        ({"iss": ISSUER + "/"}, "[Ii]ssuer"),
        ({"exp": timedelta(seconds=-120)}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": timedelta(seconds=1e9)}, "more than a week"),
        ({"iat": timedelta(seconds=600)}, "iat"),
        ({"nbf": timedelta(seconds=600)}, "nbf|not yet valid"),
        ({"nonce": "of another login"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "subject"),
        ({"sub": "x" * 256}, "subject"),
        ({"aud": [CLIENT, "another"]}, "azp"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "azp"),
        ({"azp": "another"}, "azp"),
        ({"at_hash": "wrong"}, "at_hash"),
    ],
)
def test_fault_04_a_token_with_another_claim_is_refused(changed: dict[str, Any], why: str) -> None:
    now = time.time()  # of the test: its arguments were made when tests were collected
    given = token(
        claims(
            **{
                name: now + value.total_seconds() if isinstance(value, timedelta) else value
                for name, value in changed.items()
            }
        )
    )
    with pytest.raises(AuthError, match=why) as refused:
        verify(given, access_token="opens userinfo")
    assert given not in str(refused.value)


def test_the_clocks_may_differ_by_a_minute_and_several_audiences_name_who_asked() -> None:
    assert verify(token(claims(exp=time.time() - 50, iat=time.time() + 50)))
    assert verify(token(claims(aud=[CLIENT, "another"], azp=CLIENT)))
    half = hashlib.sha256(b"access").digest()[:16]
    fitting = base64.urlsafe_b64encode(half).rstrip(b"=").decode()
    assert verify(token(claims(at_hash=fitting)), access_token="access")
    assert verify(token(claims(nonce=None)), nonce=None)  # a device's login has none


def forged(head: dict[str, Any], signature: bytes | None = None, secret: bytes | None = None) -> str:
    """A token with a head of one's choice, signed with an HMAC or not at all."""
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in (head, claims())]
    signed = ".".join(parts)
    made = b"" if secret is None else hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature or made).rstrip(b'=').decode()}"


def test_fault_04_a_token_without_a_signature_or_with_an_hmac_of_the_public_key_is_refused() -> None:
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    as_json = json.dumps(public()).encode()
    shared = {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).rstrip(b"=").decode(), "kid": "k"}
    for head in ({"alg": "none"}, {"alg": "None", "kid": "k"}, {"alg": "", "kid": "k"}, {"kid": "k"}):
        with pytest.raises(AuthError, match=r"is signed by|no signed token"):
            verify(forged(head))
    for secret in (pem, as_json, b"x" * 32):
        with pytest.raises(AuthError, match="is signed by 'HS256'"):
            verify(forged({"alg": "HS256", "kid": "k"}, secret=secret), public(), shared)
    with pytest.raises(AuthError):
        verify(forged({"alg": "RS256", "kid": "k"}, signature=b"x" * 256))


def test_fault_04_a_token_signed_with_another_key_is_refused() -> None:
    with pytest.raises(AuthError, match=r"[Ss]ignature"):
        verify(token(key=OTHER_KEY))
    with pytest.raises(id_tokens.UnknownKeyError, match="that the provider lacks"):
        verify(token(key=OTHER_KEY, kid="another"))
    for unfit in ({"use": "enc"}, {"alg": "RS512"}, {"kty": "EC"}):
        with pytest.raises(id_tokens.UnknownKeyError):
            verify(token(), public(**unfit))
    with pytest.raises(AuthError, match="does not name which"):
        verify(jwt.encode(claims(), RSA_KEY, "RS256"), public(), public(kid="second"))
    brought = {"kid": "k", "jwk": RSAAlgorithm.to_jwk(OTHER_KEY.public_key(), as_dict=True)}
    with pytest.raises(AuthError, match=r"[Ss]ignature"):
        verify(jwt.encode(claims(), OTHER_KEY, "RS256", headers=brought))


def test_fault_04_a_weak_key_and_what_is_no_token_are_refused() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        made = token(key=weak)
    with pytest.raises(AuthError, match="1024 bits"):
        verify(made, {**RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True), "kid": "k"})
    for nonsense in ("", "a.b", "a.b.c", "\x00.\xff.", "e30.e30.e30", "x" * 70_000):
        with pytest.raises(AuthError):
            verify(nonsense)
