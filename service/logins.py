"""Tokens that `vaesvc login` got, one for each service: a file of mode 0600 in the user's configuration folder.

A token is sent to the address that it was got from, and to no other.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from service.setting_types import read_secret


def path_of(api_url: str) -> Path:
    """Return the file of a service's token, which may not be there."""
    parts = urlsplit(api_url)
    place = f"{parts.scheme}_{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}".lower()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return config / "vaesvc" / "logins" / re.sub(r"[^a-z0-9._-]", "_", place)


def token(api_url: str) -> str | None:
    """Return the token for the service at this address; None where nobody has logged in. Raises AuthError for a file
    that cannot be read."""
    path = path_of(api_url)
    return read_secret(path, "vaesvc login") if path.exists() else None


def keep(path: Path, token: str) -> None:
    """Write a token (mode 0600), in the place of the one before. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token + "\n")
        os.replace(new, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
