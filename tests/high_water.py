"""The memory of this process, as Linux counts it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def is_known() -> bool:
    """Whether the high-water mark can be set back, as Linux can."""
    return os.access(CLEAR, os.W_OK)


def grown_by(work: Callable[[], object]) -> float:
    """MiB that the process has at most while `work` runs, beyond what it has when it begins."""
    CLEAR.write_text("5")  # the mark falls to what is resident
    before = _mib("VmRSS")
    work()
    return _mib("VmHWM") - before


def _mib(name: str) -> float:
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(name)) / 1024
