"""The state directory of the embedded stack: what runs, on which ports, with which secrets. All of it mode 0600.

stack.json    ports (kept for ever), and while the stack is up the settings that `service.settings.load` reads
run/<part>    identity of the daemon: pid, start time, boot
logs/<part>.log, .1 ... .3
secret s3-secret token ray-token
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.errors import StorageError, UnavailableError, UsageError
from service.settings import STACK_FILE
from service.stack.process import write_private

LOCK_SECONDS = 180.0  # somebody else's `up` or `down` may take this long


@dataclass(frozen=True, kw_only=True)
class State:
    running: bool = False
    ports: dict[str, int] = field(default_factory=dict)  # "s3.proxy" -> port
    settings: dict[str, Any] = field(default_factory=dict)  # "mlflow_uri" -> value


def read(home: Path) -> State:
    path = home / STACK_FILE
    try:
        state = json.loads(path.read_text())
        return State(running=bool(state["running"]), ports=dict(state["ports"]), settings=dict(state["settings"]))
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not the state of a stack ({error}); delete it and run `vaesvc up`") from error


def write(home: Path, state: State) -> None:
    document = {"format": 1, "running": state.running, "ports": state.ports, "settings": state.settings}
    write_private(home / STACK_FILE, json.dumps(document, indent=1))


def create(home: Path) -> None:
    """Make the directory, closed to others. Raises StorageError naming the path if that fails, or it is open and not
    ours."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        _close(home)
        for name in ("run", "logs"):
            (home / name).mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"cannot make the state directory {home}: {error.strerror}; set VAESVC_HOME") from error


def _close(home: Path) -> None:
    """Close the folder to others where it is empty or a stack's; else leave it as it is."""
    status = home.stat()
    if status.st_uid != os.getuid():
        raise StorageError(f"the state directory {home} is another user's: set VAESVC_HOME to a folder of your own")
    if not status.st_mode & 0o077:
        return
    if (home / STACK_FILE).exists() or not any(home.iterdir()):
        home.chmod(0o700)
        return
    raise StorageError(
        f"the state directory {home} is open to others (mode {status.st_mode & 0o777:04o}) and holds other things: set "
        f"VAESVC_HOME to a folder of the stack's own, or close this one with: chmod 700 {home}"
    )


def mark(home: Path, part: str) -> str:
    """Return the mark that every process of a part bears in its environment."""
    return f"{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]}:{part}"


def record(home: Path, part: str) -> Path:
    return home / "run" / part


def log(home: Path, part: str) -> Path:
    return home / "logs" / f"{part}.log"


def secret(path: Path, make: Callable[[], str] = lambda: secrets.token_hex(32)) -> str:
    """Return the secret in `path`, made (mode 0600) where there is none."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        write_private(path, make())
        return path.read_text().strip()


@contextlib.contextmanager
def locked(home: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Let one `up` or `down` run at a time. The kernel releases the lock when its holder dies."""
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _try(descriptor):
            report("another `vaesvc up` or `down` is at work; waiting for it")
            deadline = time.monotonic() + LOCK_SECONDS
            while not _try(descriptor):
                if time.monotonic() > deadline:
                    raise UnavailableError(f"another `vaesvc up` or `down` holds {home / 'lock'}; try again later")
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
