"""PackWriter: several runs of one process logged by one file and one set of threads.

What all lanes of a pack say within a moment is one append to the file, and one reading of it. A call to MLflow takes
points of one run, so each run's go in a call of their own. The runs are opened in the background, a few at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from service.errors import UsageError
from service.tracking.delivery import GaveUp, Known, Patience, deliver_metrics, deliver_picture
from service.tracking.outbox import GATHER_SECONDS, Outbox
from service.tracking.server import POINTS_PER_CALL
from service.tracking.spool import Item, Metrics, Picture

log = logging.getLogger(__name__)

OPENERS = 8  # runs that are opened side by side


class LaneWriter:
    """The metrics and pictures of one run of a pack. `run_id` is None until it is open."""

    def __init__(self, outbox: Outbox, number: int, open_run: Callable[[], str]) -> None:
        self.run_id: str | None = None
        self.number = number
        self.open_run = open_run
        self.refused = False  # the server took it for our mistake: nothing of it can be delivered now
        self.known: Known | None = None
        self._outbox = outbox
        self._opened = threading.Event()

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._outbox.metrics(step, metrics, run=self.number)

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        self._outbox.picture(step, name, png, run=self.number)

    def open(self, patience: Patience) -> None:
        """Open the run, for as long as it takes. Raises GaveUp."""
        try:
            self.run_id = patience(self.open_run)
        except UsageError as error:
            self.refused = True
            log.warning("a run is refused, and its metrics wait: %s", error)
        self._opened.set()

    def opened(self, give_up: threading.Event) -> str | None:
        """Return the run's id as soon as it is open; None where it is refused. Raises GaveUp."""
        while not self._opened.wait(GATHER_SECONDS):
            if give_up.is_set():
                raise GaveUp
        return self.run_id


class PackWriter:
    """Metrics and pictures of the runs that are added, each with what `RunWriter` promises of one.

    spool: the file that keeps what is not delivered of all of them, not there before
    """

    def __init__(self, mlflow_uri: str, spool: Path, *, gather_seconds: float = GATHER_SECONDS) -> None:
        self._uri = mlflow_uri
        self._lanes: list[LaneWriter] = []
        self._to_open: deque[LaneWriter] = deque()
        self._opening = threading.Lock()
        self._openers: list[threading.Thread] = []  # that have begun
        self._busy = 0  # of them
        self._outbox = Outbox(
            spool, {"metrics": self._send_metrics, "picture": self._send_pictures},
            most=lambda: POINTS_PER_CALL * max(1, len(self._lanes)), gather_seconds=gather_seconds,
        )  # fmt: skip
        self._outbox.start()

    def add(self, open_run: Callable[[], str]) -> LaneWriter:
        """Return the writer of one more run. open_run: opens it; called again until it succeeds, in the background."""
        lane = LaneWriter(self._outbox, len(self._lanes), open_run)
        self._lanes.append(lane)
        with self._opening:
            self._to_open.append(lane)
            if self._busy < OPENERS:
                self._busy += 1
                self._openers.append(threading.Thread(target=self._open, name="mlflow-open", daemon=True))
                self._openers[-1].start()
        return lane

    def close(self, timeout_seconds: float) -> dict[LaneWriter, Path]:
        """Deliver what is left, for at most so long. Return the files of the runs of which something is left:
        `send_spool` delivers each later."""
        deadline = time.monotonic() + timeout_seconds
        delivered = self._outbox.close(timeout_seconds)
        for opener in self._openers:
            opener.join(max(0.0, deadline - time.monotonic()))
        spool = self._outbox.spool
        left = {}
        for lane in self._lanes:
            if not delivered or lane.refused:
                path = spool.path.with_name(f"{spool.path.stem}-{lane.number:04d}.jsonl")
                if spool.split(lane.number, path, whole=lane.refused):
                    left[lane] = path
        spool.remove()
        return left

    def abandon(self) -> None:
        """Stop to send; nothing is waited for."""
        self._outbox.abandon()

    def _open(self) -> None:
        """Open runs until none waits for it."""
        patience = Patience(self._outbox.give_up)
        while True:
            with self._opening:
                if not self._to_open:
                    self._busy -= 1
                    return
                lane = self._to_open.popleft()
            try:
                lane.open(patience)
            except GaveUp:
                return

    def _send_metrics(self, items: Sequence[Item], patience: Patience) -> None:
        by_lane: dict[int, list[Metrics]] = {}
        for item in items:
            if isinstance(item, Metrics):
                by_lane.setdefault(item.run, []).append(item)
        for number, metrics in by_lane.items():
            lane = self._lanes[number]
            run_id = lane.opened(self._outbox.give_up)
            if run_id is not None:
                known = lane.known = lane.known or patience(partial(Known, self._uri, run_id, 0))
                deliver_metrics(self._uri, run_id, known, patience, metrics)

    def _send_pictures(self, items: Sequence[Item], patience: Patience) -> None:
        for item in items:
            run_id = self._lanes[item.run].opened(self._outbox.give_up)
            if isinstance(item, Picture) and run_id is not None:
                deliver_picture(self._uri, run_id, patience, item)
