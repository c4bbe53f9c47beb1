"""Where a study's packs and its driver meet: an actor of the driver's Ray job that ends with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.kinds.study.orders import TrialOrder
from tuning.work_queue import WorkQueue


@dataclass(frozen=True, kw_only=True)
class Failed:
    """What made a pack give up; starting its process again would not help."""

    error: str
    retryable: bool


class Board:
    """The board of a study: packs take their trials from it, report how far they are and learn whether to stop; the
    driver fills and reads it.
    """

    def __init__(self) -> None:
        self._stop = False
        self._trials: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._failed: Failed | None = None
        self._queue = WorkQueue[TrialOrder]([], 0)
        self._drained: frozenset[str] = frozenset()

    def offer(self, units: Sequence[Sequence[Sequence[TrialOrder]]], packs: int) -> None:
        """Put up what is to be trained now, by data set: see `WorkQueue`."""
        self._queue = WorkQueue(units, packs)

    def taken(self, pack: int) -> list[TrialOrder]:
        """Return what was handed to the pack, whose process may have died."""
        return self._queue.taken(pack)

    def take(self, pack: int, most: int, running: int, node: str = "") -> list[TrialOrder]:
        """Hand the pack the next trials: see `WorkQueue.take`. node: Ray's id of the one that it is on; on one that is
        drained none begins."""
        return [] if self._stop or node in self._drained else self._queue.take(pack, most, running)

    def keep_away(self, drained: Collection[str]) -> None:
        """Let no trial begin on these nodes, by Ray's ids, any more, and on all others."""
        self._drained = frozenset(drained)

    def drained(self) -> list[str]:
        """Return the nodes on which no trial begins."""
        return sorted(self._drained)

    def closed(self, node: str) -> bool:
        """Return whether no trial begins on this node: the study stops, or the node is drained."""
        return self._stop or node in self._drained

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
