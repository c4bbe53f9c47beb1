"""The command line in processes that are forked from one that has the slow imports behind it.

What a command does, prints and returns is what it is in a process that begins from nothing, which spends two or three
seconds on torch first. What imports do, signals and terminals are looked at in such processes: `command.anew`, `start`.

This module is imported by the tests, and run by the process that is forked.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

VAESVC = Path(sys.executable).parent / "vaesvc"
MESSAGE_BYTES = 2**18
DESCRIPTORS = 4  # that a request comes with: stdin, stdout, stderr, and where its pid and status are written
STATUS_BYTES = 8
PRELOADED = (
    "_vaesvc", "service.cli.main", "service.client", "service.kinds", "vae_models.training.loop",
    "vae_models.training.pictures", "vae_models.trained", "tuning.local",
)  # fmt: skip


class Forker:
    """The process that is forked, started with the first command; it ends with the tests' process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: socket.socket | None = None

    def run(
        self, arguments: list[str], environment: dict[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` of `vaesvc` with captured text and no input. Raise its TimeoutExpired after so long."""
        command = [str(VAESVC), *arguments]
        request = json.dumps({"argv": command, "environment": environment, "folder": os.getcwd()}).encode()
        told, telling = os.pipe()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, open(os.devnull) as nothing:
            with open(told, "rb", buffering=0) as report:
                try:
                    given = [nothing.fileno(), out.fileno(), err.fileno(), telling]
                    socket.send_fds(self._started(), [request], given)
                finally:
                    os.close(telling)
                status = self._status(report.fileno(), command, seconds)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), *texts)

    def _started(self) -> socket.socket:
        with self._lock:
            if self._server is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    subprocess.Popen(
                        [sys.executable, str(Path(__file__).resolve()), str(theirs.fileno())],
                        env=os.environ | {"OMP_NUM_THREADS": "1"}, pass_fds=[theirs.fileno()],
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    )  # fmt: skip
                self._server = ours
            return self._server

    @staticmethod
    def _status(report: int, command: list[str], seconds: float) -> int:
        deadline, pid = time.monotonic() + seconds, None
        os.set_blocking(report, False)
        received = b""
        while len(received) < 2 * STATUS_BYTES:
            try:
                part = os.read(report, 2 * STATUS_BYTES)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    if pid is not None:
                        os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(command, seconds) from None
                time.sleep(0.005)
                continue
            if not part:
                raise RuntimeError("the process that is forked for commands has ended")
            received += part
            pid = int.from_bytes(received[:STATUS_BYTES], "little") if len(received) >= STATUS_BYTES else None
        return int.from_bytes(received[STATUS_BYTES:], "little")


def suits(environment: dict[str, str]) -> bool:
    """Whether Python begins in it as here: what is set for Python itself counts before anything is imported."""
    names = {name for name in (*environment, *os.environ) if name.startswith(("PYTHON", "LD_"))}
    return all(environment.get(name) == os.environ.get(name) for name in names)


def _serve(requests: socket.socket) -> None:
    """Fork for each request. Return in the processes that run a command; end when nobody can ask any more."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MESSAGE_BYTES, DESCRIPTORS)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    requests.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, report = descriptors
    pid = os.fork()
    if pid != 0:  # waits for it
        os.write(report, pid.to_bytes(STATUS_BYTES, "little"))
        os.write(report, os.waitpid(pid, 0)[1].to_bytes(STATUS_BYTES, "little"))
        os._exit(0)
    os.close(report)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    request = json.loads(message)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["folder"])
    sys.argv = request["argv"]


def _main() -> None:
    sys.path[0] = str(VAESVC.parent)  # as of the script; before it was the tests' folder
    from importlib import import_module

    for name in PRELOADED:
        import_module(name)
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"a fork would copy what {len(threads)} threads are doing"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for a command is not waited for
    gc.freeze()  # nothing of it is garbage
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        _serve(requests)
    _end(_command())


def _command() -> int:
    """Run the command. Return its exit status."""
    from _vaesvc import main

    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
    except BaseException:
        traceback.print_exc()
    else:
        return 0
    return 1


def _end(status: int) -> NoReturn:
    """End as Python does, but for taking apart every module, which takes a second where torch is among them."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    _main()
