"""Whether this machine, or this process, was suspended: leases that ended meanwhile say nothing about their runners.

Two signs. CLOCK_BOOTTIME goes on while a machine sleeps and CLOCK_MONOTONIC does not: their distance grows by the time
of a suspension. A process that was frozen (SIGSTOP, a paused virtual machine) sees its rest between two ticks take
much longer than it asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SUSPENDED_SECONDS = 2.0  # the clocks' distance never changes otherwise
FROZEN_SECONDS = 5.0  # on a busy machine a process waits for its turn, but not so long


def _boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Waking:
    """A detector of suspensions of this machine or process: called at the start of every tick and at its end."""

    def __init__(
        self,
        rest_seconds: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        boottime: Callable[[], float] = _boottime,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Start the clocks. rest_seconds: between two ticks."""
        self._rest_seconds = rest_seconds
        self._monotonic, self._boottime, self._now = monotonic, boottime, now
        self._distance = boottime() - monotonic()
        self._rested_since: float | None = None
        self.woke: float | None = None  # seconds since 1970

    def tick(self) -> float:
        """Return the seconds that were lost since the last tick; 0 where nothing was."""
        distance = self._boottime() - self._monotonic()
        suspended, self._distance = distance - self._distance, distance
        rested = 0.0 if self._rested_since is None else self._monotonic() - self._rested_since - self._rest_seconds
        self._rested_since = None
        lost = (suspended if suspended > SUSPENDED_SECONDS else 0.0) + (rested if rested > FROZEN_SECONDS else 0.0)
        if lost:
            self.woke = self._now()
        return lost

    def rest(self) -> None:
        """Note that the tick is over."""
        self._rested_since = self._monotonic()
