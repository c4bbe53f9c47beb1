"""Limits in time: of jobs, of attempts, and of how long nothing may move. Both databases."""

from __future__ import annotations

import time
from typing import Any

import pytest

from service.kinds.train.spec import TrainSpec
from service.queue import admission, line, scheduling
from service.queue.jobs import AttemptState, JobState
from service.queue.rows import Clocked
from service.queue.store import Store
from service.wire import ProgressReport, Pulse
from tests.contract.queue_checks import before_order, check_database, cluster, end_backoff, finish, spec, sql

RUNNER = "runner"


def limited(workers: int = 1, **limits: Any) -> TrainSpec:
    return TrainSpec.model_validate({**spec(workers=workers).model_dump(mode="json"), "limits": limits})


def submitted(store: Store, **limits: Any) -> str:
    store.observe_cluster(cluster(8), address="ray", ok=True)
    return store.submit(limited(**limits), owner="me").id


def started(store: Store, job_id: str) -> int:
    store.admit()
    number = store.job(job_id).attempt
    store.claim(job_id, number, RUNNER)
    return number


def ran(database: str, job_id: str, number: int, seconds: float) -> None:
    """Turn the clock: the attempt began so much earlier."""
    statement = "UPDATE vaesvc_attempts SET started_at = started_at - :s WHERE job_id = :id AND number = :number"
    sql(database, statement, s=seconds, id=job_id, number=number)


def moved(store: Store, job_id: str, number: int, *, idle: float, usual: float) -> None:
    pulse = Pulse(idle_seconds=idle, usual_seconds=usual)
    store.progress(job_id, number, ProgressReport(progress={"step": 1}, pulse=pulse))


def test_at_its_deadline_a_job_is_cancelled_wherever_it_is(store: Store, database: str) -> None:
    soon = time.time() + 3600
    running, held = (submitted(store, deadline=soon) for _ in range(2))
    store.order.hold(held, by="me")
    number = started(store, running)
    queued, later = submitted(store, deadline=soon), submitted(store, deadline=soon + 3600)
    assert store.limits.look() == []
    sql(database, "UPDATE vaesvc_limits SET deadline = deadline - 3601")
    said = store.limits.look()
    assert len(said) == 3
    assert [store.job(job_id).state for job_id in (running, held, queued, later)] == [
        JobState.CANCELLING, JobState.CANCELLED, JobState.CANCELLED, JobState.QUEUED,
    ]  # fmt: skip
    assert {store.job(job_id).reason for job_id in (running, held, queued)} == {"its deadline has passed"}
    assert store.heartbeat(running, number, RUNNER).cancel
    over = store.finish(running, number, finish("cancelled"))
    assert (over.state, over.reason) == (JobState.CANCELLED, "its deadline has passed")
    assert store.limits.look() == []
    store.retry(running, by="me")  # somebody wants it all the same
    assert store.limits.look() == []
    assert store.job(running).state is JobState.QUEUED
    check_database(database)


def test_a_jobs_time_is_that_of_its_attempts_together_and_anew_after_a_retry(store: Store, database: str) -> None:
    job_id = submitted(store, max_seconds=100)
    first = started(store, job_id)
    ran(database, job_id, first, 60)
    assert store.limits.look() == []
    store.finish(job_id, first, finish("failed", error="bang"))
    end_backoff(database, job_id)
    second = started(store, job_id)
    assert store.limits.look() == []
    ran(database, job_id, second, 50)
    assert store.limits.look() == [f"{job_id} is cancelled: it has run for the 100 s that it may (limits.max_seconds)"]
    store.finish(job_id, second, finish("cancelled"))
    store.retry(job_id, by="me")
    third = started(store, job_id)
    ran(database, job_id, third, 90)
    assert store.limits.look() == []
    check_database(database)


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_an_attempt_that_took_too_long_is_asked_to_end_and_another_follows(
    store: Store, database: str, outcome: str
) -> None:
    """cancelled: its workers, which only hear that they shall stop, heard it before its runner did."""
    job_id = submitted(store, attempt_seconds=50)
    number = started(store, job_id)
    ran(database, job_id, number, 51)
    (said,) = store.limits.look()
    assert "limits.attempt_seconds" in said
    assert store.limits.look() == []
    reply = store.heartbeat(job_id, number, RUNNER)
    assert (reply.cancel, reply.hangs) == (False, False)
    assert str(reply.stop).startswith("the attempt has run for the 50 s")
    assert store.progress(job_id, number, ProgressReport(progress={})).cancel  # the loop checkpoints
    assert store.job(job_id).state is JobState.RUNNING
    heard = reply.stop if outcome == "failed" else "cancelled as asked"
    after = store.finish(job_id, number, finish(outcome, error=heard))
    assert (after.state, after.failures) == (JobState.QUEUED, 1)
    (attempt,) = store.detail(job_id).attempts
    assert (attempt.state, attempt.error) == (AttemptState.FAILED, reply.stop)
    end_backoff(database, job_id)
    assert store.heartbeat(job_id, started(store, job_id), RUNNER).stop is None


