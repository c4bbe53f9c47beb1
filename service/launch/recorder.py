"""Metrics and pictures on their way to MLflow, whether or not it answers when the run starts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import VaesvcError

if TYPE_CHECKING:
    from service.tracking import RunWriter
    from service.wire import AttemptContext

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0


class Recorder:
    """Opens the job's run in the background; what is logged before that waits in memory. Never holds up a step."""

    def __init__(self, context: AttemptContext, spool: Path, say: Callable[[str], None]) -> None:
        self._context = context
        self._spool = spool
        self._say = say
        self._early: list[Callable[[RunWriter], None]] = []
        self._writer: RunWriter | None = None
        self._lock = threading.Lock()
        self._end = threading.Event()
        self.run_id: str | None = None
        self._thread = threading.Thread(target=self._open, name="mlflow", daemon=True)
        if context.mlflow_uri is not None:
            self._thread.start()

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        values = dict(metrics)
        self._send(lambda writer: writer.log_metrics(step, values))

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        self._send(lambda writer: writer.log_picture(step, name, png))

    def close(self, timeout_seconds: float) -> Path | None:
        """What MLflow did not take in time, as a file; None when it has everything."""
        if self._context.mlflow_uri is None:
            return None
        self._end.set()
        self._thread.join(timeout_seconds)
        if self._writer is None:
            self._say("MLflow never answered: the metrics of this attempt are not there")
            return None
        return self._writer.close(timeout_seconds)

    def _send(self, log: Callable[[RunWriter], None]) -> None:
        if self._context.mlflow_uri is None:
            return
        with self._lock:
            if self._writer is None:
                self._early.append(log)
                return
        log(self._writer)

    def _open(self) -> None:
        from service.tracking import RunWriter, open_run

        assert self._context.mlflow_uri is not None
        pause = 0.0
        while not self._end.wait(pause) or pause == 0.0:
            try:
                run_id = open_run(self._context.mlflow_uri, self._context.job, epoch=self._context.epoch)
            except VaesvcError as error:
                if pause == 0.0:
                    self._say(f"metrics wait: {error}")
                pause = min(max(2 * pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
                continue
            writer = RunWriter(self._context.mlflow_uri, run_id, self._spool)
            with self._lock:
                for log in self._early:
                    log(writer)
                self._early.clear()
                self._writer = writer
                self.run_id = run_id
            return
