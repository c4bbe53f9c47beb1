"""Writes that share a transaction: each is answered for itself, and only when it is committed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.queue.database import Database
from service.queue.rows import Clocked
from service.queue.together import Together


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
    begun = threading.Barrier(len(numbers) + 1)
    commits: list[object] = []
    sa.event.listen(database._engine, "commit", commits.append)

    def write(number: int) -> int:
        begun.wait()
        return together.run(lambda work: put(work, number))

    with ThreadPoolExecutor(len(numbers)) as threads:
        with together._turn:
            futures = [threads.submit(write, number) for number in numbers]
            begun.wait()
            while len(together._waiting) < len(numbers):
                threading.Event().wait(0.01)
        threads.shutdown()
    return futures, len(commits)


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
