"""Ed25519 signatures over JSON statements, in DSSE envelopes: the format of in-toto and sigstore.

The service has the private key, in a file of its own; readers need the public one and hold no secret. What is signed is
the statement's exact bytes with their type, PAE(type, payload) of the DSSE protocol v1.0.2, so no two kinds of
statements can be taken for each other, and nothing has to be brought into a canonical form to be checked.

A public key is written `ed25519:` and the base64 of its 32 bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import auth
from service.errors import AuthError, UntrustedError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PREFIX = "ed25519:"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """The service's signing key. public: what readers check with."""

    _private: Ed25519PrivateKey
    public: str

    def sign(self, statement: Mapping[str, Any], payload_type: str) -> str:
        """Return the envelope, as JSON text. The same statement and key give the same text."""
        payload = json.dumps(statement, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        signature = self._private.sign(_authenticated(payload_type, payload))
        envelope = {
            "payloadType": payload_type,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": self.public, "sig": base64.b64encode(signature).decode()}],
        }
        return json.dumps(envelope, sort_keys=True)


def read_key(path: Path) -> SigningKey:
    """Return the private key in `path` (PKCS #8, PEM), made (mode 0600) by whoever asks first, as `auth.read_secret`
    does.

    Raises AuthError for a file that holds no Ed25519 key or that others may read, StorageError if it cannot be used.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = auth.read_private(path, _new_key, what="the key that signs models", variable="VAESVC_SIGNING_KEY_FILE")
    try:
        private = load_pem_private_key(text, password=None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise AuthError(
            f"{path} holds no Ed25519 key (PKCS #8, PEM, no password): put the backup there, or delete it and "
            "restart API and dispatcher: models are signed again, and readers who pinned the old key need the new one"
        )
    return SigningKey(
        _private=private, public=_PREFIX + base64.b64encode(private.public_key().public_bytes_raw()).decode()
    )


def parse_keys(text: str) -> tuple[str, ...]:
    """Return the public keys of a setting, separated by commas or blanks. Raises UsageError for what is none."""
    keys = tuple(text.replace(",", " ").split())
    for key in keys:
        _public(key)
    return keys


def verify(envelope: str, keys: Collection[str], payload_type: str, what: str) -> dict[str, Any]:
    """Return the statement, if one of `keys` has signed it. Raises UntrustedError, which begins with `what`."""
    from cryptography.exceptions import InvalidSignature

    try:
        opened = json.loads(envelope)
        given, payload = opened["payloadType"], base64.b64decode(opened["payload"], validate=True)
        signatures = [base64.b64decode(each["sig"], validate=True) for each in opened["signatures"]]
        signers = [str(each.get("keyid")) for each in opened["signatures"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UntrustedError(f"{what} has no signature that can be read ({type(error).__name__})") from error
    if given != payload_type:
        raise UntrustedError(f"{what} is signed as {str(given)[:100]!r}, not as {payload_type!r}")
    message = _authenticated(payload_type, payload)
    for key in keys:
        for signature in signatures:
            try:
                _public(key).verify(signature, message)
            except InvalidSignature:
                continue
            statement: dict[str, Any] = json.loads(payload)
            return statement
    raise UntrustedError(
        f"{what} is not signed by a key that is trusted: it names {', '.join(signers)[:200] or 'none'}, trusted is "
        f"{', '.join(keys) or 'none'}"
    )


def payload(envelope: str) -> dict[str, Any]:
    """Return the statement, whoever signed it: for the service, of what it keeps itself."""
    content: dict[str, Any] = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    return content


def signed_by(envelope: str, key: str) -> bool:
    """Return whether the envelope names this key; to find what must be signed again, never to trust it."""
    try:
        return any(signature["keyid"] == key for signature in json.loads(envelope)["signatures"])
    except (ValueError, KeyError, TypeError):
        return False


def _authenticated(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _public(key: str) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        if not key.startswith(_PREFIX):
            raise ValueError(key)
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix(_PREFIX), validate=True))
    except (ValueError, binascii.Error) as error:
        raise UsageError(
            f"{key[:100]!r} is no public key; it looks like {_PREFIX}AAAA..., and `GET /v1/keys` of the service has it"
        ) from error


def _new_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
