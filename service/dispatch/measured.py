"""What the dispatcher measures of itself, told to the database now and then: never at every tick."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

TELL_SECONDS = 10.0


class Measured:
    """Seconds of plans: the last one, and the longest since they were told last."""

    def __init__(self, tell: Callable[[Mapping[str, float]], None]) -> None:
        self._tell = tell
        self._most = 0.0
        self._next = 0.0

    @contextmanager
    def plan(self) -> Iterator[None]:
        """Measure the plan in this block, and tell it when it is time."""
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self._most = max(self._most, took)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + TELL_SECONDS
            self._tell({"plan_seconds": took, "plan_seconds_most": self._most})
            self._most = 0.0
