"""Tokens and the service's secret."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service import auth
from service.errors import AuthError, StorageError

SECRET = bytes(range(32))


def test_user_tokens_are_long_and_never_the_same() -> None:
    tokens = {auth.new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert min(map(len, tokens)) >= 43  # 256 bits in base64
    assert not any(auth.is_attempt_token(token) for token in tokens)


def test_an_attempts_token_is_the_same_whoever_makes_it() -> None:
    """Dispatchers and APIs of different ages must agree: this value may never change within a version of the wire."""
    token = auth.attempt_token(SECRET, "j-1", 3)
    assert token == "vaesvc-attempt_70c749825dc090cde76dead9de42f5824c849a2fd6b9020154d3678ea4fd6b7e"
    assert auth.is_attempt_token(token)
    assert auth.verify_attempt_token(SECRET, token, "j-1", 3)


@pytest.mark.parametrize(
    ("secret", "job", "number"),
    [(SECRET, "j-1", 2), (SECRET, "j-2", 3), (SECRET, "j-13", 3), (SECRET, "j-", 13), (SECRET[::-1], "j-1", 3)],
)
def test_it_opens_nothing_else(secret: bytes, job: str, number: int) -> None:
    assert not auth.verify_attempt_token(secret, auth.attempt_token(SECRET, "j-1", 3), job, number)


@pytest.mark.parametrize("token", ["", "vaesvc-attempt_", "nonsense", "vaesvc-attempt_é"])
def test_what_is_no_token_is_refused(token: str) -> None:
    assert not auth.verify_attempt_token(SECRET, token, "j-1", 3)


def test_the_secret_is_made_once_however_many_ask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret"
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: auth.read_secret(path), range(64)))
    assert len(found) == 1
    assert len(found.pop()) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]  # no leftovers


def test_a_secret_that_others_can_read_is_refused_with_how_to_mend_it(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    auth.read_secret(path)
    path.chmod(0o640)
    with pytest.raises(AuthError, match=f"chmod 600 {path}"):
        auth.read_secret(path)


def test_a_secret_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(AuthError, match="5 bytes"):
        auth.read_secret(path)


def test_a_secret_that_cannot_be_made_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="VAESVC_SECRET_FILE"):
        auth.read_secret(tmp_path / "file" / "secret")


def test_private_files_are_new_and_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        auth.write_private(tmp_path / "deep" / "token", "t\n")
    finally:
        os.umask(before)
    assert (tmp_path / "deep" / "token").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        auth.write_private(tmp_path / "deep" / "token", "other\n")
