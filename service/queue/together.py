"""Writes of several threads in one transaction, where they wait for each other anyway.

SQLite takes one writer at a time, and what a durable transaction costs is its end. So the thread whose turn it is does
what others have waiting, each inside a savepoint of its own, and ends the transaction once for all of them: nobody is
answered before that. PostgreSQL lets writers work side by side and shares the ends of transactions by itself; there
every write is a transaction of its own, which locks one job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from sqlalchemy import exc
from sqlalchemy.engine import Connection

from service.errors import UnavailableError
from service.queue.database import Database
from service.queue.gathering import Gathering
from service.queue.rows import Clocked

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Write(Generic[T]):
    """A write. then: what reads the answer, when it is committed."""

    call: Callable[[Clocked], Any]
    then: Callable[[Clocked, Any], T] | None = None


class Together:
    """The writes of one process to one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gathering: Gathering[_Write[Any], Any] = Gathering(self._all)

    def run(self, call: Callable[[Clocked], T]) -> T:
        """Return what `call` returns inside a transaction that is committed by then. What it raises undoes what it did,
        and nothing of anybody else's. It may be called twice: what was written the first time is undone then."""
        return self._run(_Write(call))

    def run_then(self, call: Callable[[Clocked], T], then: Callable[[Clocked, T], R]) -> R:
        """Return what `then` reads, after the commit and without any lock, of what `call` returned."""
        return self._run(_Write(call, then))

    def _run(self, write: _Write[R]) -> R:
        return self._gathering.run(write) if self._database.sqlite else self._alone(write)

    def _alone(self, write: _Write[T]) -> T:
        with self._database.write() as connection:
            work = Clocked(self._database, connection)
            value: T = write.call(work)
            if write.then is not None:
                self._database.written(connection)
                try:
                    value = write.then(work.afterwards(connection), value)
                except Exception as error:
                    raise not_read(error) from error
            return value

    def _all(self, writes: Sequence[_Write[Any]]) -> list[Any]:
        """Do the writes in one transaction; return what each returns or raises. Raises what the database raises for one
        of them, with nothing written."""
        if len(writes) == 1:
            return [self._alone(writes[0])]
        with self._database.write() as connection:
            works = [Clocked(self._database, connection) for _ in writes]
            ended = [_apart(connection, partial(write.call, work)) for write, work in zip(writes, works, strict=True)]
        reading = [
            at for at, write in enumerate(writes) if write.then is not None and not isinstance(ended[at], Exception)
        ]
        if reading:
            self._read(writes, works, ended, reading)
        return ended

    def _read(
        self, writes: Sequence[_Write[Any]], works: Sequence[Clocked], ended: list[Any], reading: Sequence[int]
    ) -> None:
        """Read the answers to those of the writes that are committed: whatever fails now, they are not done again."""
        unread = set(reading)
        try:
            with self._database.read() as connection:
                for at in reading:
                    then = writes[at].then
                    assert then is not None
                    ended[at] = then(works[at].afterwards(connection), ended[at])
                    unread.discard(at)
        except Exception as error:
            for at in unread:
                ended[at] = not_read(error)


def not_read(error: Exception) -> UnavailableError:
    """Return the error for a write that is committed, so that nobody does it again as one that was undone."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return UnavailableError(f"it is done, and the answer could not be read: {cause}")


def _apart(connection: Connection, call: Callable[[], T]) -> T | Exception:
    """Return what the call returns or raises, which undoes it alone. The database's errors are raised."""
    savepoint = connection.begin_nested()
    try:
        value = call()
        savepoint.commit()
        return value
    except exc.DBAPIError:
        raise
    except Exception as error:
        savepoint.rollback()
        return error
