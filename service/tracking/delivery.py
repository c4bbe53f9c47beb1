"""From the spool to the server: in order, once, for as long as it takes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from service.errors import UsageError
from service.retry import again
from service.tracking import pictures, server
from service.tracking.server import Point
from service.tracking.spool import Metrics, Picture

T = TypeVar("T")
log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between tries


class GaveUp(Exception):  # noqa: N818 - not an error: the caller had no more time
    pass


class Patience:
    """Calls again until it succeeds, until `give_up` is set (GaveUp) or until the server says that it is our mistake
    (UsageError). What goes wrong is logged once per outage."""

    def __init__(self, give_up: threading.Event) -> None:
        self._give_up = give_up
        self._said = ""

    def __call__(self, function: Callable[[], T]) -> T:
        try:
            result = again(
                function,
                when=lambda error: isinstance(error, Exception) and not isinstance(error, UsageError),
                seconds=None,
                first=FIRST_PAUSE,
                longest=LONGEST_PAUSE,
                give_up=self._give_up,
                before=self._say,
            )
        except UsageError:
            raise
        except Exception as error:
            raise GaveUp from error
        if self._said:
            log.warning("MLflow answers again")
            self._said = ""
        return result

    def _say(self, error: BaseException) -> None:
        if not self._said:
            self._said = str(error) or type(error).__name__
            log.warning("metrics and pictures wait: %s", self._said)


class Known:
    """Which points the server has. It is asked once for the last step of each metric, and for a metric's whole history
    only where lines of an earlier writer, which ended before byte `recovered`, lie before that step."""

    def __init__(self, uri: str, run_id: str, recovered: int) -> None:
        self._uri = uri
        self._run_id = run_id
        self._recovered = recovered
        self._last = server.last_steps(uri, run_id)
        self._history: dict[str, set[int]] = {}

    def ask(self, items: Sequence[Metrics]) -> None:
        """Fetch what `choose` needs. May be repeated."""
        for item in items:
            for key in item.values:
                if item.start < self._recovered and key in self._last and key not in self._history:
                    self._history[key] = server.steps(self._uri, self._run_id, key)

    def choose(self, items: Sequence[Metrics]) -> list[Point]:
        """Return the points that the server lacks; they count as known from now on."""
        chosen = []
        for item in items:
            for key, value in item.values.items():
                if self._has(item, key):
                    continue
                chosen.append(Point(key=key, value=value, step=item.step, at=item.at))
                self._last[key] = max(item.step, self._last.get(key, item.step))
                if item.start < self._recovered:
                    self._history.setdefault(key, set()).add(item.step)
        return chosen

    def _has(self, item: Metrics, key: str) -> bool:
        if key not in self._last or item.step > self._last[key]:
            return False
        return item.start >= self._recovered or item.step in self._history.get(key, ())


def deliver_metrics(uri: str, run_id: str, known: Known, patience: Patience, items: Sequence[Metrics]) -> None:
    patience(lambda: known.ask(items))
    points = known.choose(items)
    try:
        patience(lambda: server.log_points(uri, run_id, points))
    except UsageError:  # one bad name must not cost the other points
        for key in dict.fromkeys(point.key for point in points):
            _deliver_one(uri, run_id, patience, [point for point in points if point.key == key])


def _deliver_one(uri: str, run_id: str, patience: Patience, points: Sequence[Point]) -> None:
    try:
        patience(lambda: server.log_points(uri, run_id, points))
    except UsageError as error:
        log.warning("dropped %d points of %r: %s", len(points), points[0].key, error)


def deliver_picture(uri: str, run_id: str, patience: Patience, picture: Picture) -> None:
    try:
        patience(lambda: pictures.put(uri, run_id, picture.name, picture.step, picture.png))
    except UsageError as error:
        log.warning("dropped the picture %r of step %d: %s", picture.name, picture.step, error)
