"""Elastic gangs in the queue: admitted with what there is, smaller beside a higher priority, larger when room is idle.
Both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.kinds.train.spec import TrainSpec
from service.queue.jobs import AttemptState, JobState
from service.queue.notice import Channel, Notice, Target
from service.queue.share_records import Bounds
from service.queue.store import Store
from tests.contract.queue_checks import check_database, cluster, finish, spec, sql

RUNNER = "runner"


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    opened = open_store(settle_seconds=0.0, preempt_grace_seconds=30.0, grow_seconds=0.0)
    opened.observe_cluster(cluster(4), address="ray", ok=True)
    return opened


def submitted(store: Store, workers: Any, **of: Any) -> str:
    asked = spec(**of).model_dump(mode="json")
    asked["resources"] = {"workers": workers}
    return store.submit(TrainSpec.model_validate(asked), owner="ann").id


def started(store: Store, job_id: str) -> int:
    """How many workers the attempt's runner is told to start."""
    store.admit()
    job, _ = store.claim(job_id, store.job(job_id).attempt, RUNNER)
    assert job.resources.min_workers is None
    assert job.spec["resources"]["min_workers"] is not None  # the spec stays what it is
    return job.resources.workers


def test_it_starts_with_what_there_is_shrinks_for_a_higher_priority_and_grows_afterwards(
    store: Store, database: str
) -> None:
    hook = Target(channel=Channel.WEBHOOK, address="https://hook.example/x", notices=tuple(Notice))
    store.notices.subscribe("ann", hook)
    elastic = submitted(store, {"min": 1, "max": 4})
    assert started(store, elastic) == 4
    assert store.cluster().used_by_jobs == {"CPU": 4.0}
    high = submitted(store, 3, priority=5)
    store.admit()
    (said,) = store.room.look()
    assert said == f"{elastic}-1 makes room for {high}, of priority 5 and goes on with fewer workers"
    assert "made room in " in str(store.job(high).reason)
    why = str(store.heartbeat(elastic, 1, RUNNER).stop)
    after = store.finish(elastic, 1, finish("failed", error=why))
    assert (after.state, after.failures) == (JobState.QUEUED, 0)
    assert {made.job_id for made in store.admit()} == {high, elastic}
    assert store.cluster().used_by_jobs == {"CPU": 4.0}
    assert started(store, elastic) == 1
    assert store.room.look() == []  # nothing is free
    store.claim(high, 1, RUNNER)
    store.finish(high, 1, finish())
    store.admit()
    assert store.room.look() == [f"{elastic}-2 goes on with more workers: there has been room for them for a while"]
    assert store.room.look() == []
    why = str(store.heartbeat(elastic, 2, RUNNER).stop)
    store.finish(elastic, 2, finish("failed", error=why))
    assert started(store, elastic) == 4
    assert store.room.look() == []
    assert store.finish(elastic, 3, finish()).state is JobState.SUCCEEDED
    states = [attempt.state for attempt in store.detail(elastic).attempts]
    assert states == [AttemptState.REQUEUED, AttemptState.REQUEUED, AttemptState.SUCCEEDED]
    assert [e.kind for e in store.events(elastic) if e.kind in ("resized", "preempted")] == ["resized", "resized"]
    told = [notice for (notice,) in sql(database, "SELECT notice FROM vaesvc_outbox WHERE job_id = :id", id=elastic)]
    assert sorted(told) == ["started", "started", "started", "succeeded"]  # of a change of size nobody is told
    assert store.figures.now().requeues == {"preempted": 0, "resized": 2, "drained": 0}
    check_database(database)


def test_usage_counts_the_workers_that_there_were(store: Store, database: str) -> None:
    store.shares.set_group("vision", 1.0)
    fixed, elastic = submitted(store, 3), submitted(store, {"min": 1, "max": 4})
    store.admit()
    assert started(store, elastic) == 1
    sql(database, "UPDATE vaesvc_attempts SET created_at = created_at - 1000 WHERE job_id = :id", id=elastic)
    store.cancel(fixed, by="ann")
    store.cancel_finished(fixed, 1)
    (ann,) = store.figures.used(since=0.0)
    assert 1000 <= ann.cpu_seconds < 1400
    store.finish(elastic, 1, finish())
    store.admit()
    everybody = {group.name: group for group in store.shares.groups()}
    (used,) = everybody[""].usage
    assert 950 < used.cpu_seconds < 1400
    check_database(database)


def test_nobody_grows_while_somebody_waits_or_where_it_is_switched_off(
    store: Store, open_store: Callable[..., Store]
) -> None:
    fixed = submitted(store, 3)
    elastic = submitted(store, {"min": 1, "max": 2})
    assert started(store, elastic) == 1
    waits = submitted(store, 4)
    store.claim(fixed, 1, RUNNER)
    store.finish(fixed, 1, finish())
    store.admit()
    assert store.job(waits).state is JobState.QUEUED
    assert store.room.look() == []
    store.cancel(waits, by="ann")
    store.admit()
    assert open_store(settle_seconds=0.0).room.look() == []
    patient = open_store(settle_seconds=0.0, grow_seconds=3600.0)
    assert (patient.room.look(), patient.room.look()) == ([], [])
    assert len(store.room.look()) == 1


def test_a_quota_bounds_growth(store: Store) -> None:
    fixed = submitted(store, 2)
    elastic = submitted(store, {"min": 1, "max": 4})
    assert started(store, elastic) == 2
    store.claim(fixed, 1, RUNNER)
    store.finish(fixed, 1, finish())
    store.shares.set_quota("user", "ann", Bounds(cpus=2.0))
    store.admit()
    assert store.room.look() == []
    store.shares.set_quota("user", "ann", Bounds(cpus=3.0))
    assert len(store.room.look()) == 1
    store.finish(elastic, 1, finish("failed", error="asked"))
    assert started(store, elastic) == 3
    assert store.room.look() == []


def test_one_that_must_be_at_least_so_large_waits(store: Store) -> None:
    submitted(store, 3)
    elastic = submitted(store, {"min": 2, "max": 4})
    store.admit()
    job = store.job(elastic)
    assert job.state is JobState.QUEUED
    assert "needs 2 to 4 x (1 CPU); free now: 1 CPU" in str(job.reason)
