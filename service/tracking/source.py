"""Which code runs: commit, branch, whether files were changed, and where the repository is published."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

GIT_SECONDS = 5.0  # for one answer: a checkout on a slow disk must not hold up a run
SCP_LIKE = re.compile(r"(?:[\w.-]+@)?(?P<host>[\w.-]+):(?P<path>(?!//)\S+)")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What git reports. None where it does not, or not in time."""

    commit: str | None = None
    branch: str | None = None  # None on a detached head
    dirty: bool | None = None  # whether tracked files differ from the commit
    repository: str | None = None  # an address without user, password and query

    def tags(self) -> dict[str, str]:
        """Return the tags as MLflow's own client names them."""
        dirty = None if self.dirty is None else str(self.dirty).lower()
        tags = {"commit": self.commit, "branch": self.branch, "dirty": dirty, "repoURL": self.repository}
        return {f"mlflow.source.git.{name}": value for name, value in tags.items() if value is not None}


@functools.cache
def source() -> Source:
    """Return the source of this package, where it runs from a checkout. VAESVC_GIT_COMMIT gives the commit where there
    is no checkout, and then nothing else is known."""
    if commit := os.environ.get("VAESVC_GIT_COMMIT"):
        return Source(commit=commit)
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed: a repository around site-packages would be somebody else's
        return Source()
    return read(root)


def read(root: Path) -> Source:
    """Return the source of the checkout at `root`: three short calls, none of which writes there or asks a server."""
    head = (_git(root, "rev-parse", "HEAD", "--abbrev-ref", "HEAD") or "").splitlines()
    if len(head) != 2:
        return Source()
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules")
    return Source(
        commit=head[0],
        branch=None if head[1] == "HEAD" else head[1],
        dirty=None if changed is None else bool(changed),
        repository=_published(_git(root, "config", "--get", "remote.origin.url") or ""),
    )


def _published(address: str) -> str | None:
    """Return the address as it may be published: without a token that it was cloned with. None for a local path."""
    if "://" not in address:
        parts = SCP_LIKE.fullmatch(address)
        return f"git@{parts['host']}:{parts['path']}" if parts else None
    try:
        url = urlsplit(address)
    except ValueError:  # no address at all
        return None
    if url.scheme not in ("http", "https", "ssh", "git") or not url.hostname:
        return None
    return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        reply = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return reply.stdout.strip() if reply.returncode == 0 else None
