"""Connections, transactions, clock and migrations, for SQLite and PostgreSQL alike.

The rest of the package sees three things: `read()` and `write()` give a connection inside a transaction, and
`now(connection)` is the time by the database's clock.

SQLite:      WAL, synchronous=FULL (an acknowledged write survives a power cut), BEGIN IMMEDIATE for writes: writers
             wait for each other at the start of a transaction and never in its middle. A local disk only.
PostgreSQL:  READ COMMITTED; what only reads goes without BEGIN and COMMIT, which change nothing there, and so does
             what writes by one statement alone. Whatever changes a job locks the job's row first
             (`rows.locked_job`), so one job's changes are serial; admission takes an advisory lock before any row.
             Nobody who holds a row asks for the advisory lock, so nothing can deadlock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, Engine, make_url

from service.errors import StorageError, UnavailableError, UsageError, VaesvcError
from service.retry import again

BUSY_SECONDS = 30  # how long a transaction waits for others
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 60
RETRY_SECONDS = 10  # for getting a connection at all, while a server restarts
ADMISSION_LOCK = 0x7661_6573_7663_0001  # "vaesvc", 1: PostgreSQL's advisory locks are named by number
MIGRATION_LOCK = 0x7661_6573_7663_0002
MODELS_LOCK = 0x7661_6573_7663_0003

CLOCK = sa.extract("epoch", sa.func.clock_timestamp())
_NOW = sa.select(CLOCK)

VERSION_TABLE = "vaesvc_version"

T = TypeVar("T")


class Database:
    """One database. Threads may share it; processes each make their own."""

    def __init__(self, url: str) -> None:
        self.url = _normal_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = _sqlite_engine(self.url) if self.sqlite else _postgresql_engine(self.url)
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def read(self, *, patient: bool = True) -> Iterator[Connection]:
        """Open a transaction that only reads. `patient`: wait for a server that restarts."""
        with self._transaction(write=False, patient=patient) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes: committed when the block ends, undone by any exception."""
        with self._transaction(write=True) as connection:
            yield connection

    @contextmanager
    def at_once(self) -> Iterator[Connection]:
        """Open no transaction: on PostgreSQL, each statement is one by itself. The first one only reads."""
        with self.read() as connection:
            yield connection

    def written(self, connection: Connection) -> None:
        """Commit what was written. What the connection does after that, until the block of `write` ends, only reads,
        and holds no lock."""
        connection.commit()
        self._begin(connection, write=False)

    @contextmanager
    def _transaction(self, *, write: bool, patient: bool = True) -> Iterator[Connection]:
        try:
            connection = self._begun(write, patient)
            try:
                yield connection
                connection.commit()
            finally:
                connection.close()
        except exc.DBAPIError as error:
            raise self._explained(error) from error
        except exc.TimeoutError as error:  # the pool's
            raise UnavailableError(f"{self}: no free connection within {BUSY_SECONDS} s") from error

    def _begun(self, write: bool, patient: bool) -> Connection:
        """Return a connection inside a transaction. Only this is retried, and the transaction's first statement where
        it finds out that the server has ended the connection: nothing has been done by then, so it is always safe."""
        opened = partial(self._opened, write, patient)
        return _waited_for(opened) if patient else opened()

    def _opened(self, write: bool, patient: bool) -> Connection:
        connection = _Connection(self._engine)
        connection.begin_again = partial(self._begin_again, write=write, patient=patient)
        try:
            self._begin(connection, write)
            return connection
        except BaseException:
            connection.close()
            raise

    def _begin(self, connection: Connection, write: bool) -> None:
        if not (write or self.sqlite):
            # in READ COMMITTED each statement sees what there is when it begins, in a transaction or not
            connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.begin()
        if self.sqlite:  # not by an event of the engine: all of its events cost time where there is one
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    def _begin_again(self, connection: Connection, *, write: bool, patient: bool) -> None:
        connection.rollback()
        begin = partial(self._begin, connection, write)
        _waited_for(begin) if patient else begin()

    def _explained(self, error: exc.DBAPIError) -> VaesvcError:
        cause = " ".join(str(error.orig).split())
        low = cause.lower()
        if "disk is full" in low or "no space left" in low or "could not extend file" in low:
            return StorageError(f"{self}: {cause}. Nothing was written; free some space there and try again")
        if "no such table" in low or ('relation "vaesvc_' in low and "does not exist" in low):
            return UnavailableError(f"{self} has not been prepared: run Store.migrate() (`vaesvc serve` does) first")
        if isinstance(error, exc.OperationalError | exc.InterfaceError):
            return UnavailableError(f"{self} does not answer: {cause}")
        return VaesvcError(f"{self}: {cause}")

    def now(self, connection: Connection) -> float:
        """Return seconds since 1970 by the database's clock. SQLite has none: its clock is this machine's."""
        if self.sqlite:
            return time.time()
        # clock_timestamp, not now(): the transaction may have waited for a lock since it began
        return float(connection.execute(_NOW).scalar_one())

    def lock_admission(self, connection: Connection) -> None:
        """Let nobody else admit until the end of the transaction. SQLite's BEGIN IMMEDIATE has done it already."""
        if not self.sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADMISSION_LOCK)))

    def lock_models(self, connection: Connection) -> None:
        """Let nobody else number model versions until the end of the transaction."""
        if not self.sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MODELS_LOCK)))

    def migrate(self) -> None:
        """Bring the tables to this code's version. Safe when several processes do it at once.

        Raises StorageError when the database is newer than the code: nothing is changed then.
        """
        # the directory is made here and not in __init__, so that reading a wrong path leaves nothing behind
        if self.sqlite and self.url.database:
            try:
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"{self}: cannot make its folder: {error}") from error
        with self._lock, self.write() as connection:
            if not self.sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            _upgrade(connection, str(self))


