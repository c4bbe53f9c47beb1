"""The processes of a job on the embedded stack: found by what they are, killed, and slowed down."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil

from service.attempt.assignment import JOB_ID
from tests import real_jobs
from tests.servers import wait_for

GONE_SECONDS = 45


def processes(job_id: str, matches: Callable[[str], bool]) -> list[psutil.Process]:
    """Return those of this job, by command line: its environment has the job, or it works in a folder of the job."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline()).strip()
            if matches(command) and (process.environ().get(JOB_ID) == job_id or job_id in process.cwd()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill(job_id: str, what: str, matches: Callable[[str], bool]) -> None:
    found = processes(job_id, matches)
    assert found, f"the job has no {what}"
    for process in found:
        os.kill(process.pid, signal.SIGKILL)


def is_worker(command: str) -> bool:
    return command.startswith("ray::GangWorker")


def is_runner(command: str) -> bool:
    return command.endswith("-m service.attempt.runner") and not command.startswith("/bin/sh")


def is_anything_of_it(command: str) -> bool:
    """But Ray's idle processes, and the one helper that a cluster makes once and keeps."""
    kept = ("ray::IDLE", "ray::_AutoscalingCoordinatorActor")
    ours = "service.attempt.runner" in command or "service.attempt.driver" in command
    return ours or (command.startswith("ray::") and not command.startswith(kept))


def gone(job_id: str, matches: Callable[[str], bool]) -> None:
    every = real_jobs.LOOK_SECONDS
    wait_for(lambda: not processes(job_id, matches), GONE_SECONDS, "something of the job lives on", every=every)


def working(folder: Path) -> list[psutil.Process]:
    """Return the processes that work below this folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


@contextlib.contextmanager
def slowed(processes: Callable[[], list[psutil.Process]]) -> Iterator[None]:
    """Let these processes have a tenth of their time: what watches them keeps up, and others have the processors."""
    end = threading.Event()

    def slow_down() -> None:
        known: set[psutil.Process] = set()
        while not end.is_set():
            _tell(known, psutil.Process.suspend)
            known |= set(processes())  # the look takes longer than what they are given, and they rest meanwhile
            _tell(known, psutil.Process.suspend)
            end.wait(0.45)
            _tell(known, psutil.Process.resume)
            end.wait(0.05)

    thread = threading.Thread(target=slow_down, name="slow down")
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _tell(processes: Iterable[psutil.Process], what: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            what(process)
