"""What trials leave on its way to storage, in one thread: of each trial the newest checkpoint, then how it ended."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from service.kinds.study.storage import StageStorage, TrialRecord
from service.queue.jobs import Checkpoint
from service.retry import patiently
from tuning.study import Outcome

T = TypeVar("T")

_PATIENCE_SECONDS = 900.0  # storage may be away this long before the pack fails


class TrialUploads:
    """The uploads of the trials of one process. A checkpoint that is replaced is deleted."""

    def __init__(self, storage: StageStorage, number: int, note: Callable[[str], None]) -> None:
        self.states: dict[str, str] = {}  # of the trials that have ended
        self._storage = storage
        self._number = number
        self._note = note
        self._checkpoints: dict[str, tuple[int, Path, Mapping[str, float]]] = {}  # waiting
        self._results: dict[str, Outcome] = {}  # waiting
        self._last: dict[str, Checkpoint] = {}  # the committed checkpoint of each trial
        self._changed = threading.Condition()
        self._closing = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()

    def resumed(self, trial: str, checkpoint: Checkpoint) -> None:
        """Note what the trial goes on from: its last checkpoint until it has written another."""
        self._last[trial] = checkpoint

    def checkpoint(self, trial: str, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        """Take over the directory; return at once."""
        with self._changed:
            replaced = self._checkpoints.pop(trial, None)
            self._checkpoints[trial] = (step, directory, metrics)
            self._changed.notify_all()
        if replaced is not None:
            shutil.rmtree(replaced[1], ignore_errors=True)

    def result(self, trial: str, outcome: Outcome) -> None:
        with self._changed:
            self._results[trial] = outcome
            self._changed.notify_all()

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Wait until everything is in storage. Raises what prevented it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self.check()

    def abandon(self) -> None:
        with self._changed:
            self._closing = True
            self._checkpoints.clear()
            self._results.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while self._next():
                pass
        except Exception as error:
            self._error = error

    def _next(self) -> bool:
        """Do one thing; return False when nothing more will come."""
        with self._changed:
            while not (self._checkpoints or self._results or self._closing):
                self._changed.wait()
            ready = next((trial for trial in self._results if trial not in self._checkpoints), None)
            if ready is None and not self._checkpoints:
                return False
            trial = ready or next(iter(self._checkpoints))
            outcome = self._results.pop(trial) if ready is not None else None
            waiting = self._checkpoints.pop(trial) if ready is None else None
        if outcome is not None:
            self._keep(trial, outcome)
        elif waiting is not None:
            self._store(trial, *waiting)
        return True

    def _store(self, trial: str, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        stored = self._patiently(
            trial, lambda: self._storage.put_checkpoint(trial, self._number, step, directory, _finite(metrics))
        )
        replaced, self._last[trial] = self._last.get(trial), stored
        shutil.rmtree(directory, ignore_errors=True)
        if replaced is not None:
            self._storage.delete(replaced.uri)

    def _keep(self, trial: str, outcome: Outcome) -> None:
        assert outcome.state != "missing"
        record = TrialRecord(
            state=outcome.state, value=outcome.value, error=outcome.error, steps=outcome.steps,
            metrics=dict(outcome.metrics), checkpoint=self._last.get(trial),
        )  # fmt: skip
        self._patiently(trial, lambda: self._storage.keep(trial, record))
        self.states[trial] = outcome.state

    def _patiently(self, trial: str, call: Callable[[], T]) -> T:
        return patiently(call, seconds=_PATIENCE_SECONDS, what=f"what trial {trial} has left", say=self._note)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
