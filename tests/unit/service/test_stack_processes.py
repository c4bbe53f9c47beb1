"""Daemons: told apart from strangers, ended completely, on ports that nobody else has. On real processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.errors import StorageError, UnavailableError
from service.stack import ports, process, state
from service.stack.process import Daemon, Identity

SLEEP = "import time; time.sleep(120)"
FAMILY = f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "{SLEEP}"])                          # a child
subprocess.Popen([sys.executable, "-c", "{SLEEP}"], start_new_session=True)  # one in a session of its own
if os.fork() == 0:                                                           # one that cuts the line of descent
    os.setsid()
    if os.fork() == 0:
        {SLEEP}
    os._exit(0)
os.wait()
print("started", flush=True)
{SLEEP}
"""
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('started', flush=True); {SLEEP}"


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class Started:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.marks: list[str] = []

    def __call__(self, code: str, name: str = "part") -> tuple[str, Identity]:
        mark = state.mark(self.home, name)
        self.marks.append(mark)
        daemon = Daemon(
            command=(sys.executable, "-c", code),
            environment=dict(os.environ),
            log=state.log(self.home, name),
            mark=mark,
        )
        return mark, process.start(daemon, state.record(self.home, name), "print")

    def wait(self, name: str = "part") -> None:
        until(lambda: "started" in state.log(self.home, name).read_text())


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    state.create(tmp_path / "home")
    found = Started(tmp_path / "home")
    yield found
    for mark in found.marks:
        process.end(mark, None, 0)


def test_a_daemon_is_remembered_and_outlives_who_started_it(started: Started) -> None:
    _, identity = started(SLEEP)
    assert process.alive(identity)
    assert process.recorded(state.record(started.home, "part")) == identity
    assert os.getsid(identity.pid) == identity.pid
    assert state.record(started.home, "part").stat().st_mode & 0o777 == 0o600


def test_everything_that_a_part_started_is_found_and_ended(started: Started) -> None:
    mark, identity = started(FAMILY)
    started.wait()
    until(lambda: len(process.members(mark, identity)) == 4)
    assert process.end(mark, identity, 5) == 4
    assert process.members(mark, identity) == []


def test_orphans_of_a_killed_daemon_are_ended_too(started: Started) -> None:
    mark, identity = started(FAMILY)
    started.wait()
    os.kill(identity.pid, signal.SIGKILL)
    until(lambda: not process.alive(identity))
    assert len(process.members(mark, identity)) == 3
    process.end(mark, identity, 5)
    assert process.members(mark, identity) == []


def test_a_daemon_that_ignores_sigterm_is_killed(started: Started) -> None:
    mark, identity = started(DEAF)
    started.wait()
    since = time.monotonic()
    process.end(mark, identity, 0.5)
    assert not process.alive(identity)
    assert 0.5 <= time.monotonic() - since < 20


def test_a_recycled_pid_is_never_mistaken_for_the_daemon() -> None:
    """A stranger with the daemon's pid but another start, or from before the last boot, is left alone."""
    stranger = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    try:
        stat = process._stat(stranger.pid)
        assert stat is not None
        now = Identity(pid=stranger.pid, start=stat.start, boot=process.boot_id())
        assert process.alive(now)
        for other in (dataclasses.replace(now, start=stat.start - 1), dataclasses.replace(now, boot="earlier")):
            assert not process.alive(other)
            assert process.end("nobody:part", other, 1) == 0
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_other_parts_and_other_stacks_are_left_alone(started: Started, tmp_path: Path) -> None:
    mark, identity = started(SLEEP, "one")
    _, neighbour = started(SLEEP, "two")
    assert state.mark(tmp_path / "elsewhere", "one") != mark
    process.end(mark, identity, 5)
    assert process.alive(neighbour)


def test_logs_of_earlier_starts_are_kept(started: Started) -> None:
    for number in range(5):
        mark, identity = started(f"print({number})")
        until(lambda identity=identity: not process.alive(identity))
        process.end(mark, identity, 1)
    log = state.log(started.home, "part")
    kept = [log, *(log.with_name(f"{log.name}.{age}") for age in (1, 2, 3))]
    assert [path.read_text().strip() for path in kept] == ["4", "3", "2", "1"]
    assert not log.with_name(f"{log.name}.4").exists()


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    daemon = Daemon(command=("/not/there",), environment={}, log=tmp_path / "log", mark="x:part")
    with pytest.raises(UnavailableError, match=r"cannot start /not/there: No such file"):
        process.start(daemon, tmp_path / "record", "")


def test_a_listening_port_is_ascribed_to_who_has_it(started: Started) -> None:
    chosen = ports.choose(["http"], {})["http"]
    _, identity = started(f"import socket; s = socket.create_server(('127.0.0.1', {chosen})); {SLEEP}")
    until(lambda: not ports.free(chosen))
    _, other = started(SLEEP, "other")
    assert process.listens([identity], chosen)
    assert not process.listens([other], chosen)


def test_kept_ports_come_again_and_busy_ones_do_not() -> None:
    first = ports.choose(["a", "b"], {})
    assert len(set(first.values())) == 2
    assert all(port in ports.RANGE for port in first.values())
    assert ports.choose(["a", "b"], first) == first
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.create_server((host, first["a"])):
            again = ports.choose(["a", "b"], first)
            assert again["a"] != first["a"]
            assert again["b"] == first["b"]
    assert ports.choose(["a"], {"a": first["b"]}, taken={first["b"]})["a"] != first["b"]


def test_two_that_choose_at_once_rarely_meet() -> None:
    """Forty at once, out of 12,000 ports: a fixed order of tries would make them all choose the same."""
    with ThreadPoolExecutor(8) as pool:
        chosen = list(pool.map(lambda _: ports.choose(["a"], {})["a"], range(40)))
    assert len(set(chosen)) >= 35


def test_the_lock_is_let_go_when_its_holder_is_killed(tmp_path: Path) -> None:
    state.create(tmp_path)
    code = (
        "import pathlib, sys, time; from service.stack import state\n"
        "with state.locked(pathlib.Path(sys.argv[1]), print): print('held', flush=True); time.sleep(120)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        waits: list[str] = []
        with ThreadPoolExecutor(1) as pool:

            def enter() -> None:
                with state.locked(tmp_path, waits.append):
                    pass

            entered = pool.submit(enter)
            until(lambda: bool(waits))
            assert not entered.done()
            holder.kill()
            entered.result(timeout=10)
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout:
            holder.stdout.close()


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert state.secret(path, lambda: "first") == "first"
    assert state.secret(path, lambda: "second") == "first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["secret"]


def test_fault_03_a_state_directory_that_was_open_is_closed_or_refused(tmp_path: Path) -> None:
    """Its database, logs and sockets count on it: one that was there before was taken as it was."""
    empty, used, theirs = tmp_path / "empty", tmp_path / "used", tmp_path / "theirs"
    for folder in (empty, used, theirs):
        folder.mkdir()
        folder.chmod(0o755)
    state.create(empty)
    assert empty.stat().st_mode & 0o777 == 0o700
    (used / "thesis.tex").touch()
    with pytest.raises(StorageError, match=f"open to others .mode 0755. and holds other things.*chmod 700 {used}"):
        state.create(used)
    assert used.stat().st_mode & 0o777 == 0o755
    used.chmod(0o700)
    state.create(used)
    if os.getuid() == 0:
        os.chown(theirs, 54_321, 54_321)
        with pytest.raises(StorageError, match="is another user's: set VAESVC_HOME"):
            state.create(theirs)
