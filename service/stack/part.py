"""What a part of the embedded stack is: how to start it, what it offers, how to see that it works."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import AuthError, UnavailableError
from service.settings import Settings

LOOPBACK = "127.0.0.1"
CHECK_SECONDS = 5.0  # for one answer
_FOREIGN = ("RAY_ADDRESS", "RAY_NAMESPACE", "VAESVC_TOKEN")  # of the user's shell; no daemon may act on them


@dataclass(frozen=True, kw_only=True)
class Part:
    """One line of `vaesvc status`."""

    name: str
    ok: bool
    pid: int | None = None  # none: it is down, or somebody else's server
    address: str | None = None
    detail: str = ""  # why it is not ok, where the address is from, or how to sign in
    log: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a part is to run. `settings` has every address of the stack, `ports` this part's own."""

    home: Path
    settings: Settings
    ports: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """`same` names all that must be equal for a running daemon to be left as it is."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    same: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """How to run one part.

    fields:   settings that say, given by the user, that the part is somebody else's server
    ports:    names of the ports it listens on; the first one answers the check
    provides: what `load()` should know once it runs: setting -> value
    launch:   writes what the daemon needs to find, and says how to start it
    also:     settings that belong to the same server
    answers:  (settings, since) raises a VaesvcError until the daemon that was started at `since` answers
    check:    raises a VaesvcError with the cause when the part cannot be used
    ready:    what to do once it answers, before others may count on it
    needs:    parts that must be ready before this one starts
    hint:     how to get in, where people do
    """

    name: str
    fields: tuple[str, ...]
    also: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    provides: Callable[[Path, Mapping[str, int]], dict[str, Any]]
    address: Callable[[Settings], str | None]
    launch: Callable[[Site], Launch]
    answers: Callable[[Settings, float], None]
    check: Callable[[Settings], None]
    ready: Callable[[Settings], None] | None = None
    needs: tuple[str, ...] = ()
    hint: Callable[[Settings], str] = lambda settings: ""
    start_seconds: float = 90.0
    stop_seconds: float = 10.0

    def outside(self, settings: Settings) -> str | None:
        """Return the setting by which the user named another server; None where the part is ours to run."""
        return next((field for field in self.fields if settings.explicit(field)), None)


def python(*arguments: str) -> tuple[str, ...]:
    """Return this interpreter's command, without the current folder on its path."""
    return (sys.executable, "-P", *arguments)


def environment(**extra: str) -> dict[str, str]:
    """Return the caller's environment for a daemon: this interpreter's programs first, no proxy for loopback."""
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), env.get("PATH", os.defpath)))
    for name in ("NO_PROXY", "no_proxy"):
        env[name] = ",".join(filter(None, (env.get(name), LOOPBACK, "localhost")))
    return env | {"PYTHONUNBUFFERED": "1"} | extra


def get(address: str, path: str = "", *, what: str, token: str | None = None) -> Any:
    """GET address/path and return the answer as JSON or text. UnavailableError or AuthError name address and cause."""
    import httpx

    url = address.rstrip("/") + path
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(url, headers=headers, timeout=CHECK_SECONDS, trust_env=not _local(address))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise UnavailableError(f"{what} at {address} does not answer: {error or type(error).__name__}") from error
    if answer.status_code in (401, 403):
        raise AuthError(f"{what} at {address} refuses the token (HTTP {answer.status_code})")
    if not answer.is_success:
        raise UnavailableError(f"{what} at {address} answers HTTP {answer.status_code} to GET {path or '/'}")
    return answer.json() if answer.headers.get("content-type", "").startswith("application/json") else answer.text


def _local(address: str) -> bool:
    from urllib.parse import urlsplit

    return urlsplit(address).hostname in (LOOPBACK, "localhost", "::1")
