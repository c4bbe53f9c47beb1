"""Servers that may be away: said once, asked less and less often, and again said when they are back."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from service.errors import UnavailableError, VaesvcError

T = TypeVar("T")

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 15.0


class Patience:
    """One server.

    with ray.attempt():
        ...             # a VaesvcError in here is taken for "away"; anything else is a bug and goes up
    if ray.ok: ...
    """

    def __init__(self, name: str, log: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.ok = False  # at the last attempt
        self._log = log
        self._clock = clock
        self._failures = 0
        self._next = 0.0

    @property
    def due(self) -> bool:
        """Is it time to ask again? Always, while it answers."""
        return self._clock() >= self._next

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        try:
            yield
        except VaesvcError as error:
            self._failed(error)
        else:
            if self._failures:
                self._log.info("%s answers again", self.name)
            self._failures = 0
            self._next = 0.0
            self.ok = True

    def _failed(self, error: VaesvcError) -> None:
        if not self._failures:
            self._log.warning("%s: %s (trying on)", self.name, error)
        self.ok = False
        wait = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2 ** min(self._failures, 10))
        self._failures += 1
        self._next = self._clock() + wait


def patiently(
    call: Callable[[], T],
    *,
    seconds: float,
    what: str = "",
    say: Callable[[str], None] = lambda text: None,
    pause_seconds: float = 1.0,
) -> T:
    """Again and again while a server does not answer, for so long; everything else is raised at once.

    what: that waits meanwhile, in the words that `say` is told: "the checkpoint of step 20".
    """
    deadline, said = time.monotonic() + seconds, False
    while True:
        try:
            result = call()
        except UnavailableError as error:
            if time.monotonic() >= deadline:
                raise
            if not said:
                say(f"{what} waits: {error}")
            said = True
            time.sleep(pause_seconds)
        else:
            if said:
                say(f"{what} is on its way again")
            return result
