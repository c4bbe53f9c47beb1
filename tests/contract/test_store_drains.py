"""Attempts on nodes that are drained: asked, requeued at no cost, told; and hangs, whose nodes the next attempt keeps
away from. Both databases."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from service.figures.metrics import text
from service.kinds.train.spec import TrainSpec
from service.queue.drains import DrainingNode
from service.queue.jobs import AttemptState, JobState
from service.queue.notice import Channel, Notice, Target
from service.queue.store import Store
from service.wire import ProgressReport, Pulse
from tests.contract.queue_checks import (
    before_hung_on,
    check_database,
    checkpoint,
    cluster,
    end_backoff,
    expire_lease,
    finish,
    spec,
    sql,
)  # fmt: skip

RUNNER = "runner"
GRACE = 60.0
NODE = DrainingNode(node="ce2dcc87f49aae2b30268926", address="10.0.0.7")


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    """As it is unless the setting says otherwise: nobody is preempted."""
    opened = open_store(settle_seconds=0.0)
    opened.observe_cluster(cluster(4), address="ray", ok=True)
    return opened


def started(store: Store, *, preemptible: bool = True) -> str:
    asked = spec().model_dump(mode="json") | {"preemptible": preemptible, "limits": {"hang_seconds": 5}}
    job_id = store.submit(TrainSpec.model_validate(asked), owner="ann").id
    store.admit()
    store.claim(job_id, 1, RUNNER)
    return job_id


def test_an_attempt_on_a_node_that_is_drained_checkpoints_and_goes_on_elsewhere_at_no_cost(
    store: Store, database: str
) -> None:
    hook = Target(channel=Channel.WEBHOOK, address="https://hook.example/x", notices=tuple(Notice))
    store.notices.subscribe("ann", hook)
    job_id = started(store, preemptible=False)  # the node goes all the same
    why = "leaves its node: node ce2dcc87f49a (10.0.0.7) is being drained"
    assert store.drains.ask(job_id, 1, [NODE], grace=GRACE) == f"{job_id}-1 {why}"
    assert store.drains.ask(job_id, 1, [NODE], grace=GRACE) is None  # another dispatcher
    reply = store.heartbeat(job_id, 1, RUNNER)
    assert (reply.stop, reply.hangs, reply.cancel) == (why, False, False)
    assert reply.grace == pytest.approx(GRACE, abs=30)
    assert store.progress(job_id, 1, ProgressReport(progress={"step": 11})).cancel  # the loop checkpoints
    store.commit_checkpoint(job_id, 1, checkpoint(1, 12))
    after = store.finish(job_id, 1, finish("failed", error=why))
    assert (after.state, after.failures, after.outages, after.not_before) == (JobState.QUEUED, 0, 0, 0.0)
    (attempt,) = store.detail(job_id).attempts
    assert (attempt.state, attempt.error) == (AttemptState.REQUEUED, why)
    assert [event.kind for event in store.events(job_id)][-1] == "drained"
    notices = [body for (body,) in sql(database, "SELECT notice FROM vaesvc_outbox WHERE job_id = :id", id=job_id)]
    assert sorted(notices) == ["preempted", "started"]
    assert 'vaesvc_requeues_total{why="drained"} 1.0' in text(store.figures.now(), store.cluster()).decode()
    assert [again.number for again in store.admit()] == [2]
    assert [kept.step for kept in store.claim(job_id, 2, RUNNER)[1]] == [12]
    assert store.heartbeat(job_id, 2, RUNNER).stop is None
    check_database(database, cpus=4)


@pytest.mark.parametrize(("left", "grace"), [(20.0, 20.0), (600.0, GRACE), (-5.0, 0.0)])
def test_its_grace_ends_with_the_node_of_which_it_is_told_when_it_goes(store: Store, left: float, grace: float) -> None:
    """The clocks of the database and of this process are one here."""
    job_id = started(store)
    soon = DrainingNode(node="b" * 56, address="10.0.0.8", deadline=time.time() + left)
    said = store.drains.ask(job_id, 1, [NODE, soon], grace=GRACE)
    assert said is not None
    assert "node bbbbbbbbbbbb (10.0.0.8) is being drained, and is gone at 20" in said
    assert said.endswith(" UTC")
    (attempt,) = store.detail(job_id).attempts
    assert attempt.stop_until is not None
    assert attempt.stop_until - time.time() == pytest.approx(grace, abs=10)


def test_a_worker_that_dies_with_its_node_after_it_was_asked_costs_nothing_either(store: Store, database: str) -> None:
    job_id = started(store)
    store.drains.ask(job_id, 1, [NODE], grace=GRACE)
    expire_lease(database, job_id)
    after = store.attempt_lost(job_id, 1, "the node was preempted", outage=True)
    assert after is not None
    assert (after.state, after.failures, after.outages) == (JobState.QUEUED, 0, 0)
    cancelled = started(store)
    store.cancel(cancelled, by="ann")
    assert store.drains.ask(cancelled, 1, [NODE], grace=GRACE) is None  # it ends as it is
    check_database(database, cpus=4)


def test_what_hung_keeps_away_from_its_nodes_once(store: Store, database: str) -> None:
    job_id = started(store)

    def nodes_of(name: str) -> frozenset[str]:
        asked.append(name)
        return frozenset({"b", "a"})

    asked = list[str]()
    store.progress(job_id, 1, ProgressReport(progress={}, pulse=Pulse(idle_seconds=0, usual_seconds=0.1)))
    assert (store.limits.look(nodes_of), asked) == ([], [])
    store.progress(job_id, 1, ProgressReport(progress={}, pulse=Pulse(idle_seconds=1000, usual_seconds=0.1)))
    assert len(store.limits.look(nodes_of)) == 1
    assert asked == [f"{job_id}-1"]
    assert store.heartbeat(job_id, 1, RUNNER).hangs
    assert store.limits.avoid(job_id, 1) == ()
    store.finish(job_id, 1, finish("failed", error="it hangs"))
    end_backoff(database, job_id)
    store.admit()
    assert store.limits.avoid(job_id, 2) == ("a", "b")
    store.claim(job_id, 2, RUNNER)
    store.finish(job_id, 2, finish("failed", error="of something else"))
    end_backoff(database, job_id)
    store.admit()
    assert store.limits.avoid(job_id, 3) == ()  # where they are busy for long, it waits there no second time
    (stop,) = (event for event in store.events(job_id) if event.kind == "stop_asked")
    assert stop.detail["nodes"] == ["a", "b"]
    check_database(database, cpus=4)


def test_what_hung_before_the_migration_goes_on(store: Store, database: str) -> None:
    job_id = started(store)
    store.progress(job_id, 1, ProgressReport(progress={}, pulse=Pulse(idle_seconds=1000, usual_seconds=0.1)))
    assert len(store.limits.look()) == 1
    before_hung_on(database)
    store.migrate()
    assert store.heartbeat(job_id, 1, RUNNER).hangs
    store.finish(job_id, 1, finish("failed", error="it hangs"))
    assert store.limits.avoid(job_id, 2) == ()
    check_database(database, cpus=4)
