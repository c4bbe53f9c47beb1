"""The command line, and programs of the tests, in processes that are forked from one that has the slow imports behind
it.

What a command does, prints and returns is what it is in a process that begins from nothing, which spends two or three
seconds on torch first. What imports do is looked at in such a process: `command.anew`.

This module is imported by the tests, and run by the process that is forked.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn

VAESVC = Path(sys.executable).parent / "vaesvc"
ROOT = Path(__file__).resolve().parent.parent
MESSAGE_BYTES = 2**18
DESCRIPTORS = 4  # that a request comes with: stdin, stdout, stderr, and where its pid and status are written
STATUS_BYTES = 8
PATH = "PYTHONPATH"
COMMANDS = (  # what commands import
    "_vaesvc", "service.cli.main", "service.client", "service.kinds", "vae_models.training.loop",
    "vae_models.training.pictures", "vae_models.trained", "tuning.local", "service.api", "service.serving",
    "service.dispatch.dispatcher",
)  # fmt: skip


Stream = int | IO[str] | IO[bytes] | None  # as `subprocess.Popen` takes them


class Forked:
    """A process that was forked, with what tests need of `subprocess.Popen`'s methods, text in its pipes."""

    def __init__(self, args: list[str], report: IO[bytes], pipes: Mapping[str, IO[str]]) -> None:
        self.args = args
        self.stdin, self.stdout, self.stderr = (pipes.get(name) for name in ("stdin", "stdout", "stderr"))
        self.returncode: int | None = None
        self._report = report
        self.pid = self._read()

    def poll(self) -> int | None:
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status once it has ended. Raise TimeoutExpired after so many seconds."""
        if self._look(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        """Return what is left to read of its stdout and stderr, each to its end, once it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        texts = {"stdout": "", "stderr": ""}

        def read(name: str, stream: IO[str]) -> None:
            with stream:
                texts[name] = stream.read()

        streams = {name: getattr(self, name) for name in texts}
        readers = [
            threading.Thread(target=read, args=(name, stream), daemon=True)
            for name, stream in streams.items()
            if stream is not None and not stream.closed
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None and not self.stdin.closed:
            with self.stdin:
                self.stdin.write(input or "")
        for reader in readers:
            reader.join(_left(deadline))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.wait(_left(deadline))
        return texts["stdout"], texts["stderr"]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, seconds: float | None) -> int | None:
        if self.returncode is None:
            ready = select.poll()
            ready.register(self._report, select.POLLIN)
            if ready.poll(None if seconds is None else 1000 * seconds):
                with self._report:
                    self.returncode = os.waitstatus_to_exitcode(self._read())
        return self.returncode

    def _read(self) -> int:
        read = self._report.read(STATUS_BYTES)
        if len(read) < STATUS_BYTES:
            raise RuntimeError("the process that is forked has ended")
        return int.from_bytes(read, "little")


def _descriptor(given: Stream, number: int) -> int:
    if given is None:  # that of the tests' process
        return number
    return given if isinstance(given, int) else given.fileno()


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class Forker:
    """The process that is forked, started with the first program; it ends with the tests' process."""

    def __init__(self, main: str, preloaded: Sequence[str] = ()) -> None:
        """Prepare it. main: of every program, MODULE:FUNCTION. preloaded: modules to import besides."""
        self._modules = (*preloaded, main.partition(":")[0])
        self._main = main
        self._lock = threading.Lock()
        self._server: socket.socket | None = None

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.PIPE,
        stderr: Stream = subprocess.PIPE,
        folder: Path | None = None,
        code: str | None = None,
    ) -> Forked:
        """As `subprocess.Popen` of this command line. folder: that it begins in; default: this process's. code: what is
        run instead of main, as by `python -c`."""
        request = {"argv": list(command), "environment": dict(environment), "folder": str(folder or os.getcwd())}
        request |= {"code": code}
        told, telling = os.pipe()
        theirs, pipes = [telling], {}
        try:
            for number, (name, given) in enumerate({"stdin": stdin, "stdout": stdout, "stderr": stderr}.items()):
                if given == subprocess.PIPE:
                    reads, writes = os.pipe()
                    theirs.insert(number, writes if number else reads)
                    pipes[name] = os.fdopen(reads if number else writes, "r" if number else "w", encoding="utf-8")
                elif given == subprocess.DEVNULL:
                    theirs.insert(number, os.open(os.devnull, os.O_RDWR))
                else:
                    theirs.insert(number, os.dup(_descriptor(given, number)))
            socket.send_fds(self._started(), [json.dumps(request).encode()], theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return Forked(list(command), os.fdopen(told, "rb", buffering=0), pipes)

    def _started(self) -> socket.socket:
        with self._lock:
            if self._server is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    arguments = [str(theirs.fileno()), self._main, *self._modules]
                    subprocess.Popen(
                        [sys.executable, str(Path(__file__).resolve()), *arguments],
                        env=os.environ | {"OMP_NUM_THREADS": "1"}, pass_fds=[theirs.fileno()],
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    )  # fmt: skip
                self._server = ours
            return self._server


def suits(environment: Mapping[str, str]) -> bool:
    """Whether Python begins in it as here: what is set for Python itself counts before anything is imported. Folders to
    import from can be had later."""
    names = {name for name in (*environment, *os.environ) if name.startswith(("PYTHON", "LD_"))} - {PATH}
    return all(environment.get(name) == os.environ.get(name) for name in names)


def _serve(requests: socket.socket) -> str | None:
    """Fork for each request. Return in the processes that run a program, with the request's code; end when nobody can
    ask any more."""
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
        for stream in streams:  # whoever reads them reads to the program's end
            os.close(stream)
        os.write(report, pid.to_bytes(STATUS_BYTES, "little"))
        os.write(report, os.waitpid(pid, 0)[1].to_bytes(STATUS_BYTES, "little"))
        os._exit(0)
    os.close(report)
    # shells start what runs in the background with SIGINT ignored, and children inherit that: tests run there, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    request = json.loads(message)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.path[1:1] = [folder for folder in os.environ.get(PATH, "").split(os.pathsep) if folder]
    os.chdir(request["folder"])
    sys.argv = request["argv"]
    code: str | None = request["code"]
    return code


def _main(descriptor: str, main: str, *modules: str) -> None:
    sys.path[0] = str(VAESVC.parent)  # as of the script; before it was the tests' folder
    if not main.startswith("_vaesvc:"):
        sys.path.insert(0, str(ROOT))  # programs of the tests
    for name in modules:
        import_module(name)
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"a fork would copy what {len(threads)} threads are doing"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for a program is not waited for
    gc.freeze()  # nothing of it is garbage
    with socket.socket(fileno=int(descriptor)) as requests:
        code = _serve(requests)
    _end(_program(main, code))


def _program(main: str, code: str | None) -> int:
    """Run it. Return its exit status."""
    module, _, function = main.partition(":")
    try:
        if code is None:
            getattr(import_module(module), function)()
        else:
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
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
    _main(*sys.argv[1:])
