"""Writes that share a transaction: each is answered for itself, and only when it is committed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.errors import UnavailableError
from service.queue import gathering
from service.queue.database import Database
from service.queue.rows import Clocked
from service.queue.together import Together

SECONDS = 60


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/q.db")
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")
    yield database
    database.close()


def put(work: Clocked, number: int) -> int:
    work.connection.exec_driver_sql("INSERT INTO numbers VALUES (?)", (number,))
    if number % 5 == 4:
        raise ValueError(f"no {number}")
    return number


def outcomes(database: Database, numbers: list[int]) -> tuple[list[Future[int]], int]:
    """Write each number in a thread of its own, all while another one has the database; return how it went for each,
    and how many transactions it took."""
    together = Together(database)
    begun, go_on = threading.Event(), threading.Event()
    commits: list[object] = []

    def hold(work: Clocked) -> bool:
        begun.set()
        return go_on.wait(SECONDS)

    with ThreadPoolExecutor(len(numbers) + 1) as threads:
        held = threads.submit(together.run, hold)
        assert begun.wait(SECONDS)
        futures = [threads.submit(together.run, partial(put, number=number)) for number in numbers]
        while len(together._gathering._waiting) < len(numbers):
            threading.Event().wait(0.01)
        sa.event.listen(database._engine, "commit", commits.append)
        go_on.set()
    assert held.result()
    return futures, len(commits) - 1


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "PATIENCE_SECONDS", SECONDS)


def stored(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.scalars(sa.text("SELECT n FROM numbers ORDER BY n")))


def test_what_waits_is_one_transaction_and_a_refusal_undoes_its_own_alone(database: Database) -> None:
    futures, commits = outcomes(database, list(range(10)))
    assert commits == 1
    for number, future in enumerate(futures):
        if number % 5 == 4:
            with pytest.raises(ValueError, match=f"no {number}"):
                future.result()
        else:
            assert future.result() == number
    assert stored(database) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_what_the_database_refuses_to_one_is_done_for_the_others(database: Database) -> None:
    futures, _ = outcomes(database, [1, 2, 2, 3])
    failed = [future.exception() for future in futures if future.exception() is not None]
    assert len(failed) == 1
    assert "UNIQUE constraint failed" in str(failed[0])
    assert stored(database) == [1, 2, 3]


def test_a_write_alone_is_a_transaction_of_its_own(database: Database) -> None:
    together = Together(database)
    assert together.run(lambda work: put(work, 7)) == 7
    with pytest.raises(ValueError, match="no 9"):
        together.run(lambda work: put(work, 9))
    assert stored(database) == [7]


def test_an_answer_is_read_when_it_is_committed_and_what_fails_then_is_not_done_again(database: Database) -> None:
    together = Together(database)

    def count(work: Clocked, number: int) -> int:
        if number == 3:
            raise ValueError("no such count")
        with database.write() as other:  # no lock is held any more
            other.exec_driver_sql("INSERT INTO numbers VALUES (?)", (number + 100,))
        return int(work.connection.scalar(sa.text("SELECT count(*) FROM numbers")) or 0)

    assert together.run_then(lambda work: put(work, 1), count) == 2
    with pytest.raises(UnavailableError, match="it is done, and the answer could not be read: no such count"):
        together.run_then(lambda work: put(work, 3), count)
    with pytest.raises(ValueError, match="no 4"):
        together.run_then(lambda work: put(work, 4), count)
    assert stored(database) == [1, 3, 101]
