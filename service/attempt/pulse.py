"""How long ago the training loop came by: how a hang is told from a long step."""

from __future__ import annotations

import time
from collections.abc import Callable

from service.wire import Pulse


class Heart:
    """Beats whenever the loop comes by, about once a second or step, in evaluations too."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: float | None = None
        self._longest = 0.0  # seconds between two beats
        self._over = False

    def beat(self) -> None:
        """Note that the loop came by."""
        now = self._clock()
        if self._last is not None:
            self._longest = max(self._longest, now - self._last)
        self._last = now

    def rest(self) -> None:
        """Note that the loop is over: it comes by no more."""
        self._over = True

    def read(self) -> Pulse:
        """Return the pulse. It is not watched before the loop has come by twice: the first step may compile, or load
        data."""
        if self._over or self._last is None or self._longest == 0.0:
            return Pulse(watched=False)
        return Pulse(idle_seconds=max(0.0, self._clock() - self._last), usual_seconds=self._longest)
