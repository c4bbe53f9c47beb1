"""What settings are made of: paths, addresses, and files that hold a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from service.errors import AuthError


def absolute(path: Path) -> Path:
    """Return the path from the root, `~` being the user's home."""
    return path.expanduser().absolute()


def _no_nonsense(address: str) -> str:
    """Raise ValueError for what no program can take for an address: half an IPv6 address, a port that is none."""
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        _ = parts.port
    return address


def _host_and_port(address: str) -> str:
    """Raise ValueError for what is not HOST:PORT."""
    parts = urlsplit(f"//{address}")
    if not parts.hostname or parts.port is None or f"//{parts.netloc}" != f"//{address}" or parts.username:
        raise ValueError("this is written HOST:PORT, such as ray.example:6379")
    return address


Address = Annotated[str, AfterValidator(_no_nonsense)]
HostPort = Annotated[str, AfterValidator(_host_and_port)]
AbsolutePath = Annotated[Path, AfterValidator(absolute)]


def read_secret(path: Path, origin: str) -> str:
    """Return the secret in a file. `origin` says who named the file. Raises AuthError for one that is unreadable or
    empty."""
    try:
        value = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no text"
        raise AuthError(f"cannot read the token in {path} (named by {origin}): {why}") from error
    if not value:
        raise AuthError(f"the token file {path} (named by {origin}) is empty")
    return value
