"""Child processes that never outlive their parent, and scratch folders that never outlive their process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PREFIX = "vaesvc-run-"
_REAP_SECONDS = 5.0


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent ends, however it ends. To be called first thing in a child.

    parent: the parent's pid, as the parent knows it. If it is gone already, this process ends here.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


class Child:
    """A child in a process group of its own; its output is appended to `log`, its input is what `give` gives it."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Start it, from a thread that lives as long as the process: the kernel watches the thread that starts it."""
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, process_group=0
            )

    def give(self, order: bytes) -> None:
        """Write its whole input; a child that has ended takes none."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(order)

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit code: None while it runs; negative when a signal ended it."""
        return self._process.poll()

    def kill(self) -> None:
        """Send SIGKILL to the whole group, and wait until the child is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP_SECONDS)


def scratch(name: str) -> Path:
    """Make a new folder for this process, under the system's folder for temporary files.

    Sweeps those of processes that were killed before they could remove theirs.
    """
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{_PREFIX}*"):
        owner = re.match(rf"{_PREFIX}(\d+)-", left.name)
        if owner and not Path(f"/proc/{owner.group(1)}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-{name}-", dir=root))