class _Connection(Connection):
    """A connection whose first statement is done again, on another one, where the server has ended this one: no round
    trip is spent on finding that out before. begin_again: lets it begin again what it had begun."""

    begin_again: Callable[[Connection], None] | None = None

    def execute(self, *arguments: Any, **options: Any) -> Any:
        begin_again, self.begin_again = self.begin_again, None
        try:
            return super().execute(*arguments, **options)
        except exc.DBAPIError as error:
            if begin_again is None or not error.connection_invalidated:
                raise
        begin_again(self)
        return super().execute(*arguments, **options)

    def scalar(self, *arguments: Any, **options: Any) -> Any:
        return self.execute(*arguments, **options).scalar()


def _waited_for(call: Callable[[], T]) -> T:
    """Return what the call returns, called again for a while where that can help."""
    try:
        return call()
    except exc.DBAPIError as error:
        if not _passes(error):
            raise
    return again(call, when=_passes, seconds=RETRY_SECONDS, first=0.1, longest=2.0)


def _upgrade(connection: Connection, name: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "service.queue:migrations")
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    unknown = set(context.get_current_heads()) - known
    if unknown:
        raise StorageError(
            f"{name} was made by a newer vaesvc: its version is {', '.join(sorted(unknown))}, this one knows up to "
            f"{scripts.get_current_head()}. Upgrade vaesvc here, or give it a database of its own"
        )
    command.upgrade(config, "head")


def _passes(error: BaseException) -> bool:
    """Return whether waiting can help: a lock or a server that restarts; not a wrong path, name or password."""
    if not isinstance(error, exc.OperationalError | exc.InterfaceError):
        return False
    cause = str(error.orig).lower()
    return not any(word in cause for word in ("unable to open", "disk is full", "authentication failed", "not exist"))


def _normal_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise UsageError(
            "database_url is not an address; allowed: sqlite:////path/to/file or postgresql://user@host/name"
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise UsageError(f"database_url: {backend!r} is not supported; allowed: sqlite, postgresql")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UsageError("database_url: SQLite needs a file: sqlite:////path/to/file (a memory database is not shared)")
    return parsed


def _sqlite_engine(url: URL) -> Engine:
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_timeout=BUSY_SECONDS)

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection, record):  # type: ignore[no-untyped-def]
        connection.isolation_level = None  # no BEGIN behind our back: `_begin` says which one
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


def _postgresql_engine(url: URL) -> Engine:
    limits = {
        "lock_timeout": BUSY_SECONDS,
        "statement_timeout": STATEMENT_SECONDS,
        # a client that hangs inside a transaction would hold the admission lock for ever
        "idle_in_transaction_session_timeout": STATEMENT_SECONDS,
    }
    return sa.create_engine(
        url,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": " ".join(f"-c {name}={seconds * 1000}" for name, seconds in limits.items()),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
        isolation_level="READ COMMITTED",
        pool_timeout=BUSY_SECONDS,
    )
