"""Registered model versions in SQL: one per job, numbered as in MLflow where that is possible. Both databases."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from service.errors import FencedError
from service.queue import models, schema
from service.queue.jobs import Job
from service.queue.store import Store
from tests.contract.queue_checks import cluster, finish, spec


def running(store: Store) -> Job:
    job = store.submit(spec(), owner="me")
    store.observe_cluster(cluster(64), address="ray", ok=True)
    (attempt,) = [one for one in store.admit() if one.job_id == job.id]
    store.claim(job.id, attempt.number, "runner")
    return store.job(job.id)


def put(store: Store, job: Job, mlflow_version: int | None = None, **fenced: int) -> models.VersionRow:
    return store.put_model_version(job.id, "model", mlflow_version, lambda number: f"signed {number}", **fenced)


def test_a_version_has_mlflows_number_unless_somebody_has_it(store: Store) -> None:
    jobs = [running(store) for _ in range(6)]
    wanted = [3, None, 3, 1, 10**12, 0]
    given = [put(store, job, number).version for job, number in zip(jobs, wanted, strict=True)]
    assert given == [3, 4, 5, 1, 6, 7]
    assert [row.version for row in store.model_versions("model")] == sorted(given)
    assert store.model_versions("another") == []


def test_saying_it_again_changes_nothing_but_what_is_new(store: Store) -> None:
    job = running(store)
    assert store.model_version(job.id) is None
    first = put(store, job)
    assert (first.version, first.envelope, first.mlflow_version) == (1, "signed 1", None)
    assert put(store, job) == first
    assert put(store, job, 7) == first.model_copy(update={"mlflow_version": 7})
    again = store.put_model_version(job.id, "model", None, lambda number: "another key")
    assert again == first.model_copy(update={"mlflow_version": 7, "envelope": "another key"})
    assert store.model_version(job.id) == again
    assert [event.kind for event in store.events(job.id)].count("registered") == 1


def test_many_at_once_get_numbers_of_their_own(open_store: Callable[..., Store]) -> None:
    store = open_store()
    jobs = [running(store) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: put(open_store(), job, 1).version, jobs))
    assert sorted(found) == list(range(1, 9))


def test_an_attempt_that_is_over_registers_nothing(store: Store) -> None:
    job = running(store)
    assert store.check_held(job.id, 1).id == job.id
    assert put(store, job, number=1).version == 1
    store.finish(job.id, 1, finish())
    for call in (
        lambda: put(store, job, number=1),
        lambda: store.check_held(job.id, 1),
        lambda: put(store, job, number=2),
    ):
        with pytest.raises(FencedError):
            call()
    assert put(store, job).version == 1  # the dispatcher


def test_what_succeeded_before_the_upgrade_is_looked_at_again(empty_database: str, tmp_path: Path) -> None:
    """Its version was never signed: the dispatcher does it, as after an MLflow that was away."""
    later = Store(f"sqlite:///{tmp_path}/later.db")
    later.migrate()
    done, failed = running(later), running(later)
    later.finish(done.id, 1, finish())
    later.finish(failed.id, 1, finish("failed", retryable=False))
    store = Store(empty_database)
    config = Config()
    config.set_main_option("script_location", "service.queue:migrations")
    with store._database.write() as connection, later._database.read() as jobs_of_later:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        now = {"epoch": "attempt"}  # what a column of then is called now
        then = [column["name"] for column in sa.inspect(connection).get_columns(schema.jobs.name)]
        types = {name: schema.jobs.c[now.get(name, name)].type for name in then}
        table = sa.table(schema.jobs.name, *(sa.column(name, kind) for name, kind in types.items()))
        for row in jobs_of_later.execute(sa.select(schema.jobs)).mappings():
            known = {name: row[now.get(name, name)] for name in then} | {"tracked": True}
            connection.execute(sa.insert(table).values(known))
    store.migrate()
    assert [job.id for job in store.untracked()] == [done.id]
    store.close()
    later.close()


@dataclass(frozen=True)
class Valued:
    value: float | None
    metric: str = "val/elbo"
    mode: str = "max"
    measure: str = "density"
    data: str = "digits"


def test_the_best_is_better_than_what_it_can_be_compared_with() -> None:
    assert models.best([]) is None
    none, infinite = Valued(None), Valued(float("inf"))
    assert models.best([none, infinite]) is None
    first, worse, equal, better = Valued(-10), Valued(-11), Valued(-10.0), Valued(-9)
    assert models.best([none, first, worse, equal]) is first
    incomparable = [
        Valued(50, metric="val/rate", mode="min"), Valued(50, measure="mass"), Valued(50, data="mnist")
    ]  # fmt: skip
    assert models.best([first, *incomparable]) is first
    assert models.best([first, *incomparable, better]) is better
    rates = [Valued(value, metric="val/rate", mode="min") for value in (5, 6, 4)]
    assert models.best(rates) is rates[2]
