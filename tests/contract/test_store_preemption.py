"""Attempts that give way to a job of a higher priority: asked, requeued at no cost, told. Both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from service.figures.metrics import text
from service.kinds.train.spec import TrainSpec
from service.queue.jobs import AttemptState, JobState
from service.queue.notice import Channel, Notice, Target
from service.queue.store import Store
from service.wire import ProgressReport
from tests.contract.queue_checks import (
    before_giving_way,
    check_database,
    checkpoint,
    cluster,
    expire_lease,
    finish,
    spec,
    sql,
)  # fmt: skip

RUNNER = "runner"
GRACE = 30.0


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    opened = open_store(settle_seconds=0.0, preempt_grace_seconds=GRACE)
    opened.observe_cluster(cluster(4), address="ray", ok=True)
    return opened


def submitted(store: Store, *, preemptible: bool = True, attempt_seconds: float | None = None, **of: Any) -> str:
    limits = {"attempt_seconds": attempt_seconds}
    asked = spec(**of).model_dump(mode="json") | {"preemptible": preemptible, "limits": limits}
    return store.submit(TrainSpec.model_validate(asked), owner="ann").id


def started(store: Store, job_id: str) -> int:
    store.admit()
    number = store.job(job_id).attempt
    store.claim(job_id, number, RUNNER)
    return number


def test_the_youngest_of_lower_priority_checkpoints_and_goes_on_afterwards_at_no_cost(
    store: Store, database: str
) -> None:
    hook = Target(channel=Channel.WEBHOOK, address="https://hook.example/x", notices=tuple(Notice))
    store.notices.subscribe("ann", hook)
    old = submitted(store, workers=2)
    started(store, old)
    young = submitted(store, workers=2)
    number = started(store, young)
    store.commit_checkpoint(young, number, checkpoint(number, 10))
    high = submitted(store, workers=2, priority=5)
    store.admit()
    (said,) = store.room.look()
    assert said == f"{young}-1 makes room for {high}, of priority 5"
    assert (store.admit(), store.room.look()) == ([], [])  # room is being made: nobody else is asked
    assert store.heartbeat(old, 1, RUNNER).stop is None
    reply = store.heartbeat(young, number, RUNNER)
    assert (reply.stop, reply.cancel, reply.hangs) == (f"makes room for {high}, of priority 5", False, False)
    assert reply.grace is not None
    assert 0 <= reply.grace <= GRACE
    assert store.progress(young, number, ProgressReport(progress={"step": 11})).cancel  # the loop checkpoints
    waits = str(store.job(high).reason)
    assert "an attempt of a job of lower priority will have checkpointed and made room in " in waits
    assert waits.endswith(young)
    store.commit_checkpoint(young, number, checkpoint(number, 12))
    after = store.finish(young, number, finish("failed", error=reply.stop))
    assert (after.state, after.failures, after.outages, after.not_before) == (JobState.QUEUED, 0, 0, 0.0)
    again = store.finish(young, number, finish("failed", error=reply.stop))
    assert again.state is JobState.QUEUED
    (attempt,) = store.detail(young).attempts
    assert (attempt.state, attempt.error) == (AttemptState.REQUEUED, reply.stop)
    assert [made.job_id for made in store.admit()] == [high]
    assert store.room.look() == []  # the one that waits now preempts nobody
    told = {event.kind: event.detail for event in store.events(young)}
    assert (told["stop_asked"]["to_job"], told["preempted"]["to_job"]) == (high, high)
    assert (told["preempted"]["from"], told["preempted"]["to"]) == ("RUNNING", "QUEUED")
    notices = [body for (body,) in sql(database, "SELECT notice FROM vaesvc_outbox WHERE job_id = :id", id=young)]
    assert sorted(notices) == ["preempted", "started"]
    shown = text(store.figures.now(), store.cluster()).decode()
    assert 'vaesvc_requeues_total{why="preempted"} 1.0' in shown
    store.claim(high, 1, RUNNER)
    store.finish(high, 1, finish())
    assert [made.job_id for made in store.admit()] == [young]
    _, resumed = store.claim(young, 2, RUNNER)
    assert [one.step for one in resumed] == [12, 10]
    assert store.heartbeat(young, 2, RUNNER).stop is None
    check_database(database, cpus=4)


def test_nobody_gives_way_to_an_equal_to_who_needs_nothing_or_where_it_would_not_help(
    store: Store, open_store: Callable[..., Store]
) -> None:
    stays = submitted(store, preemptible=False, workers=2)
    lower = submitted(store, workers=2, priority=-3)
    store.admit()
    submitted(store, workers=2, priority=-3)
    store.admit()
    assert store.room.look() == []  # equals
    high = submitted(store, workers=4, priority=5)
    store.admit()
    assert store.room.look() == []  # it would need the one that may stay
    store.cancel(high, by="ann")
    submitted(store, workers=2, priority=5)
    store.admit()
    off = open_store(settle_seconds=0.0)
    assert off.room.look() == []  # as it is unless the setting says otherwise
    assert [said.partition("-1 ")[0] for said in store.room.look()] == [lower]
    assert store.job(stays).state is JobState.STARTING


def test_an_attempt_that_nobody_has_claimed_ends_at_once_and_can_no_longer_be_claimed(
    store: Store, database: str
) -> None:
    low = submitted(store, workers=3)
    store.admit()
    high = submitted(store, workers=4, priority=1)
    store.admit()
    assert len(store.room.look()) == 1
    assert (store.job(low).state, store.detail(low).attempts[0].state) == (JobState.QUEUED, AttemptState.REQUEUED)
    with pytest.raises(Exception, match="is over: REQUEUED"):
        store.claim(low, 1, RUNNER)
    assert [made.job_id for made in store.admit()] == [high]
    check_database(database, cpus=4)


def test_however_it_ends_it_costs_nothing_but_success_and_hopeless_errors_stay_what_they_are(
    store: Store, database: str
) -> None:
    def asked() -> str:
        low = submitted(store, workers=4, priority=-5)
        started(store, low)
        high = submitted(store, workers=4)
        store.admit()
        assert len(store.room.look()) == 1
        store.cancel(high, by="ann")
        return low

    lost = asked()  # killed, and its runner too
    assert store.attempt_lost(lost, 1, "it hangs") is None
    expire_lease(database, lost)
    after = store.attempt_lost(lost, 1, "it hangs")
    assert after is not None
    assert (after.state, after.failures, store.detail(lost).attempts[0].state) == (
        JobState.QUEUED, 0, AttemptState.REQUEUED,
    )  # fmt: skip
    store.cancel(lost, by="ann")
    quick = asked()  # its workers heard of it before its runner did
    stopped = finish("cancelled", error="cancelled as asked")
    assert (store.finish(quick, 1, stopped).state, store.job(quick).failures) == (JobState.QUEUED, 0)
    (attempt,) = store.detail(quick).attempts
    assert attempt.state is AttemptState.REQUEUED
    assert str(attempt.error).startswith("makes room for ")
    store.cancel(quick, by="ann")
    done = asked()
    assert store.finish(done, 1, finish("succeeded")).state is JobState.SUCCEEDED
    wrong = asked()
    assert store.finish(wrong, 1, finish("failed", error="nan", retryable=False)).state is JobState.FAILED
    cancelled = asked()
    store.cancel(cancelled, by="ann")
    assert store.heartbeat(cancelled, 1, RUNNER).cancel
    for _ in range(2):
        assert store.finish(cancelled, 1, finish("cancelled")).state is JobState.CANCELLED
    assert store.detail(cancelled).attempts[0].state is AttemptState.CANCELLED
    check_database(database, cpus=4)


def test_a_dispatcher_that_was_killed_after_it_asked_one_goes_on_with_the_others(store: Store, database: str) -> None:
    lows = [submitted(store, workers=1) for _ in range(4)]
    for low in lows:
        started(store, low)
    submitted(store, workers=3, priority=2)
    store.admit()
    assert len(store.room.look()) == 3
    first = "UPDATE vaesvc_attempts SET stop_reason = NULL, stop_until = NULL, gives_way = NULL WHERE job_id = :id"
    sql(database, first, id=lows[2])
    assert [said.partition("-1 ")[0] for said in store.room.look()] == [lows[2]]
    assert store.room.look() == []
    assert store.heartbeat(lows[0], 1, RUNNER).stop is None  # the oldest
    check_database(database, cpus=4)


def test_nobody_passes_meanwhile_into_the_room_that_is_made_whatever_bounds_it(store: Store, database: str) -> None:
    """The one that has left first leaves its room to the head, not to a short job that would have ended before the
    bounds of those who leave."""
    lows = [submitted(store, workers=workers, attempt_seconds=10_000) for workers in (1, 3)]
    for low in lows:
        started(store, low)
    high = submitted(store, workers=4, priority=5)
    store.admit()
    assert len(store.room.look()) == 2
    short = submitted(store, workers=1, attempt_seconds=60)
    for low, admitted in zip(lows, ([], [high]), strict=True):
        store.finish(low, 1, finish("failed", error="gives way"))
        assert [attempt.job_id for attempt in store.admit()] == admitted
    assert store.job(short).state is JobState.QUEUED
    check_database(database, cpus=4)


def test_jobs_of_before_that_run_can_be_preempted(store: Store, database: str) -> None:
    low = submitted(store, workers=4)
    started(store, low)
    before_giving_way(database)
    store.migrate()
    assert store.heartbeat(low, 1, RUNNER).stop is None
    submitted(store, workers=1, priority=3)
    store.admit()
    assert len(store.room.look()) == 1
    assert store.finish(low, 1, finish("failed", error="stopped")).state is JobState.QUEUED
    check_database(database, cpus=4)
