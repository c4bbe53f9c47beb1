"""Python's garbage collector, told to look for garbage more rarely."""

from __future__ import annotations

import atexit
import gc

OBJECTS = 20_000


def collect_rarely() -> None:
    """Look for garbage cycles after 20,000 new objects instead of 700; for processes of ours, first thing.

    Importing torch, Ray and MLflow makes half a million objects that stay; looking through them again and again took an
    eighth of the processor time of every start. Cycles are still found, later. At the end, where Python looks through
    all of them several times, what is there is left to the operating system, as everything else is.
    """
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)
