"""Python's garbage collector, told to look for garbage more rarely."""

from __future__ import annotations

import gc

OBJECTS = 20_000


def collect_rarely() -> None:
    """Look for garbage cycles after 20,000 new objects instead of 700; for processes of ours, first thing.

    Importing torch, Ray and MLflow makes half a million objects that stay; looking through them again and again took an
    eighth of the processor time of every start. Cycles are still found, later.
    """
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])
