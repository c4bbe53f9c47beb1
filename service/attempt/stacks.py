"""Where the processes of an attempt that hangs are: their stacks, into its log.

Every process of an attempt registers `tell_when_asked`. The runner finds those on its own machine by the attempt's
environment, or, where a process waited before the attempt came, by the folder in which it works: it bears the
attempt's name. Those on other machines are not asked. A process that is stopped (SIGSTOP) cannot answer; that it is
stopped is what there is to say.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from service.attempt.assignment import ATTEMPT, JOB_ID, AttemptAccess

SIGNAL = signal.SIGUSR2
ANSWER_SECONDS = 2.0  # for the answers to come to the log, through Ray
_CAUGHT = "SigCgt"  # of /proc/PID/status: the signals that a process handles, a bit each


def tell_when_asked() -> None:
    """Write the stacks of all threads of this process to its standard error at `SIGNAL`, also from within a call that
    does not return."""
    faulthandler.register(SIGNAL, file=sys.__stderr__ or sys.stderr, all_threads=True, chain=False)


def dump(access: AttemptAccess, note: Callable[[str], None]) -> None:
    """Note each process of the attempt on this machine, and ask it for its stacks. Waits for the answers."""
    asked = 0
    for process in _processes(access):
        try:
            name, state = " ".join(process.cmdline())[:120].strip() or process.name(), process.status()
            answers = _answers(process.pid)
            note(f"process {process.pid} ({name}) is {state}" + ("" if answers else "; it is not asked for its stacks"))
            if answers:
                process.send_signal(SIGNAL)
                asked += 1
        except psutil.Error:  # it ended
            continue
    if asked:
        time.sleep(ANSWER_SECONDS)


def _processes(access: AttemptAccess) -> list[psutil.Process]:
    processes = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            environment = process.environ()
            ours = (environment.get(JOB_ID), environment.get(ATTEMPT)) == (access.job_id, str(access.number))
            if ours or works_for(access.name, process.cwd()):
                processes.append(process)
        except (psutil.Error, OSError):  # another user's, or it ended
            continue
    return processes


def works_for(name: str, folder: str) -> bool:
    """Return whether a process that works in `folder` works for the attempt of this name: its gang's folder, or that
    of one of its trials, is called after it."""
    return any(part == name or part.startswith(f"{name}-") for part in Path(folder).parts)


def _answers(pid: int) -> bool:
    """Return whether the process handles the signal: any other would be ended by it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith(f"{_CAUGHT}:")), "0")
    return bool(int(caught, 16) >> (SIGNAL - 1) & 1)
