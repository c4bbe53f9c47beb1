"""Migrations, and what is said when the database is not as it should be."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from service.errors import StorageError, UnavailableError, UsageError
from service.queue.database import VERSION_TABLE
from service.queue.jobs import Job
from service.queue.schema import metadata
from service.queue.store import Store
from tests import postgres
from tests.contract.queue_checks import cluster, spec, sql


def test_the_migrations_make_what_the_schema_says(empty_database: str) -> None:
    store = Store(empty_database)
    store.migrate()
    store.migrate()  # again: nothing to do
    store.close()
    engine = sa.create_engine(empty_database)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "target_metadata": metadata}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_a_newer_database_is_refused_untouched(database: str) -> None:
    Store(database).submit(spec(), owner="me")
    sql(database, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(StorageError, match=r"newer vaesvc: its version is 9999, this one knows up to \d{4}. Upgrade"):
        Store(database).migrate()
    assert sql(database, "SELECT count(*) FROM vaesvc_jobs") == [(1,)]
    assert sql(database, f"SELECT version_num FROM {VERSION_TABLE}") == [("9999",)]


def test_the_database_may_be_shared_with_mlflow(empty_database: str) -> None:
    """MLflow has a table `jobs` and Alembic's own version table in its database."""
    sql(empty_database, "CREATE TABLE jobs (id INTEGER)")
    sql(empty_database, "CREATE TABLE alembic_version (version_num VARCHAR(32))")
    sql(empty_database, "INSERT INTO alembic_version VALUES ('of-mlflow')")
    Store(empty_database).migrate()
    assert Store(empty_database).submit(spec(), owner="me").position == 1
    assert sql(empty_database, "SELECT version_num FROM alembic_version") == [("of-mlflow",)]


def test_a_database_that_was_not_prepared_says_so(empty_database: str) -> None:
    with pytest.raises(UnavailableError, match=r"has not been prepared: run Store.migrate"):
        Store(empty_database).ping()


def test_sqlite_is_durable_and_does_not_make_readers_wait(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/new/folder/queue.db")
    store.migrate()
    with store._database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2}  # 2 is FULL
        store.submit(spec(), owner="me")  # while the read goes on
        assert store.jobs()[0].name == "job"


def test_a_failure_inside_a_transaction_undoes_all_of_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.queue.rows import Clocked

    job = store.submit(spec(), owner="me")
    store.observe_cluster(cluster(2), address="ray", ok=True)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Clocked, "record", broken)
        with pytest.raises(RuntimeError, match="power cut"):
            store.admit()
    assert store.open_attempts() == []
    assert store.job(job.id).state == "QUEUED"
    assert [a.number for a in store.admit()] == [1]


def test_only_one_admits_at_a_time(store: Store, open_store: Callable[..., Store]) -> None:
    """While one dispatcher is between reading the line and making attempts, another one waits."""
    store.observe_cluster(cluster(2), address="ray", ok=True)
    store.submit(spec(), owner="me")
    other = open_store()
    with ThreadPoolExecutor(1) as thread:
        with store._database.write() as connection:
            store._database.lock_admission(connection)
            admitted = thread.submit(other.admit)
            with pytest.raises(TimeoutError):
                admitted.result(timeout=0.5)
        assert len(admitted.result(timeout=30)) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/db", "'mysql' is not supported; allowed: sqlite, postgresql"),
        ("nonsense", "is not an address; allowed: sqlite:////path/to/file or postgresql://"),
        ("sqlite://", "SQLite needs a file"),
    ],
)
def test_a_wrong_address_says_what_is_allowed(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Store(url)


def test_a_path_that_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    begin = time.monotonic()
    with pytest.raises(UnavailableError, match="unable to open database file"):
        Store(f"sqlite:///{tmp_path}/missing/queue.db").ping()
    with pytest.raises(StorageError, match="cannot make its folder"):
        Store(f"sqlite:///{tmp_path}/file/queue.db").migrate()
    assert time.monotonic() - begin < 20


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/queue.db")
    store.migrate()
    job = store.submit(spec(), owner="me")
    with store._database.read() as connection:  # the connection that the pool hands out next
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match=r"disk is full.*free some space"):
        [store.submit(spec(), owner="me") for _ in range(50)]
    assert store.job(job.id).id == job.id
    store.close()  # the next connection has no such limit
    before = len(store.jobs())
    store.submit(spec(), owner="me")
    assert len(store.jobs()) == before + 1


def test_a_server_that_is_gone_is_unavailable_and_the_password_is_not_shown() -> None:
    store = Store("postgresql://ann:secret@127.0.0.1:1/db")
    with pytest.raises(UnavailableError, match=r"ann:\*\*\*@127.0.0.1:1/db does not answer") as caught:
        store.ping()
    assert "secret" not in str(caught.value)


def test_a_server_that_restarts_is_waited_for(open_store: Callable[..., Store], database: str) -> None:
    """Connections that the server has ended are replaced without anybody noticing, whatever is done first on one."""
    if database.startswith("sqlite"):
        pytest.skip("SQLite has no server")
    store = open_store()
    job = store.submit(spec(), owner="me")
    calls: list[Callable[[], Job]] = [
        lambda: store.job(job.id),
        lambda: store.submit(spec(), owner="me"),
        lambda: store.submit_all([(spec(), None)], owner="me")[0],
        lambda: store.cancel(job.id, by="me"),
    ]
    for call in calls:
        sql(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()",
        )
        assert store.job(call().id).owner == "me"
    assert len(store.jobs()) == 3


def test_postgres_is_found_where_debian_puts_it() -> None:
    if shutil.which("postgres") is None and not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        assert postgres.missing() is not None
    else:
        assert postgres.missing() is None
