"""How far it is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_EVERY_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where the adding of a set is: `done` of `total` (None: not known) in `unit`, and the seconds that are left."""

    stage: str
    done: int
    total: int | None
    unit: str
    seconds: float
    seconds_left: float | None

    @property
    def over(self) -> bool:
        """Return whether this stage is complete."""
        return self.total is not None and self.done >= self.total


StepProgress = Callable[[Step], None]


class Meter:
    """Counts one stage, and tells `progress` every fifth of a second, first and last."""

    def __init__(self, stage: str, total: int | None, unit: str, progress: StepProgress | None) -> None:
        self.stage, self.total, self.unit, self.progress = stage, total, unit, progress
        self.done = 0
        self._began = time.monotonic()
        self._told = 0.0

    def add(self, count: int) -> None:
        """Count `count` more."""
        self.at(self.done + count)

    def at(self, done: int) -> None:
        """Report that `done` are complete."""
        self.done = done
        now = time.monotonic()
        over = self.total is not None and done >= self.total
        if self.progress is None or (now - self._told < _EVERY_SECONDS and not over):
            return
        self._told = now
        seconds = now - self._began
        left = None if self.total is None or not done else seconds * (self.total - done) / done
        self.progress(
            Step(
                stage=self.stage,
                done=done,
                total=self.total,
                unit=self.unit,
                seconds=seconds,
                seconds_left=left,
            )
        )
