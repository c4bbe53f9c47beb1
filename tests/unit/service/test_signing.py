"""Signatures of models: what is signed cannot be moved, changed or made by anybody else."""

from __future__ import annotations

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service import model_files, signing
from service.errors import AuthError, UntrustedError, UsageError
from service.model_files import PAYLOAD_TYPE, Statement

STATEMENT = Statement(
    name="m", version=3, job_id="j-1", source="models/m/j-1", manifest_sha256="0" * 64, metric="val/elbo", value=-1.5,
    mode="max", measure="density", data="digits", step=5, checkpoint="s3://b/checkpoints/j-1/5/",
)  # fmt: skip


@pytest.fixture
def key(tmp_path: Path) -> signing.SigningKey:
    return signing.read_key(tmp_path / "key")


def signed(key: signing.SigningKey, **changes: Any) -> str:
    return key.sign({**STATEMENT.model_dump(), **changes}, PAYLOAD_TYPE)


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "signing-key"
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: signing.read_key(path).public, range(32)))) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert signing.read_key(tmp_path / "another").public != signing.read_key(path).public
    path.chmod(0o644)
    with pytest.raises(AuthError, match=f"chmod 600 {path}"):
        signing.read_key(path)
    path.chmod(0o600)
    path.write_text("not a key")
    with pytest.raises(AuthError, match="holds no Ed25519 key"):
        signing.read_key(path)


def test_a_repr_shows_no_key(tmp_path: Path) -> None:
    key = signing.read_key(tmp_path / "key")
    secret = (tmp_path / "key").read_text().splitlines()[1]
    assert secret not in repr(key) + str(key)


def test_fault_01_what_is_signed_is_read(key: signing.SigningKey) -> None:
    envelope = signed(key)
    assert envelope == signed(key)
    assert model_files.read_statement(envelope, [key.public], "it") == STATEMENT


def test_fault_01_an_envelope_is_dsse(key: signing.SigningKey) -> None:
    """Others' tools can check it: PAE by the protocol's own example, the signature by the library alone."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    assert signing._authenticated("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    envelope = json.loads(signed(key))
    payload = base64.b64decode(envelope["payload"])
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public.removeprefix("ed25519:")))
    message = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), message)


def test_fault_01_every_changed_byte_is_refused(key: signing.SigningKey) -> None:
    envelope = json.loads(signed(key))
    payload, signature = base64.b64decode(envelope["payload"]), base64.b64decode(envelope["signatures"][0]["sig"])
    for data, place in ((payload, "payload"), (signature, "sig")):
        for position in range(0, len(data), 7):
            altered = bytes([*data[:position], data[position] ^ 1, *data[position + 1 :]])
            changed = json.loads(json.dumps(envelope))
            (changed if place == "payload" else changed["signatures"][0])[place] = base64.b64encode(altered).decode()
            with pytest.raises(UntrustedError):
                model_files.read_statement(json.dumps(changed), [key.public], "it")


def test_fault_01_another_key_another_kind_and_no_signature_are_refused(
    key: signing.SigningKey, tmp_path: Path
) -> None:
    other = signing.read_key(tmp_path / "other")
    with pytest.raises(UntrustedError, match=re.escape(f"by a key that is trusted: it names {other.public}")):
        model_files.read_statement(signed(other), [key.public], "it")
    assert model_files.read_statement(signed(other), [key.public, other.public], "it") == STATEMENT
    with pytest.raises(UntrustedError, match="signed as 'something/else'"):
        model_files.read_statement(key.sign(STATEMENT.model_dump(), "something/else"), [key.public], "it")
    lying = json.loads(signed(other))
    lying["signatures"][0]["keyid"] = key.public  # who signed is what verifies, not what it says
    empty = json.loads(signed(key)) | {"signatures": []}
    for envelope in (json.dumps(lying), json.dumps(empty), "", "{}", "[]", "null", '{"payloadType": 1}'):
        with pytest.raises(UntrustedError):
            model_files.read_statement(envelope, [key.public], "it")


@pytest.mark.parametrize(
    "change",
    [
        {"source": "checkpoints/j-1/5"}, {"source": "models/m/j-2"}, {"source": "models/m/../../secrets"},
        {"name": "../m", "source": "models/../m/j-1"}, {"format": 2}, {"more": 1},
        {"version": 0}, {"manifest_sha256": "0"},
    ],
)  # fmt: skip
def test_fault_01_a_statement_about_something_else_is_refused(key: signing.SigningKey, change: dict[str, Any]) -> None:
    with pytest.raises(UntrustedError):
        model_files.read_statement(signed(key, **change), [key.public], "it")


@pytest.mark.parametrize("text", ["ed25519:", "ed25519:AAAA", "rsa:AAAA", "nonsense", "ed25519:é"])
def test_what_is_no_public_key_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="is no public key"):
        signing.parse_keys(text)


def test_several_keys_may_be_trusted(key: signing.SigningKey, tmp_path: Path) -> None:
    other = signing.read_key(tmp_path / "other").public
    assert signing.parse_keys(f" {key.public},\n{other}") == (key.public, other)
    assert signing.parse_keys("") == ()
