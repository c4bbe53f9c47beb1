"""What git says of the code, in real repositories."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.tracking import describe, notes, source
from tests.jobs import make_job


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--initial-branch=better-prior")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "one")
    return tmp_path


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    source.source.cache_clear()
    yield
    source.source.cache_clear()


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout


def test_fault_13b_git_says_branch_and_changes(checkout: Path) -> None:
    said = source.read(checkout)
    assert said.commit == git(checkout, "rev-parse", "HEAD").strip()
    assert (said.branch, said.dirty, said.repository) == ("better-prior", False, None)
    (checkout / "results.txt").write_text("no code")
    assert source.read(checkout).dirty is False
    (checkout / "file").write_text("2")
    changed = source.read(checkout)
    assert changed.dirty is True
    assert changed.tags()["mlflow.source.git.dirty"] == "true"
    git(checkout, "checkout", "--quiet", "--detach")
    assert source.read(checkout).branch is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://ada:secret@git.example/vae.git", "https://git.example/vae.git"),
        ("https://secret@git.example:8443/vae.git?token=secret", "https://git.example:8443/vae.git"),
        ("ssh://git@git.example/vae.git", "ssh://git.example/vae.git"),
        ("secret@git.example:group/vae.git", "git@git.example:group/vae.git"),
        ("/home/ada/secret/vae", None),
        ("file:///home/ada/secret/vae", None),
        ("http://[secret", None),
    ],
)
def test_fault_13b_an_address_shows_no_credentials(checkout: Path, address: str, shown: str | None) -> None:
    git(checkout, "remote", "add", "origin", address)
    assert source.read(checkout).repository == shown


def test_what_is_no_checkout_says_nothing(tmp_path: Path) -> None:
    assert source.read(tmp_path / "nowhere") == source.Source()
    assert source.Source().tags() == {}


def test_a_git_that_hangs_holds_nobody_up(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(source, "GIT_SECONDS", 0.2)
    assert source.read(checkout) == source.Source()


def test_the_commit_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAESVC_GIT_COMMIT", "abc")
    assert describe.tags(make_job(), 1)["mlflow.source.git.commit"] == "abc"
    assert "commit `abc`" in notes.code()
