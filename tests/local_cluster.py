"""A cluster of processes on this machine behind the port of `service.dispatch.ray_jobs.RayCluster`: starts a job in a
few milliseconds where Ray takes seconds. Both pass tests/contract/test_cluster.py.

Its state is a folder, so that several dispatcher processes share one cluster, as they share Ray's head:

    <id>/order.json   written by whoever submits; the folder appears whole, and only one submitter can make it
    <id>/log started exit     by the one agent, which starts the processes
    <id>/stop         by whoever stops it
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from service.dispatch.ray_jobs import RayJob, RayNode, RayState

ROOT = Path(__file__).resolve().parent.parent
_LOOK_SECONDS = 0.02
_KILL_SECONDS = 3.0  # after SIGTERM, as Ray does it


class LocalCluster:
    """What a dispatcher sees of it."""

    def __init__(self, folder: Path, nodes: tuple[Mapping[str, float], ...] = ({"CPU": 4.0},)) -> None:
        self.address = f"file://{folder}"
        self._folder = folder
        self._nodes = nodes

    def nodes(self) -> tuple[RayNode, ...]:
        return tuple(RayNode(id=str(i), resources=dict(each), head=not i) for i, each in enumerate(self._nodes))

    def places(self) -> dict[str, frozenset[str]]:
        """All on the first node, as long as they run."""
        return {name: frozenset("0") for name, job in self.jobs().items() if job.state is RayState.RUNNING}

    def jobs(self) -> dict[str, RayJob]:
        return {path.name: self._job(path) for path in self._folder.iterdir() if not path.name.startswith(".")}

    def submit(
        self,
        submission_id: str,
        entrypoint: str,
        *,
        env: Mapping[str, str],
        metadata: Mapping[str, str],
        packages: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Start it on this machine, without packages: what comes with them is tested on Ray."""
        assert not packages
        made = Path(tempfile.mkdtemp(prefix=".", dir=self._folder))
        order = {"entrypoint": entrypoint, "env": dict(env), "metadata": dict(metadata)}
        (made / "order.json").write_text(json.dumps(order))
        try:
            made.rename(self._folder / submission_id)
        except OSError:  # it is there already, and not empty
            shutil.rmtree(made)

    def stop(self, submission_id: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / submission_id / "stop").touch()

    def delete(self, submission_id: str) -> None:
        shutil.rmtree(self._folder / submission_id, ignore_errors=True)

    def log(self, submission_id: str) -> str:
        return _text(self._folder / submission_id / "log") or ""

    def _job(self, path: Path) -> RayJob:
        code = _text(path / "exit")
        state = RayState.RUNNING if (path / "started").exists() else RayState.PENDING
        if code is not None:
            state = RayState.SUCCEEDED if code == "0" else RayState.FAILED
            state = RayState.STOPPED if (path / "stop").exists() else state
        return RayJob(
            submission_id=path.name,
            state=state,
            message="".join(self.log(path.name).splitlines(keepends=True)[-20:]) if state is RayState.FAILED else "",
            exit_code=None if code is None else int(code),
            metadata=json.loads((path / "order.json").read_text())["metadata"],
        )


class NoDrains:
    """None of its nodes is ever drained."""

    def read(self) -> Mapping[str, float | None]:
        return {}


class Agent:
    """Starts and ends the processes, and lives in one of its own (`agent`): it forks, so no thread may be about it.

    run: does what an entry point says, in a child of this process that has its modules loaded already.
    """

    def __init__(self, folder: Path, run: Callable[[str], None]) -> None:
        self._folder = folder
        self._execute = run
        self._running: dict[str, int] = {}
        self._known: set[str] = set()
        self._stopped: dict[str, float] = {}  # when SIGTERM was sent

    def run(self) -> None:
        """Until stdin is closed."""
        while not select.select([sys.stdin], [], [], _LOOK_SECONDS)[0]:
            for path in self._folder.iterdir():
                if not path.name.startswith(".") and path.name not in self._known:
                    self._known.add(path.name)
                    self._start(path)
            for name, pid in list(self._running.items()):
                self._look(name, pid)
        for pid in self._running.values():
            _signal(pid, signal.SIGKILL)

    def _start(self, path: Path) -> None:
        order = json.loads((path / "order.json").read_text())
        log = os.open(path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        pid = os.fork()
        if pid == 0:
            self._child(order, log)
        os.close(log)
        self._running[path.name] = pid
        (path / "started").touch()

    def _child(self, order: Mapping[str, Any], log: int) -> NoReturn:
        code = 1
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ.update(order["env"])
            self._execute(order["entrypoint"])
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _look(self, name: str, pid: int) -> None:
        path = self._folder / name
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            del self._running[name]
            partial = path / ".exit"
            partial.write_text(str(os.waitstatus_to_exitcode(status)))
            partial.rename(path / "exit")
        elif (path / "stop").exists():
            if name not in self._stopped:
                self._stopped[name] = time.monotonic()
                _signal(pid, signal.SIGTERM)
            elif time.monotonic() - self._stopped[name] > _KILL_SECONDS:
                _signal(pid, signal.SIGKILL)


def shell(entrypoint: str) -> None:
    os.execv("/bin/sh", ["sh", "-c", entrypoint])


@contextlib.contextmanager
def agent(folder: Path, command: Sequence[str] = (sys.executable, "-m", "tests.local_cluster")) -> Iterator[None]:
    """The agent's process over `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([*command, str(folder)], cwd=ROOT, stdin=subprocess.PIPE)
    try:
        yield
        assert process.poll() is None
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        finally:
            process.kill()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    Agent(Path(sys.argv[1]), shell).run()
