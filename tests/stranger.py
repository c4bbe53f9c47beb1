"""Another user of this machine, and what the stack's processes listen on: for the tests that attack it.

The stranger is a number that no account has: the kernel asks for numbers only, and nothing on the machine is changed.
Root alone can become somebody else; without it the tests that need this are skipped, and say so.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

STRANGER = 54_321  # user and group
QUESTION_SECONDS = 6.0  # who asks a name server waits for its answer this long, on a port like a listener's
_LISTENS_TCP, _LISTENS_UNIX = "0A", 0x10000  # /proc/net/tcp: TCP_LISTEN; /proc/net/unix: __SO_ACCEPTCON


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A socket that takes connections (or, udp, packets). place: HOST:PORT, or a path."""

    kind: str  # tcp, tcp6, udp, udp6, unix
    place: str
    pid: int
    command: str

    @property
    def port(self) -> int:
        return int(self.place.rpartition(":")[2])


def need_root() -> None:
    """Skips the test, with the reason, where nobody can become another user."""
    if os.getuid() != 0:
        pytest.skip("only root can try as another user what one gets: run this test as root")


def run(script: str, *arguments: str, seconds: float = 120) -> Any:
    """Runs Python's standard library as the stranger; returns what `script` prints as its last line, from JSON."""
    command = [_interpreter(), "-I", "-c", script, *arguments]
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    done = subprocess.run(
        command, user=STRANGER, group=STRANGER, extra_groups=[], cwd="/", env=environment, capture_output=True,
        text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _interpreter() -> str:
    for path in ("/usr/bin/python3", os.path.realpath(sys.executable)):
        trial = [path, "-I", "-c", "import http.client"]
        with contextlib.suppress(OSError):
            if (
                subprocess.run(trial, user=STRANGER, group=STRANGER, extra_groups=[], cwd="/", check=False).returncode
                == 0
            ):
                return path
    pytest.skip("no Python that another user may run")


def listeners(pids: Collection[int]) -> list[Listener]:
    """Of these processes, each once."""
    found: dict[str, tuple[int, str]] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    target = os.readlink(descriptor)
                    if target.startswith("socket:["):
                        found.setdefault(target[8:-1], (pid, command))
    open_sockets = [*_internet(), *_unix()]
    if any(kind.startswith("udp") and inode in found for inode, kind, _ in open_sockets):
        time.sleep(QUESTION_SECONDS)
        there = {inode for inode, _, _ in _internet()}
        open_sockets = [one for one in open_sockets if not one[1].startswith("udp") or one[0] in there]
    return [Listener(kind=kind, place=place, pid=found[inode][0], command=found[inode][1])
            for inode, kind, place in open_sockets if inode in found]  # fmt: skip


def _internet() -> Iterator[tuple[str, str, str]]:
    """(inode, kind, HOST:PORT); a host is as the kernel prints it unless it is IPv4."""
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
                fields = line.split()
                remote, state = fields[2], fields[3]
                waits = state == _LISTENS_TCP if kind.startswith("tcp") else set(remote) <= set("0:")
                if waits:
                    host, _, port = fields[1].partition(":")
                    if len(host) == 8:
                        host = ".".join(str(part) for part in bytes.fromhex(host)[::-1])
                    yield fields[9], kind, f"{host}:{int(port, 16)}"


def _unix() -> Iterator[tuple[str, str, str]]:
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if int(fields[3], 16) & _LISTENS_UNIX:
            yield fields[6], "unix", fields[7] if len(fields) > 7 else ""
