"""RunWriter: logs to MLflow without ever holding up the caller, and without losing or doubling a point.

    caller ── deque in memory ──▶ [spool] ── file ──▶ [metrics] ── log_batch ──▶ MLflow
                                                └───▶ [pictures] ── artifacts ──▶

Three threads. The first writes what the caller said to a file, within milliseconds. The other two send it, in order,
and try again for ever while the server does not answer; pictures don't hold up metrics.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from service.errors import NotFoundError, UnavailableError
from service.storage_errors import public
from service.tracking.delivery import GaveUp, Known, Patience, deliver_metrics, deliver_picture
from service.tracking.server import POINTS_PER_CALL, now_ms
from service.tracking.spool import Kind, Metrics, Picture, Spool, encode

log = logging.getLogger(__name__)

QUEUE_LINES = 100_000  # in memory, only while the disk takes nothing
QUEUE_PICTURE_BYTES = 64 * 2**20
GATHER_SECONDS = 0.25  # points that come within this time go in one call
LOOK_SECONDS = 5.0  # and look anyway
DISK_PAUSE = 1.0  # seconds until a disk that took nothing is tried again


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
        self._gather_seconds = gather_seconds
        self._open: Callable[[], str] = run if callable(run) else lambda: run
        self.run_id: str | None = None if callable(run) else run
        self.dropped = 0  # lines that found no room: more than 0 only when the disk was full for long
        self._spool = Spool(spool)
        self._queue: deque[Metrics | Picture] = deque()
        self._png_in = 0  # bytes of pictures: said by the caller, and written by the spooler. Each has one writer.
        self._png_out = 0
        self._said = threading.Event()  # the queue may have something
        self._closing = threading.Event()  # nothing more will be said
        self._give_up = threading.Event()
        self._spooled = threading.Condition()  # the file has grown, or is complete
        self._complete = False  # all that was ever said is in the file
        self._opened = threading.Event()
        targets = {"spool": self._keep, "metrics": self._send_metrics, "pictures": self._send_pictures}
        self._threads = [threading.Thread(target=t, name=f"mlflow-{n}", daemon=True) for n, t in targets.items()]
        for thread in self._threads:
            thread.start()

    # --- the caller's side: no file, no network, and no lock that is held while one of them is used -----------------

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        if len(self._queue) >= QUEUE_LINES or self._closing.is_set():
            self.dropped += 1
            return
        values = {key: float(value) for key, value in metrics.items()}
        self._queue.append(Metrics(step=int(step), at=now_ms(), values=values))
        self._said.set()

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        if self._png_in - self._png_out + len(png) > QUEUE_PICTURE_BYTES or self._closing.is_set():
            self.dropped += 1
            return
        self._png_in += len(png)
        self._queue.append(Picture(step=int(step), at=now_ms(), name=name, png=bytes(png)))
        self._said.set()

    def close(self, timeout_seconds: float) -> Path | None:
        """Deliver what is left, for at most so long. Return None when the server has everything, else the spool's path:
        `send_spool` delivers it later."""
        deadline = time.monotonic() + timeout_seconds
        self._closing.set()
        self._said.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._give_up.set()
        self._wake()
        self._threads[0].join(2 * DISK_PAUSE)  # memory goes to the disk even when there was no time for the network
        if self.dropped:
            log.warning("%d lines of metrics or pictures found no room and are lost", self.dropped)
        if self._complete and self._spool.delivered():
            self._spool.remove()
            return None
        return self._spool.path

    # --- memory to file ---------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._complete:
            self._said.wait()
            self._said.clear()
            closing = self._closing.is_set()  # read before the queue is emptied: after it is set nothing comes in
            try:
                self._empty_queue()
                self._complete = closing
            except OSError as error:
                log.warning("metrics wait in memory: cannot write %s: %s", self._spool.path, error.strerror)
                if self._give_up.is_set():
                    self.dropped += len(self._queue)
                    return
                self._give_up.wait(DISK_PAUSE)
                self._said.set()
            self._wake()

    def _empty_queue(self) -> None:
        while self._queue:
            items = [self._queue[i] for i in range(min(len(self._queue), POINTS_PER_CALL))]
            self._spool.append(b"".join(encode(item) for item in items))
            for _ in items:
                self._queue.popleft()
            self._png_out += sum(len(item.png) for item in items if isinstance(item, Picture))

    # --- file to server ---------------------------------------------------------------------------------------------

    def _send_metrics(self) -> None:
        patience = Patience(self._give_up)
        try:
            run_id = self.run_id = patience(self._open)
            self._opened.set()
            known = patience(lambda: Known(self._uri, run_id, self._spool.recovered))
            for items in self._follow("metrics"):
                metrics = [item for item in items if isinstance(item, Metrics)]
                deliver_metrics(self._uri, run_id, known, patience, metrics)
        except GaveUp:
            return

    def _send_pictures(self) -> None:
        patience = Patience(self._give_up)
        try:
            while not self._opened.wait(GATHER_SECONDS):
                if self._give_up.is_set():
                    return
            run_id = self.run_id
            assert run_id is not None
            for items in self._follow("picture"):
                for item in items:
                    if isinstance(item, Picture):
                        deliver_picture(self._uri, run_id, patience, item)
        except GaveUp:
            return

    def _follow(self, kind: Kind) -> Iterator[list[Metrics | Picture]]:
        """Yield the spool's entries of one kind as they come, until it is complete or there is no more time. What was
        taken counts as delivered when the next is asked for."""
        at = self._spool.sent[kind]
        while not self._give_up.is_set():
            complete = self._complete  # read before the file
            items, end = self._spool.read(kind, at, POINTS_PER_CALL)
            if items:
                yield items
                self._spool.mark(kind, end)
            elif complete:
                return
            else:
                self._wait_for_more(end)
            at = end

    def _wait_for_more(self, end: int) -> None:
        with self._spooled:
            self._spooled.wait_for(
                lambda: self._complete or self._give_up.is_set() or self._spool.size() > end, timeout=LOOK_SECONDS
            )
        self._closing.wait(self._gather_seconds)

    def _wake(self) -> None:
        with self._spooled:
            self._spooled.notify_all()


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
