"""How fast a run trains."""

from __future__ import annotations

import time


class Speed:
    """Images per second of training alone, since the last log: evaluations and checkpoints stop the clock."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.restart()

    def restart(self) -> None:
        self._steps = 0
        self._seconds = 0.0
        self._since: float | None = time.perf_counter()  # None: paused

    def step(self) -> None:
        self._steps += 1

    def pause(self) -> None:
        self._seconds, self._since = self._running(), None

    def go_on(self) -> None:
        self._since = time.perf_counter()

    def images_per_second(self) -> float | None:
        return self._steps * self._batch_size / self._running() if self._steps else None

    def _running(self) -> float:
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)
