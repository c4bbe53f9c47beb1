"""Calls of several threads that are done at once by one of them: what each costs alone is then paid once.

Whoever comes while others are busy waits, and those who wait together are one group. A caller who is alone is a group
of one and waits for nobody. Where the group before was one of several, who have just been answered and may come back,
the next one begins after a pause that is short beside what a group takes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.errors import UnavailableError

A = TypeVar("A")
R = TypeVar("R")
MOST = 64  # calls in a group: others may be waiting for what they hold
PAUSE = 1 / 8  # of the time that the group before took
LONGEST_PAUSE_SECONDS = 0.001
PATIENCE_SECONDS = 1.0  # who has waited so long for the others goes alone


@dataclass(eq=False)
class _Call(Generic[A, R]):
    """A call that waits or is done. gate: opens when it is done, or when its thread shall lead the next group."""

    argument: A
    gate: threading.Lock = field(default_factory=threading.Lock)
    leads: bool = False
    outcome: R | Exception | None = None
    done: bool = False

    def end(self, outcome: R | Exception) -> None:
        self.outcome, self.done = outcome, True

    def result(self) -> R:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome  # type: ignore[return-value]


def outcomes(do: Callable[[Sequence[A]], Sequence[R | Exception]], arguments: Sequence[A]) -> list[R | Exception]:
    """Return what `do` returns or raises for each of the arguments. What it raises for several was undone, and it is
    called for each of them alone, unless a server does not answer."""
    try:
        return list(do(arguments))
    except Exception as error:
        if len(arguments) == 1 or isinstance(error, UnavailableError):
            return [error] * len(arguments)
    return [outcome for argument in arguments for outcome in outcomes(do, [argument])]


class Gathering(Generic[A, R]):
    """do: takes the arguments of a group and returns, for each, a value or what is to be raised, as `outcomes` says.

    leaders: groups that are under way at once.
    """

    def __init__(self, do: Callable[[Sequence[A]], Sequence[R | Exception]], *, leaders: int = 1) -> None:
        self._do = do
        self._free = leaders
        self._waiting: deque[_Call[A, R]] = deque()
        self._lock = threading.Lock()
        self._pause = 0.0

    def run(self, argument: A) -> R:
        """Return what `do` returns for this argument, or raise what it raises for it."""
        call: _Call[A, R] = _Call(argument)
        call.gate.acquire()
        with self._lock:
            if self._free:
                self._free -= 1
                call.leads = True
            else:
                self._waiting.append(call)
        if not call.leads and not call.gate.acquire(timeout=PATIENCE_SECONDS):
            if self._taken_back(call):
                self._do_all([call])
            else:
                call.gate.acquire()  # it leads, or others have begun with it: they end within the database's limits
        if call.leads:
            self._lead(call)
        return call.result()

    def _taken_back(self, call: _Call[A, R]) -> bool:
        """Take the call out of the line; return whether it was there."""
        with self._lock:
            there = call in self._waiting
            if there:
                self._waiting.remove(call)
            return there

    def _lead(self, call: _Call[A, R]) -> None:
        """Do the call, and with it what waits; then let somebody lead who waits by then."""
        if self._pause:
            time.sleep(self._pause)
        begin = time.monotonic()
        with self._lock:
            group = [call, *(self._waiting.popleft() for _ in range(min(MOST - 1, len(self._waiting))))]
        try:
            self._do_all(group)
        finally:
            taken = time.monotonic() - begin
            with self._lock:
                self._pause = min(PAUSE * taken, LONGEST_PAUSE_SECONDS) if len(group) > 1 else 0.0
                following = self._waiting.popleft() if self._waiting else None
                if following is None:
                    self._free += 1
                else:
                    following.leads = True
            if following is not None:
                following.gate.release()
            for each in group:
                if not each.done:
                    each.end(UnavailableError("the thread that did this with others was ended: try again"))
                each.gate.release()

    def _do_all(self, group: Sequence[_Call[A, R]]) -> None:
        for call, outcome in zip(group, outcomes(self._do, [call.argument for call in group]), strict=True):
            call.end(outcome)
