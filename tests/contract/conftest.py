"""One suite, every database: a SQLite file and a real PostgreSQL server that the session starts."""

from __future__ import annotations

import shutil
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


def _migrated(url: str) -> None:
    store = Store(url)
    store.migrate()
    store.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a database with this version's tables, to be copied."""
    with postgres.fresh_database(postgres_server, "vaesvc_template") as url:
        _migrated(url)
        yield "vaesvc_template"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with this version's tables, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    _migrated(f"sqlite:///{path}")
    return path


@pytest.fixture(params=DATABASES)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without any tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server = request.getfixturevalue("postgres_server")
    with postgres.fresh_database(server, f"test_{uuid.uuid4().hex}") as url:
        yield url


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database with this version's tables and nothing in them."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "queue.db")
        yield f"sqlite:///{tmp_path}/queue.db"
        return
    server, template = (request.getfixturevalue(name) for name in ("postgres_server", "postgres_template"))
    with postgres.fresh_database(server, f"test_{uuid.uuid4().hex}", template=template) as url:
        yield url


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
