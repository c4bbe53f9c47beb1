"""Writes of several threads in one transaction, where they wait for each other anyway.

SQLite takes one writer at a time, and what a durable transaction costs is its end. So the thread whose turn it is does
what others have waiting, each inside a savepoint of its own, and ends the transaction once for all of them: nobody is
answered before that. PostgreSQL lets writers work side by side and shares the ends of transactions by itself; there
every write is a transaction of its own, which locks one job.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from sqlalchemy import exc
from sqlalchemy.engine import Connection

from service.errors import VaesvcError
from service.queue.database import Database
from service.queue.rows import Clocked

T = TypeVar("T")
MOST = 64  # writes in one transaction: others may be waiting for the database


@dataclass(eq=False)
class _Write(Generic[T]):
    """A write that waits or is done. error: what is raised instead of returning `value`."""

    call: Callable[[Clocked], T]
    done: bool = False
    value: T | None = None
    error: BaseException | None = None

    def end(self, value: T | None = None, error: BaseException | None = None) -> None:
        self.value, self.error, self.done = value, error, True

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


class Together:
    """The writes of one process to one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Write[Any]] = deque()
        self._turn = threading.Lock()

    def run(self, call: Callable[[Clocked], T]) -> T:
        """Return what `call` returns inside a transaction that is committed by then. What it raises undoes what it did,
        and nothing of anybody else's. It may be called twice: what was written the first time is undone then."""
        if not self._database.sqlite:
            return self._alone(call)
        write = _Write(call)
        self._waiting.append(write)
        with self._turn:
            while not write.done:
                self._lead()
        return write.result()

    def _alone(self, call: Callable[[Clocked], T]) -> T:
        with self._database.write() as connection:
            return call(Clocked(self._database, connection))

    def _lead(self) -> None:
        """Do what waits. Whoever leads holds the turn; a write that was not ended stays in the line."""
        batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        try:
            if len(batch) == 1 or not self._all(batch):
                for write in batch:
                    self._one(write)
        finally:
            self._waiting.extendleft(reversed([write for write in batch if not write.done]))

    def _one(self, write: _Write[Any]) -> None:
        try:
            write.end(self._alone(write.call))
        except Exception as error:
            write.end(error=error)

    def _all(self, batch: list[_Write[Any]]) -> bool:
        """Do the writes in one transaction; return False, with nothing written, when the database failed one of
        them."""
        ends: list[tuple[Any, Exception | None]] = []
        try:
            with self._database.write() as connection:
                for write in batch:
                    ends.append(_apart(connection, partial(write.call, Clocked(self._database, connection))))
        except VaesvcError:  # the database's own: what fails for one must not fail for all
            return False
        for write, (value, error) in zip(batch, ends, strict=True):
            write.end(value, error)
        return True


def _apart(connection: Connection, call: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return what the call returns or raises, which undoes it alone. The database's errors are raised."""
    savepoint = connection.begin_nested()
    try:
        value = call()
        savepoint.commit()
        return value, None
    except exc.DBAPIError:
        raise
    except Exception as error:
        savepoint.rollback()
        return None, error
