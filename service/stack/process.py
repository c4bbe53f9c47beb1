"""Daemons of the embedded stack: started detached, told apart from strangers by more than a pid, ended completely.

A daemon is remembered by pid, start time and boot, so a recycled pid is never mistaken for it. Everything it started
is found by session, by descent, and by an environment variable that all of it inherits; a daemon that was killed with
SIGKILL leaves such orphans behind. Needs /proc (Linux).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from service.errors import UnavailableError

MARK = "VAESVC_STACK_PART"  # <state directory>:<part>, inherited by all that a part starts
_KEPT_LOGS = 3
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """How to start one process."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    mark: str


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One process, for ever: pids come again, (boot, pid, start) does not. `start` is in clock ticks since boot."""

    pid: int
    start: int
    boot: str
    fingerprint: str = ""  # of what it was started with


@dataclass(frozen=True, kw_only=True)
class _Stat:
    pid: int
    parent: int
    session: int
    start: int
    zombie: bool


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # after the command's name, which may hold spaces: field 3 onwards
    parent, session, start, threads = (int(fields[place]) for place in (1, 3, 19, 17))
    gone = fields[0] in "ZX" and threads <= 1  # the other threads of a killed process may still hold its sockets
    return _Stat(pid=pid, parent=parent, session=session, start=start, zombie=gone)


def _everything() -> list[_Stat]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [process for pid in pids if (process := _stat(pid)) is not None and not process.zombie]


def _marked(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return False


def alive(identity: Identity) -> bool:
    """Return whether the very process that was started exists and runs."""
    process = _stat(identity.pid)
    if process is None or process.start != identity.start or identity.boot != boot_id():
        return False
    if process.zombie:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(identity.pid, os.WNOHANG)  # our own child: let it go
    return not process.zombie


def members(mark: str, identity: Identity | None) -> list[Identity]:
    """Return all that is left of a part: its process, its session, whatever bears its mark, and their descendants."""
    boot = boot_id()
    known = identity if identity and identity.boot == boot else None
    processes = {process.pid: process for process in _everything()}
    leader = processes.get(known.pid) if known else None
    recycled = leader is not None and known is not None and leader.start != known.start
    spared = _ancestry(os.getpid(), processes)
    chosen = {pid for pid in processes if _marked(pid, mark)}
    if known and not recycled:
        chosen |= {s.pid for s in processes.values() if s.session == known.pid and s.start >= known.start}
    chosen -= spared
    while grown := {s.pid for s in processes.values() if s.parent in chosen} - chosen - spared:
        chosen |= grown
    return [Identity(pid=pid, start=processes[pid].start, boot=boot) for pid in sorted(chosen)]


def _ancestry(pid: int, processes: Mapping[int, _Stat]) -> set[int]:
    line = set()
    while pid in processes and pid not in line:
        line.add(pid)
        pid = processes[pid].parent
    return line


def start(daemon: Daemon, record: Path, fingerprint: str) -> Identity:
    """Start the daemon in a session of its own and write `record`. Raises UnavailableError if it cannot be executed."""
    _rotate(daemon.log)
    daemon.log.parent.mkdir(parents=True, exist_ok=True)
    with daemon.log.open("ab") as log:
        try:
            child = subprocess.Popen(
                daemon.command,
                env={**daemon.environment, MARK: daemon.mark},
                cwd=daemon.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise UnavailableError(f"cannot start {daemon.command[0]}: {error.strerror}") from error
    child.returncode = 0  # it outlives this process on purpose: no warning about that when the object is dropped
    process = _stat(child.pid)
    identity = Identity(pid=child.pid, start=process.start if process else -1, boot=boot_id(), fingerprint=fingerprint)
    write_private(record, json.dumps(asdict(identity)))
    return identity


def recorded(record: Path) -> Identity | None:
    """Return what `start` wrote; None where there is nothing readable."""
    try:
        return Identity(**json.loads(record.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def end(mark: str, identity: Identity | None, seconds: float) -> int:
    """Send SIGTERM to the part's own process, after `seconds` SIGKILL to all that is left. Returns how many there were.

    Whoever is killed first may have started others meanwhile, so it looks again until nothing is left.
    """
    first = members(mark, identity)
    deadline = time.monotonic() + seconds
    if identity and alive(identity):
        _signal(identity, signal.SIGTERM)
        while alive(identity) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    grace = min(deadline, time.monotonic() + 2)  # children that end by themselves once their parent has gone
    while (left := members(mark, identity)) and time.monotonic() < grace:
        time.sleep(_POLL_SECONDS)
    kill_until = time.monotonic() + 10
    while left and time.monotonic() < kill_until:
        for process in left:
            _signal(process, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
        left = members(mark, identity)
    if left:
        raise UnavailableError(f"processes {[process.pid for process in left]} do not end, not even by SIGKILL")
    return len(first)


def _signal(identity: Identity, number: signal.Signals) -> None:
    if alive(identity):  # a pid that was recycled meanwhile is left alone
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, number)


def listens(identities: Collection[Identity], port: int) -> bool:
    """Return whether one of these processes listens on TCP `port`: then what answers there is ours."""
    import psutil

    for identity in identities:
        with contextlib.suppress(psutil.Error):
            connections = psutil.Process(identity.pid).net_connections(kind="tcp")
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections):
                return True
    return False


def tail(log: Path, lines: int = 30) -> str:
    """Return the end of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"({log}: {error.strerror})"
    return "\n".join(text.splitlines()[-lines:])


def write_private(path: Path, text: str) -> None:
    """Replace a file whole, mode 0600 from its first byte."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _rotate(log: Path) -> None:
    """Rename log -> log.1 -> log.2 ...: every start has its own file, the last few are kept."""
    if not log.exists() or log.stat().st_size == 0:
        return
    for number in range(_KEPT_LOGS, 0, -1):
        older = log if number == 1 else log.with_name(f"{log.name}.{number - 1}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number}"))
