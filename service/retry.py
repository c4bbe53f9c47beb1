"""Servers that may be away: the one place that knows how to ask again.

`again` repeats one call that may be repeated, for a bounded time. `patiently` does so and says it to somebody. A
`Patience` is for those who look at a server again and again: said once, asked less and less often, and again said when
it is back.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import tenacity

from service.errors import UnavailableError, VaesvcError

T = TypeVar("T")

_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 15.0


class Patience:
    """The availability of one server.

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
        """Return whether it is time to ask again: always, while it answers."""
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


def again(
    call: Callable[[], T],
    *,
    when: Callable[[BaseException], bool],
    seconds: float | None,
    first: float = 0.2,
    longest: float = 3.0,
    give_up: threading.Event | None = None,
    before: Callable[[BaseException], None] = lambda error: None,
) -> T:
    """Call until it succeeds. Raises the last error: one that will not pass, or the one at the end of the time.

    when:    whether an error will pass
    seconds: how long a call is begun again; None for ever
    first, longest: seconds between two tries, random, of which the most doubles each time
    give_up: ends the waiting, and with it the tries, when it is set
    before:  called with an error that is waited for
    """
    stops: list[Any] = [] if seconds is None else [tenacity.stop_after_delay(seconds)]
    stops += [] if give_up is None else [tenacity.stop_when_event_set(give_up)]
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(when),
        wait=tenacity.wait_random_exponential(multiplier=first, max=longest),
        stop=tenacity.stop_any(*stops),
        sleep=tenacity.nap.sleep if give_up is None else tenacity.sleep_using_event(give_up),
        before_sleep=lambda state: before(_error(state)),
        reraise=True,
    )
    return retrying(call)


def _error(state: tenacity.RetryCallState) -> BaseException:
    error = None if state.outcome is None else state.outcome.exception()
    assert error is not None  # it sleeps after a failure only
    return error


def unavailable(error: BaseException) -> bool:
    """Return whether the error is ours for a server that does not answer."""
    return isinstance(error, UnavailableError)


def patiently(
    call: Callable[[], T],
    *,
    seconds: float,
    what: str = "",
    say: Callable[[str], None] = lambda text: None,
    pause_seconds: float = 1.0,
) -> T:
    """Call again while a server does not answer, for so long; everything else is raised at once.

    what: that waits meanwhile, as `say` is called with it: "the checkpoint of step 20".
    """
    said = False

    def before(error: BaseException) -> None:
        nonlocal said
        if not said:
            say(f"{what} waits: {error}")
        said = True

    result = again(
        call, when=unavailable, seconds=seconds, first=pause_seconds, longest=2 * pause_seconds, before=before
    )
    if said:
        say(f"{what} is on its way again")
    return result
