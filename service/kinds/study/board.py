"""Where a study's packs and its driver meet: an actor of the driver's Ray job that ends with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Failed:
    """What made a pack give up; starting its process again would not help."""

    error: str
    retryable: bool


class Board:
    """The board of a study: packs report how far their trials are and learn whether to stop; the driver reads it."""

    def __init__(self) -> None:
        self._stop = False
        self._trials: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._failed: Failed | None = None

    def report(self, stage: str, trials: Mapping[int, Mapping[str, Any]]) -> bool:
        """Note progress; return whether to write checkpoints and stop. trials: by number, step and total_steps of
        each."""
        for number, progress in trials.items():
            self._trials[stage, number] = progress
        return self._stop

    def fail(self, error: str, retryable: bool) -> None:
        """Note the error and stop the others too: the study cannot end well."""
        self._failed = self._failed or Failed(error=error, retryable=retryable)
        self._stop = True

    def stop(self) -> None:
        self._stop = True

    def read(self, stage: str) -> dict[int, Mapping[str, Any]]:
        """Return the stage's trials, as far as they have been reported."""
        return {number: progress for (at, number), progress in self._trials.items() if at == stage}

    def failed(self) -> Failed | None:
        return self._failed
