"""Attempts that were lost with their machines: counted apart from the job's own failures, and not for ever."""

from __future__ import annotations

import pytest

from service.queue.attempts import MAX_OUTAGES
from service.queue.jobs import Job, JobState
from service.queue.store import Store
from tests.contract.queue_checks import checkpoint, cluster, end_backoff, expire_lease, finish, spec, sql


def _lost(store: Store, database: str, job_id: str, *, outage: bool, step: int | None = None) -> Job:
    """One more attempt, claimed and lost; with a checkpoint of `step` in between."""
    end_backoff(database, job_id)
    (attempt,) = store.admit()
    store.claim(job_id, attempt.number, "runner")
    if step is not None:
        store.commit_checkpoint(job_id, attempt.number, checkpoint(attempt.number, step))
    expire_lease(database, job_id)
    after = store.attempt_lost(job_id, attempt.number, "the head is gone", outage=outage)
    assert after is not None
    return after


@pytest.fixture
def job_id(store: Store) -> str:
    store.observe_cluster(cluster(1), address="ray", ok=True)
    return store.submit(spec(backoff=2.0), owner="me").id


def test_fault_13a_lost_machines_cost_none_of_the_attempts(store: Store, database: str, job_id: str) -> None:
    for number in range(1, 8):  # of three
        after = _lost(store, database, job_id, outage=True)
        assert (after.state, after.failures, after.outages) == (JobState.QUEUED, 0, number)
    assert after.not_before > 100  # the wait doubles, as after a failure: 2 s, 4 s, ... 128 s
    last = store.events(job_id)[-1]
    assert (last.kind, last.detail["outages"]) == ("lost", 7)
    after = _lost(store, database, job_id, outage=False)
    assert (after.failures, after.outages) == (1, 0)


def test_fault_13a_a_runner_may_say_so_itself(store: Store, database: str, job_id: str) -> None:
    (attempt,) = store.admit()
    store.claim(job_id, attempt.number, "runner")
    after = store.finish(job_id, 1, finish("failed", error="its node has died", outage=True))
    assert (after.state, after.failures, after.outages) == (JobState.QUEUED, 0, 1)
    assert sql(database, "SELECT outages FROM vaesvc_jobs") == [(1,)]


def test_fault_13a_nothing_is_lost_for_ever(store: Store, database: str, job_id: str) -> None:
    for _ in range(MAX_OUTAGES):
        after = _lost(store, database, job_id, outage=True)
    assert after.state is JobState.QUEUED
    after = _lost(store, database, job_id, outage=True)
    assert (after.state, after.failures) == (JobState.FAILED, 0)
    assert "lost 21 times in a row with its machines" in str(after.reason)
    assert "the head is gone" in str(after.reason)
    assert store.retry(job_id, by="me").outages == 0


def test_fault_13a_a_checkpoint_ends_the_row(store: Store, database: str, job_id: str) -> None:
    for step in range(1, 3 * MAX_OUTAGES):
        after = _lost(store, database, job_id, outage=True, step=step)
        assert (after.state, after.outages) == (JobState.QUEUED, 1)


def test_what_cannot_be_mended_is_no_outage(store: Store, job_id: str) -> None:
    store.admit()
    after = store.attempt_lost(job_id, 1, "another version", retryable=False, outage=True)
    assert after is not None
    assert (after.state, after.failures) == (JobState.FAILED, 1)


def test_cancel_wins_over_an_outage(store: Store, database: str, job_id: str) -> None:
    (attempt,) = store.admit()
    store.claim(job_id, attempt.number, "runner")
    store.cancel(job_id, by="me")
    expire_lease(database, job_id)
    after = store.attempt_lost(job_id, 1, "gone", outage=True)
    assert after is not None
    assert after.state is JobState.CANCELLED