@pytest.mark.parametrize(
    ("limits", "idle", "usual", "hangs"),
    [
        ({}, 299, 1, False),
        ({}, 301, 1, True),
        ({}, 301, 30, False),  # one that is away for half a minute at times, in evaluations say, is waited for longer
        ({}, 601, 30, True),
        ({"hang_seconds": 5, "hang_factor": 2}, 6, 1, True),
        ({"hang_seconds": 5, "hang_factor": 2}, 6, 4, False),
        ({"hang_seconds": None}, 1e6, 1, False),
    ],
)
def test_a_hang_is_told_from_a_long_step(
    store: Store, limits: dict[str, Any], idle: float, usual: float, hangs: bool
) -> None:
    job_id = submitted(store, **limits)
    number = started(store, job_id)
    assert store.limits.look() == []  # nothing is known of it yet
    moved(store, job_id, number, idle=idle, usual=usual)
    assert bool(store.limits.look()) == hangs
    reply = store.heartbeat(job_id, number, RUNNER)
    assert (reply.stop is not None, reply.hangs) == (hangs, hangs)
    if hangs:
        assert f"it hangs: no step for {idle:.0f} s" in str(reply.stop)


def test_reports_that_no_longer_come_are_a_hang_too_and_one_that_moves_is_let_be(store: Store, database: str) -> None:
    job_id = submitted(store)
    number = started(store, job_id)
    moved(store, job_id, number, idle=0, usual=1)
    sql(database, "UPDATE vaesvc_attempts SET moved_at = moved_at - 400")
    moved(store, job_id, number, idle=0.5, usual=1)
    assert store.limits.look() == []
    sql(database, "UPDATE vaesvc_attempts SET moved_at = moved_at - 400")
    unwatched = ProgressReport(progress={}, pulse=Pulse(watched=False))
    store.progress(job_id, number, unwatched)  # it is over, or a gang begins again
    assert store.limits.look() == []
    moved(store, job_id, number, idle=0, usual=1)
    sql(database, "UPDATE vaesvc_attempts SET moved_at = moved_at - 400")
    assert len(store.limits.look()) == 1


def test_jobs_of_before_have_no_limits_but_are_watched(store: Store, database: str) -> None:
    job_id = submitted(store)
    number = started(store, job_id)
    before_order(database)
    store.migrate()
    assert store.limits.look() == []
    store.progress(job_id, number, ProgressReport(progress={"step": 1}))  # as an earlier runner reports
    assert store.limits.look() == []
    moved(store, job_id, number, idle=1000, usual=1)
    assert len(store.limits.look()) == 1


def reserved(store: Store) -> float | None:
    """When the head starts at the latest, in seconds from now."""
    with store._database.read() as connection:
        work = Clocked(store._database, connection)
        running = admission.running(work)
        made = scheduling.plan(line.lanes(work), running, cluster(4), work.now)
        return None if made.reserved is None else made.reserved - work.now


def test_who_is_bounded_passes_a_head_whose_reservation_is_later(store: Store, database: str) -> None:
    store.observe_cluster(cluster(4), address="ray", ok=True)
    runs = store.submit(limited(3, attempt_seconds=5000, max_seconds=9000), owner="ann").id
    (admitted,) = store.admit()
    head, long, endless, short = (
        store.submit(limited(workers, **limits), owner="ann").id
        for workers, limits in (
            (4, {}),
            (1, {"attempt_seconds": 5001}),
            (1, {}),
            (1, {"attempt_seconds": 9000, "max_seconds": 4000}),
        )
    )
    store.order.reprioritize(short, 1, by="ann", admin=True)
    store.order.reprioritize(short, 0, by="ann")  # which lane it is in is found anew
    assert [attempt.job_id for attempt in store.admit()] == [short]
    assert {store.job(job_id).state for job_id in (head, long, endless)} == {JobState.QUEUED}
    assert reserved(store) == pytest.approx(5420, abs=140)  # nobody has claimed it: START_SECONDS are counted
    store.claim(runs, admitted.number, RUNNER)
    assert reserved(store) == pytest.approx(5120, abs=140)
    store.cancel(runs, by="ann")
    assert reserved(store) == pytest.approx(4420, abs=140)  # the other one's bound, now
    sql(database, "UPDATE vaesvc_limits SET attempt_seconds = NULL, max_seconds = NULL WHERE job_id = :id", id=short)
    assert reserved(store) is None
