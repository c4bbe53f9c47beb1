"""From a caller's memory to a file, and from there on, in threads: the caller waits for neither disk nor network.

    caller ── deque in memory ──▶ [spool] ── file ──▶ [metrics] ── log_batch ──▶ MLflow
                                                └───▶ [pictures] ── artifacts ──▶

The first thread writes what the caller said to a file, within milliseconds. The other two send it, in order, and try
again for ever while the server does not answer; pictures don't hold up metrics.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from service.tracking.delivery import GaveUp, Patience
from service.tracking.server import POINTS_PER_CALL, now_ms
from service.tracking.spool import Item, Kind, Metrics, Picture, Spool, encode

log = logging.getLogger(__name__)

QUEUE_LINES = 100_000  # in memory, only while the disk takes nothing
QUEUE_PICTURE_BYTES = 64 * 2**20
GATHER_SECONDS = 0.25  # points that come within this time go in one call
LOOK_SECONDS = 5.0  # and look anyway
DISK_PAUSE = 1.0  # seconds until a disk that took nothing is tried again

Deliver = Callable[[Sequence[Item], Patience], None]


class Outbox:
    """What is said, kept in one file until it is delivered.

    deliver: of each kind, what sends entries on; it raises GaveUp when there is no more time. begin: called first by
    the thread that sends metrics. most: points that are read at a time. gather_seconds: entries that come within this
    time are read together
    """

    def __init__(
        self,
        spool: Path,
        deliver: Mapping[Kind, Deliver],
        *,
        begin: Callable[[Patience], None] = lambda patience: None,
        most: Callable[[], int] = lambda: POINTS_PER_CALL,
        gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        self.dropped = 0  # lines that found no room: more than 0 only when the disk was full for long
        self.spool = Spool(spool)
        self.give_up = threading.Event()
        self._deliver = deliver
        self._begin = begin
        self._most = most
        self._gather_seconds = gather_seconds
        self._queue: deque[Item] = deque()
        self._png_in = 0  # bytes of pictures: said by the caller, and written by the spooler. Each has one writer.
        self._png_out = 0
        self._said = threading.Event()  # the queue may have something
        self._closing = threading.Event()  # nothing more will be said
        self._spooled = threading.Condition()  # the file has grown, or is complete
        self._complete = False  # all that was ever said is in the file
        targets = {"spool": self._keep, "metrics": self._send_metrics, "pictures": self._send_pictures}
        self._threads = [threading.Thread(target=t, name=f"mlflow-{n}", daemon=True) for n, t in targets.items()]

    def start(self) -> None:
        """Start to write and to send."""
        for thread in self._threads:
            thread.start()

    # --- the caller's side: no file, no network, and no lock that is held while one of them is used -----------------

    def metrics(self, step: int, metrics: Mapping[str, float], *, run: int = 0) -> None:
        """Say metrics of a step. run: whose, where the file has those of several."""
        if len(self._queue) >= QUEUE_LINES or self._closing.is_set():
            self.dropped += 1
            return
        values = {key: float(value) for key, value in metrics.items()}
        self._queue.append(Metrics(step=int(step), at=now_ms(), values=values, run=run))
        self._said.set()

    def picture(self, step: int, name: str, png: bytes, *, run: int = 0) -> None:
        """Say a picture of a step. run: see `metrics`."""
        if self._png_in - self._png_out + len(png) > QUEUE_PICTURE_BYTES or self._closing.is_set():
            self.dropped += 1
            return
        self._png_in += len(png)
        self._queue.append(Picture(step=int(step), at=now_ms(), name=name, png=bytes(png), run=run))
        self._said.set()

    def close(self, timeout_seconds: float) -> bool:
        """Deliver what is left, for at most so long. Return whether all that was ever said has been sent on."""
        deadline = time.monotonic() + timeout_seconds
        self._closing.set()
        self._said.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.give_up.set()
        self._wake()
        self._threads[0].join(2 * DISK_PAUSE)  # memory goes to the disk even when there was no time for the network
        if self.dropped:
            log.warning("%d lines of metrics or pictures found no room and are lost", self.dropped)
        return self._complete and self.spool.delivered()

    def abandon(self) -> None:
        """End the threads; nothing is waited for."""
        self.give_up.set()
        self._closing.set()
        self._said.set()
        self._wake()

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
                log.warning("metrics wait in memory: cannot write %s: %s", self.spool.path, error.strerror)
                if self.give_up.is_set():
                    self.dropped += len(self._queue)
                    return
                self.give_up.wait(DISK_PAUSE)
                self._said.set()
            self._wake()

    def _empty_queue(self) -> None:
        while self._queue:
            items = [self._queue[i] for i in range(min(len(self._queue), POINTS_PER_CALL))]
            self.spool.append(b"".join(encode(item) for item in items))
            for _ in items:
                self._queue.popleft()
            self._png_out += sum(len(item.png) for item in items if isinstance(item, Picture))

    # --- file to server ---------------------------------------------------------------------------------------------

    def _send_metrics(self) -> None:
        self._send("metrics", self._begin)

    def _send_pictures(self) -> None:
        self._send("picture", lambda patience: None)

    def _send(self, kind: Kind, begin: Callable[[Patience], None]) -> None:
        patience = Patience(self.give_up)
        try:
            begin(patience)
            for items in self._follow(kind):
                self._deliver[kind](items, patience)
        except GaveUp:
            return

    def _follow(self, kind: Kind) -> Iterator[list[Item]]:
        """Yield the spool's entries of one kind as they come, until it is complete or there is no more time. What was
        taken counts as delivered when the next is asked for."""
        at = self.spool.sent[kind]
        while not self.give_up.is_set():
            complete = self._complete  # read before the file
            items, end = self.spool.read(kind, at, self._most())
            if items:
                yield items
                self.spool.mark(kind, end)
            elif complete:
                return
            else:
                self._wait_for_more(end)
            at = end

    def _wait_for_more(self, end: int) -> None:
        with self._spooled:
            self._spooled.wait_for(
                lambda: self._complete or self.give_up.is_set() or self.spool.size() > end, timeout=LOOK_SECONDS
            )
        self._closing.wait(self._gather_seconds)

    def _wake(self) -> None:
        with self._spooled:
            self._spooled.notify_all()
