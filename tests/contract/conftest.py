"""One suite, every database: a SQLite file and a real PostgreSQL server that the session starts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.queue.store import Store
from tests import postgres

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The server's address; skips, with the reason, where there is no PostgreSQL."""
    reason = postgres.missing()
    if reason is not None:
        pytest.skip(reason)
    with postgres.server() as url:
        yield url


@pytest.fixture(params=DATABASES)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without any tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/queue.db"
        return
    server = request.getfixturevalue("postgres_server")
    with postgres.fresh_database(server, f"test_{uuid.uuid4().hex}") as url:
        yield url


@pytest.fixture
def database(empty_database: str) -> str:
    """The address of a database with this version's tables."""
    store = Store(empty_database)
    store.migrate()
    store.close()
    return empty_database


@pytest.fixture
def open_store(database: str) -> Iterator[Callable[..., Store]]:
    """Opens stores on the database with arguments of choice, and closes them."""
    with ExitStack() as stack:

        def opened(**arguments: float) -> Store:
            store = Store(database, **arguments)  # type: ignore[arg-type]
            stack.callback(store.close)
            return store

        yield opened


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    return open_store(settle_seconds=0.0)
