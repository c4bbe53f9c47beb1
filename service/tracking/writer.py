"""RunWriter: logs to MLflow without ever holding up the caller, and without losing or doubling a point."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from service.errors import NotFoundError, UnavailableError
from service.storage_errors import public
from service.tracking.delivery import GaveUp, Known, Patience, deliver_metrics, deliver_picture
from service.tracking.outbox import GATHER_SECONDS, Outbox
from service.tracking.spool import Item, Metrics, Picture


class RunWriter:
    """Metrics and pictures of one run.

    run:   the run's id, or a function that opens it: it is called again until it succeeds, in the background
    spool: the file that keeps what is not delivered. If an earlier writer of the same run left one, it is delivered
           first. One writer at a time.

    gather_seconds: points that come within this time go in one call; longer where many runs share a server.

    A metric's steps must rise: a point at a step that the server already has for that key is taken for a repetition
    (training that went on from a checkpoint comes by the same steps again) and dropped.
    """

    def __init__(
        self, mlflow_uri: str, run: str | Callable[[], str], spool: Path, *, gather_seconds: float = GATHER_SECONDS
    ) -> None:
        self._uri = mlflow_uri
        self._open: Callable[[], str] = run if callable(run) else lambda: run
        self.run_id: str | None = None if callable(run) else run
        self._opened = threading.Event()
        self._known: Known | None = None
        self._outbox = Outbox(
            spool, {"metrics": self._send_metrics, "picture": self._send_pictures}, begin=self._begin,
            gather_seconds=gather_seconds,
        )  # fmt: skip
        self._outbox.start()

    @property
    def dropped(self) -> int:
        """Return how many lines found no room: more than 0 only when the disk was full for long."""
        return self._outbox.dropped

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._outbox.metrics(step, metrics)

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        self._outbox.picture(step, name, png)

    def close(self, timeout_seconds: float) -> Path | None:
        """Deliver what is left, for at most so long. Return None when the server has everything, else the spool's path:
        `send_spool` delivers it later."""
        if self._outbox.close(timeout_seconds):
            self._outbox.spool.remove()
            return None
        return self._outbox.spool.path

    def _begin(self, patience: Patience) -> None:
        run_id = self.run_id = patience(self._open)
        self._opened.set()
        self._known = patience(lambda: Known(self._uri, run_id, self._outbox.spool.recovered))

    def _send_metrics(self, items: Sequence[Item], patience: Patience) -> None:
        assert self.run_id is not None
        assert self._known is not None
        metrics = [item for item in items if isinstance(item, Metrics)]
        deliver_metrics(self._uri, self.run_id, self._known, patience, metrics)

    def _send_pictures(self, items: Sequence[Item], patience: Patience) -> None:
        while not self._opened.wait(GATHER_SECONDS):
            if self._outbox.give_up.is_set():
                raise GaveUp
        assert self.run_id is not None
        for item in items:
            if isinstance(item, Picture):
                deliver_picture(self._uri, self.run_id, patience, item)


def send_spool(mlflow_uri: str, run_id: str, path: Path, timeout_seconds: float = 120.0) -> None:
    """Deliver what an earlier writer left at `path`, and remove it. What the server has already is not doubled.

    Raises UnavailableError if it did not get through in time: the file is still there, so call again.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no spool {path}")
    if RunWriter(mlflow_uri, run_id, path).close(timeout_seconds) is not None:
        raise UnavailableError(
            f"MLflow at {public(mlflow_uri)} did not take all of {path} within {timeout_seconds:g} s: call again later"
        )
