"""The store's contract, on every database."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import sqlalchemy as sa

from service.errors import ConflictError, FencedError, ImpossibleError, NotFoundError
from service.queue.jobs import AttemptState, Capacity, Job, JobState, Resources
from service.queue.store import Store
from service.wire import ProgressReport
from tests.contract.queue_checks import (
    check_database,
    checkpoint,
    cluster,
    end_backoff,
    expire_lease,
    finish,
    spec,
    sql,
)

RUNNER = "runner"


def started(store: Store, job: Job | None = None, *, claim: bool = True) -> Job:
    """A job with an attempt, on a cluster with room."""
    store.observe_cluster(cluster(8, 8), address="ray", ok=True)
    job = job or store.submit(spec(), owner="me")
    (attempt,) = [a for a in store.admit() if a.job_id == job.id]
    if claim:
        store.claim(job.id, attempt.number, RUNNER)
    return store.job(job.id)


def kinds(store: Store, job: Job) -> list[str]:
    return [event.kind for event in store.events(job.id)]


# --- submit and read ------------------------------------------------------------------------------------------------


def test_a_job_comes_back_as_it_went_in(store: Store) -> None:
    made = store.submit(spec("one", priority=3, workers=2, cpus_per_worker=0.5), owner="me")
    assert store.job(made.id) == made
    assert made.state is JobState.QUEUED
    assert (made.owner, made.name, made.priority, made.attempt, made.failures) == ("me", "one", 3, 0, 0)
    assert made.resources == Resources(workers=2, cpus_per_worker=0.5)
    assert made.spec == spec("one", priority=3, workers=2, cpus_per_worker=0.5).model_dump(mode="json")
    assert abs(made.created_at - time.time()) < 60
    assert made.position == 1
    assert made.reason == "no Ray cluster has been seen yet"
    (event,) = store.events(made.id)
    assert (event.kind, event.detail["owner"]) == ("submitted", "me")
    assert store.detail(made.id).job == made


def test_the_same_key_and_spec_is_the_same_job(store: Store) -> None:
    first = store.submit(spec("one"), owner="me", key="k")
    assert store.submit(spec("one"), owner="me", key="k").id == first.id
    assert kinds(store, first) == ["submitted"]
    with pytest.raises(ConflictError, match=f"'k' was used for another spec, by {first.id}"):
        store.submit(spec("two"), owner="me", key="k")
    assert store.submit(spec("two"), owner="you", key="k").id != first.id
    assert len({store.submit(spec("one"), owner="me").id for _ in range(3)}) == 3
    store.cancel(first.id, by="me")
    assert store.submit(spec("one"), owner="me", key="k").state is JobState.CANCELLED


def test_many_jobs_are_one_transaction(store: Store) -> None:
    store.observe_cluster(cluster(4), address="ray", ok=True)
    known = store.submit(spec("known"), owner="me", key="k")
    made = store.submit_all([(spec("a"), None), (spec("known"), "k"), (spec("b"), "n"), (spec("b"), "n")], owner="me")
    assert [job.name for job in made] == ["a", "known", "b", "b"]
    assert (made[1].id, made[2].id) == (known.id, made[3].id)
    assert known.id < made[0].id < made[2].id
    assert [kinds(store, job) for job in made] == [["submitted"]] * 4
    assert [job.position for job in made] == [2, 1, 3, 3]
    before = store.jobs()
    with pytest.raises(ImpossibleError, match=r"spec 2 of 2 \(big\): asks for"):
        store.submit_all([(spec("c"), "c"), (spec("big", cpus_per_worker=9), None)], owner="me")
    with pytest.raises(ConflictError, match="'n' was used for another spec"):
        store.submit_all([(spec("c"), "c"), (spec("d"), "n")], owner="me")
    with pytest.raises(ConflictError, match=r"spec 2 of 2 \(d\): the key 'x' is another spec's"):
        store.submit_all([(spec("c"), "x"), (spec("d"), "x")], owner="me")
    assert store.jobs() == before


def test_writers_at_once_each_get_their_own_answer(store: Store) -> None:
    """What one of them is refused undoes nothing of the others, in whatever transaction they were."""
    taken = store.submit(spec("taken"), owner="me", key="taken")

    def submit(number: int) -> str:
        if number % 4 == 3:
            with pytest.raises(ConflictError, match=f"by {taken.id}"):
                store.submit(spec("other"), owner="me", key="taken")
            return taken.id
        return store.submit(spec(f"n{number}"), owner="me", key=f"k{number}").id

    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(submit, range(40)))
    names = {job.id: job.name for job in store.jobs(limit=100)}
    assert len(names) == 31
    assert all(names[job_id] == ("taken" if n % 4 == 3 else f"n{n}") for n, job_id in enumerate(ids))


def test_a_job_that_follows_another_is_told_of_once(store: Store) -> None:
    first = store.submit(spec("one"), owner="me")
    following = [store.submit(spec("two"), owner="me", key="then", after=first.id).id for _ in range(3)]
    assert len(set(following)) == 1
    (told,) = [event for event in store.events(first.id) if event.kind == "followed"]
    assert told.detail == {"job": following[0], "what": "train"}
    assert kinds(store, store.job(following[0])) == ["submitted"]


def test_why_a_job_is_not_followed_is_noted_once_for_each_reason(store: Store) -> None:
    first = store.submit(spec("one"), owner="me")
    for reason in ("no room", "no room", "no\x00 sense", "no room"):
        store.not_followed(first.id, "evaluate", reason)
    told = [event.detail["reason"] for event in store.events(first.id) if event.kind == "not_followed"]
    assert len(told) == 2
    assert told[0] == "no room"
    assert "\x00" not in told[1]
    with pytest.raises(NotFoundError):
        store.not_followed("j-none", "evaluate", "no room")


def test_what_is_not_there_is_not_found(store: Store) -> None:
    for call in (
        lambda: store.job("j-none"),
        lambda: store.detail("j-none"),
        lambda: store.events("j-none"),
        lambda: store.cancel("j-none", by="me"),
        lambda: store.retry("j-none", by="me"),
        lambda: store.checkpoints("j-none"),
        lambda: store.claim("j-none", 1, RUNNER),
    ):
        with pytest.raises(NotFoundError, match="no job 'j-none'"):
            call()


def test_the_list_is_newest_first_in_pages_by_state(store: Store) -> None:
    ids = [store.submit(spec(), owner="me").id for _ in range(5)]
    assert ids == sorted(ids)
    assert [job.id for job in store.jobs()] == ids[::-1]
    page = store.jobs(limit=2)
    assert [job.id for job in page] == ids[:2:-1]
    assert [job.id for job in store.jobs(limit=2, before=page[-1].id)] == [ids[2], ids[1]]
    store.cancel(ids[2], by="me")
    assert [job.id for job in store.jobs(states=[JobState.CANCELLED])] == [ids[2]]
    assert store.jobs(states=[JobState.RUNNING]) == []


def test_place_and_reason_are_those_of_the_plan(store: Store) -> None:
    store.observe_cluster(cluster(4), address="ray", ok=True)
    old = store.submit(spec(cpus_per_worker=3), owner="me")
    new = store.submit(spec(cpus_per_worker=2), owner="me")
    urgent = store.submit(spec(cpus_per_worker=3, priority=9), owner="me")
    places = {job.id: (job.position, job.reason) for job in store.jobs()}
    assert places == {
        job.id: (place, "waits for the dispatcher's next look") for place, job in enumerate((urgent, old, new), start=1)
    }
    assert [a.job_id for a in store.admit()] == [urgent.id]
    needs = "needs 1 x (3 CPU); free now: 1 CPU. It waits for running jobs to end"
    assert [(job.position, job.reason) for job in (store.job(old.id), store.job(new.id))] == [
        (1, needs),
        (2, needs.replace("(3 CPU)", "(2 CPU)")),
    ]
    late = store.submit(spec(cpus_per_worker=3), owner="me")
    assert (late.position, late.reason) == (3, needs)  # what a job waits for is a fact of its kind of gang
    assert store.job(urgent.id).position is None
    assert store.job(urgent.id).reason is None
    assert store.job(old.id).position == 1
    store.observe_cluster(Capacity(), address="http://ray:8265", ok=False)
    assert store.job(old.id).reason == "the Ray cluster at http://ray:8265 does not answer"


# --- the event log --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["UPDATE vaesvc_events SET kind = 'x'", "DELETE FROM vaesvc_events"])
def test_events_cannot_be_changed(store: Store, database: str, change: str) -> None:
    job = store.submit(spec(), owner="me")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        sql(database, change)
    assert kinds(store, job) == ["submitted"]


def test_events_are_read_on_from_where_one_was(store: Store) -> None:
    job = started(store)
    store.finish(job.id, 1, finish())
    events = store.events(job.id)
    assert [e.kind for e in events] == ["submitted", "admitted", "claimed", "finished"]
    assert [e.attempt for e in events] == [None, 1, 1, 1]
    assert all(a.at <= b.at for a, b in pairwise(events))
    assert store.events(job.id, after=events[1].id) == events[2:]
    assert store.events(job.id, limit=1) == events[:1]


# --- admission ------------------------------------------------------------------------------------------------------


def test_gangs_start_whole_as_the_cluster_allows(store: Store) -> None:
    store.observe_cluster(cluster(2, 2), address="ray", ok=True)
    first, second = (store.submit(spec(workers=3), owner="me") for _ in range(2))
    (attempt,) = store.admit()
    assert (attempt.job_id, attempt.number, attempt.state) == (first.id, 1, AttemptState.STARTING)
    assert store.admit() == []
    assert [(job.id, a.number) for job, a in store.open_attempts()] == [(first.id, 1)]
    status = store.cluster()
    assert (status.total, status.used_by_jobs) == ({"CPU": 4.0}, {"CPU": 3.0})
    assert (status.queued, status.running, status.ray_ok, status.ray_address) == (1, 1, True, "ray")
    store.claim(first.id, 1, RUNNER)
    store.finish(first.id, 1, finish())
    assert [a.job_id for a in store.admit()] == [second.id]


def test_nothing_starts_on_a_cluster_that_does_not_answer(store: Store) -> None:
    store.submit(spec(), owner="me")
    assert store.admit() == []
    store.observe_cluster(cluster(8), address="ray", ok=True)
    store.observe_cluster(Capacity(), address="ray", ok=False)
    assert store.admit() == []
    assert store.cluster().total == {"CPU": 8.0}  # as it was last seen
    store.observe_cluster(cluster(8), address="ray", ok=True)
    assert len(store.admit()) == 1


def test_the_impossible_is_refused_at_submit_once_a_cluster_was_seen(store: Store) -> None:
    too_large = spec(workers=3, cpus_per_worker=2)
    waits = store.submit(too_large, owner="me")  # nothing is known yet
    store.check_possible(too_large.resources)
    store.observe_cluster(cluster(2, 3), address="ray", ok=True)
    with pytest.raises(ImpossibleError, match=r"3 x \(2 CPU\).*1 node of 3 CPU; 1 node of 2 CPU.*2 of these workers"):
        store.submit(too_large, owner="me")
    with pytest.raises(ImpossibleError):
        store.check_possible(too_large.resources)
    assert [job.id for job in store.jobs()] == [waits.id]
    assert store.admit() == []
    refused = store.job(waits.id)
    assert refused.state is JobState.FAILED
    assert refused.reason is not None
    assert "largest cluster seen" in refused.reason
    assert [job.id for job in store.untracked()] == [waits.id]


def test_a_smaller_cluster_refuses_nothing(store: Store) -> None:
    store.observe_cluster(cluster(4, 4), address="ray", ok=True)
    for left in (cluster(4), Capacity()):
        store.observe_cluster(left, address="ray", ok=True)
        job = store.submit(spec(workers=2, cpus_per_worker=4), owner="me")
        assert store.admit() == []
        waiting = store.job(job.id)
        assert waiting.state is JobState.QUEUED
        assert waiting.reason is not None
        assert "at present" in waiting.reason


def test_a_cluster_that_still_grows_fails_no_job(open_store: Callable[..., Store]) -> None:
    store = open_store(settle_seconds=0.5)
    job = store.submit(spec(workers=2, cpus_per_worker=4), owner="me")
    store.observe_cluster(cluster(4), address="ray", ok=True)
    assert store.admit() == []
    assert store.job(job.id).state is JobState.QUEUED
    store.observe_cluster(cluster(4, 4), address="ray", ok=True)
    assert len(store.admit()) == 1
    big = store.submit(spec(workers=2, cpus_per_worker=4), owner="me")
    sql_free = open_store(settle_seconds=0.5, capacity=cluster(4))  # configured smaller: what was seen counts too
    sql_free.check_possible(big.resources)


def test_a_configured_capacity_counts_from_the_start(open_store: Callable[..., Store]) -> None:
    store = open_store(capacity=cluster(4, 4), settle_seconds=60.0)
    with pytest.raises(ImpossibleError):
        store.submit(spec(cpus_per_worker=5), owner="me")
    store.observe_cluster(cluster(1), address="ray", ok=True)  # an autoscaler's cluster while it is small
    job = store.submit(spec(workers=2, cpus_per_worker=4), owner="me")
    store.admit()
    assert store.job(job.id).state is JobState.QUEUED


# --- attempts -------------------------------------------------------------------------------------------------------


def test_an_attempt_from_claim_to_end(store: Store) -> None:
    job = started(store, claim=False)
    store.mark_submitted(job.id, 1)
    store.mark_submitted(job.id, 1)
    claimed, resume = store.claim(job.id, 1, RUNNER)
    assert (claimed.state, resume) == (JobState.RUNNING, ())
    assert store.claim(job.id, 1, RUNNER)[0].state is JobState.RUNNING  # asks again: harmless
    reply = store.heartbeat(job.id, 1, RUNNER)
    assert (reply.cancel, reply.lease_seconds) == (False, 20.0)
    store.progress(job.id, 1, ProgressReport(progress={"step": 3, "loss": float("nan")}, run_id="run"))
    seen = store.job(job.id)
    assert (seen.progress, seen.run_id) == ({"step": 3, "loss": None}, "run")
    done = store.finish(job.id, 1, finish(result={"elbo": -90.0}, log_uri="s3://log"))
    assert (done.state, done.result, done.reason) == (JobState.SUCCEEDED, {"elbo": -90.0}, None)
    assert done.started_at is not None
    assert done.ended_at is not None
    assert job.created_at <= done.started_at <= done.ended_at
    (attempt,) = store.detail(job.id).attempts
    assert (attempt.state, attempt.runner_id, attempt.log_uri) == (AttemptState.SUCCEEDED, RUNNER, "s3://log")
    assert attempt.submitted_at is not None
    assert kinds(store, job) == ["submitted", "admitted", "submitted_to_ray", "claimed", "run_opened", "finished"]


def test_only_one_runner_can_have_an_attempt(store: Store) -> None:
    job = started(store)
    for call in (
        lambda: store.claim(job.id, 1, "other"),
        lambda: store.heartbeat(job.id, 1, "other"),
        lambda: store.finish(job.id, 1, finish(runner="other")),
    ):
        with pytest.raises(FencedError, match="belongs to runner runner, not other: stop at once"):
            call()
    assert store.job(job.id).state is JobState.RUNNING


def test_nothing_is_taken_before_the_claim_nor_of_an_attempt_that_never_was(store: Store) -> None:
    job = started(store, claim=False)
    with pytest.raises(FencedError, match="claim it first"):
        store.heartbeat(job.id, 1, RUNNER)
    with pytest.raises(FencedError, match="has no attempt 2; its newest is 1"):
        store.claim(job.id, 2, RUNNER)
    with pytest.raises(FencedError, match="has no attempt 7"):
        store.attempt_lost(job.id, 7, "?")


def test_a_held_lease_protects_an_attempt_and_a_lost_one_is_fenced(store: Store, database: str) -> None:
    job = started(store)
    assert store.attempt_lost(job.id, 1, "Ray forgot it") is None
    assert store.job(job.id).state is JobState.RUNNING
    expire_lease(database, job.id)
    lost = store.attempt_lost(job.id, 1, "Ray forgot it")
    assert lost is not None
    assert (lost.state, lost.failures) == (JobState.QUEUED, 1)
    again = store.attempt_lost(job.id, 1, "says another dispatcher")
    assert again is not None
    assert again.failures == 1
    writes = (
        lambda: store.claim(job.id, 1, RUNNER),
        lambda: store.heartbeat(job.id, 1, RUNNER),
        lambda: store.progress(job.id, 1, ProgressReport(progress={})),
        lambda: store.commit_checkpoint(job.id, 1, checkpoint(1, 5)),
        lambda: store.finish(job.id, 1, finish()),
    )
    for write in writes:
        with pytest.raises(FencedError, match=r"is over: LOST.*Ray forgot it"):
            write()
    assert [a.number for a in store.admit()] == [2]
    for write in writes:
        with pytest.raises(FencedError, match=r"attempt 1 of .* is over|superseded by attempt 2"):
            write()
    store.claim(job.id, 2, "second")
    assert store.checkpoints(job.id) == ()


def test_a_heartbeat_keeps_the_lease(open_store: Callable[..., Store]) -> None:
    store = open_store(lease_seconds=3.0)
    job = started(store)
    for _ in range(4):  # longer than a lease in all, and each turn far shorter
        time.sleep(0.8)
        assert store.heartbeat(job.id, 1, RUNNER).lease_seconds == 3.0
        assert store.attempt_lost(job.id, 1, "no") is None
    store.progress(job.id, 1, ProgressReport(progress={"step": 1}))
    time.sleep(3.1)
    assert store.attempt_lost(job.id, 1, "the lease ended") is not None


def test_a_late_heartbeat_renews_a_lease_that_nobody_has_called_lost(store: Store, database: str) -> None:
    job = started(store)
    expire_lease(database, job.id)
    store.heartbeat(job.id, 1, RUNNER)
    assert store.attempt_lost(job.id, 1, "no") is None


def test_an_unclaimed_attempt_can_be_lost_at_once(store: Store) -> None:
    job = started(store, claim=False)
    lost = store.attempt_lost(job.id, 1, "Ray could not start it")
    assert lost is not None
    assert lost.state is JobState.QUEUED


# --- retries --------------------------------------------------------------------------------------------------------


def test_failures_are_retried_with_a_doubling_backoff_until_the_budget_is_spent(store: Store, database: str) -> None:
    job = store.submit(spec(backoff=10.0), owner="me")
    waits = []
    for number in (1, 2):
        started(store, job)
        failed = store.finish(job.id, number, finish("failed", error=f"bang {number}"))
        assert (failed.state, failed.failures) == (JobState.QUEUED, number)
        waits.append(failed.not_before - time.time())
        assert store.admit() == []
        assert "starts again in" in (store.job(job.id).reason or "")
        end_backoff(database, job.id)
    assert waits == pytest.approx([10, 20], abs=2)
    started(store, job)
    over = store.finish(job.id, 3, finish("failed", error="bang 3"))
    assert (over.state, over.failures, over.reason) == (JobState.FAILED, 3, "bang 3")
    assert [a.error for a in store.detail(job.id).attempts] == ["bang 1", "bang 2", "bang 3"]


def test_what_is_not_worth_a_retry_fails_at_once(store: Store) -> None:
    job = started(store)
    failed = store.finish(job.id, 1, finish("failed", error="no such file", retryable=False))
    assert (failed.state, failed.reason) == (JobState.FAILED, "no such file")
    job = started(store, claim=False)
    lost = store.attempt_lost(job.id, 1, "another version", retryable=False)
    assert lost is not None
    assert (lost.state, lost.reason) == (JobState.FAILED, "another version")


def test_a_retried_job_keeps_its_place_in_the_line(store: Store) -> None:
    store.observe_cluster(cluster(1), address="ray", ok=True)
    old, new = (store.submit(spec(), owner="me") for _ in range(2))
    (attempt,) = store.admit()
    store.claim(old.id, attempt.number, RUNNER)
    store.finish(old.id, 1, finish("failed", error="bang"))
    assert [job.position for job in (store.job(old.id), store.job(new.id))] == [1, 2]
    assert [a.job_id for a in store.admit()] == [old.id]


def test_retry_by_hand_keeps_checkpoints_and_gives_a_fresh_budget(store: Store) -> None:
    job = started(store)
    store.commit_checkpoint(job.id, 1, checkpoint(1, 5, -90.0))
    with pytest.raises(ConflictError, match="cannot retry a job that is RUNNING"):
        store.retry(job.id, by="me")
    store.finish(job.id, 1, finish("failed", error="bang", retryable=False))
    store.tracked(job.id)
    again = store.retry(job.id, by="me")
    assert (again.state, again.failures, again.reason) == (JobState.QUEUED, 0, "waits for the dispatcher's next look")
    assert again.ended_at is None
    started(store, job, claim=False)
    _, resume = store.claim(job.id, 2, "second")
    assert [c.step for c in resume] == [5]
    store.finish(job.id, 2, finish(runner="second"))
    assert [done.id for done in store.untracked()] == [job.id]  # its MLflow run is to be closed again
    with pytest.raises(ConflictError, match="is SUCCEEDED: there is nothing to try again"):
        store.retry(job.id, by="me")


# --- the last word --------------------------------------------------------------------------------------------------


def test_the_last_word_can_be_repeated_but_not_changed(store: Store) -> None:
    job = started(store)
    first = store.finish(job.id, 1, finish("failed", error="bang"))
    assert store.finish(job.id, 1, finish("failed", error="bang")) == store.job(job.id)
    assert first.failures == store.job(job.id).failures == 1
    with pytest.raises(ConflictError, match="has finished as FAILED already, not SUCCEEDED"):
        store.finish(job.id, 1, finish())
    started(store, job)
    assert store.finish(job.id, 1, finish("failed", error="bang")).state is JobState.RUNNING  # of the second attempt


def test_a_runner_that_stops_unasked_has_failed(store: Store) -> None:
    job = started(store)
    ended = store.finish(job.id, 1, finish("cancelled"))
    assert (ended.state, ended.failures) == (JobState.QUEUED, 1)
    assert store.detail(job.id).attempts[0].error == "the runner stopped without being asked to"


def test_any_text_can_be_an_error(store: Store) -> None:
    job = started(store)
    error = "nul \x00, lone surrogate \ud800, umlaut ü" + "x" * 50_000
    store.finish(job.id, 1, finish("failed", error=error, retryable=False))
    reason = store.job(job.id).reason
    assert reason is not None
    assert reason.startswith("...xxx")
    assert len(reason) < 21_000
    job = started(store)
    store.finish(job.id, 1, finish("failed", error=error[:40], retryable=False))
    assert "umlaut ü" in (store.job(job.id).reason or "")


# --- cancel ---------------------------------------------------------------------------------------------------------


def test_a_queued_job_is_cancelled_at_once(store: Store) -> None:
    job = store.submit(spec(), owner="me")
    assert store.cancel(job.id, by="you").state is JobState.CANCELLED
    assert store.cancel(job.id, by="you").state is JobState.CANCELLED
    store.observe_cluster(cluster(8), address="ray", ok=True)
    assert store.admit() == []
    events = store.events(job.id)
    assert [e.kind for e in events] == ["submitted", "cancel_requested"]
    assert events[-1].detail["by"] == "you"


def test_a_running_job_is_told_and_stops(store: Store) -> None:
    job = started(store)
    asked = store.cancel(job.id, by="me")
    assert asked.state is JobState.CANCELLING
    assert asked.cancel_requested_at is not None
    assert store.cancel(job.id, by="me").cancel_requested_at == asked.cancel_requested_at
    assert store.heartbeat(job.id, 1, RUNNER).cancel
    assert store.progress(job.id, 1, ProgressReport(progress={})).cancel
    store.commit_checkpoint(job.id, 1, checkpoint(1, 7))
    assert store.claim(job.id, 1, RUNNER)[0].state is JobState.CANCELLING  # the same runner may still ask again
    assert store.finish(job.id, 1, finish("cancelled")).state is JobState.CANCELLED
    assert store.finish(job.id, 1, finish("cancelled")).state is JobState.CANCELLED
    assert [c.step for c in store.checkpoints(job.id)] == [7]
    assert store.retry(job.id, by="me").state is JobState.QUEUED


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
def test_whatever_a_cancelled_attempt_says_the_job_is_cancelled(store: Store, outcome: str) -> None:
    job = started(store)
    store.cancel(job.id, by="me")
    assert store.finish(job.id, 1, finish(outcome)).state is JobState.CANCELLED
    assert store.admit() == []


def test_a_success_before_the_request_stays(store: Store) -> None:
    job = started(store)
    store.finish(job.id, 1, finish())
    with pytest.raises(ConflictError, match="cannot cancel a job that is SUCCEEDED"):
        store.cancel(job.id, by="me")


def test_a_lost_attempt_of_a_cancelled_job_is_not_followed_by_another(store: Store, database: str) -> None:
    job = started(store)
    store.cancel(job.id, by="me")
    assert store.attempt_lost(job.id, 1, "gone") is None
    expire_lease(database, job.id)
    lost = store.attempt_lost(job.id, 1, "gone")
    assert lost is not None
    assert lost.state is JobState.CANCELLED
    assert store.admit() == []


def test_the_dispatcher_ends_what_nobody_runs(store: Store, database: str) -> None:
    unclaimed = started(store, claim=False)
    assert store.cancel_finished(unclaimed.id, 1) is None  # nobody cancelled it
    store.cancel(unclaimed.id, by="me")
    with pytest.raises(FencedError, match="was cancelled before attempt 1 began"):
        store.claim(unclaimed.id, 1, RUNNER)
    ended = store.cancel_finished(unclaimed.id, 1)
    assert ended is not None
    assert ended.state is JobState.CANCELLED
    assert store.cancel_finished(unclaimed.id, 1) == ended
    held = started(store)
    store.cancel(held.id, by="me")
    assert store.cancel_finished(held.id, 1) is None
    expire_lease(database, held.id)
    ended = store.cancel_finished(held.id, 1)
    assert ended is not None
    assert ended.state is JobState.CANCELLED
    check_database(database)


# --- checkpoints, logs, tracking, tokens ----------------------------------------------------------------------------


def test_retention_keeps_the_last_and_the_best_and_says_what_to_delete(store: Store) -> None:
    job = started(store, store.submit(spec(keep_best=2), owner="me"))
    values = {1: -90.0, 2: -80.0, 3: -95.0, 4: -85.0, 5: -99.0}
    replies = {step: store.commit_checkpoint(job.id, 1, checkpoint(1, step, v)) for step, v in values.items()}
    uri = {step: checkpoint(1, step).uri for step in values}
    assert {step: reply.delete for step, reply in replies.items()} == {
        1: (),
        2: (),
        3: (),
        4: (uri[3],),
        5: (uri[1],),
    }
    assert [c.step for c in replies[5].kept] == [5, 4, 2]
    assert [c.best for c in replies[5].kept] == [False, False, True]
    assert store.checkpoints(job.id) == store.detail(job.id).checkpoints == replies[5].kept
    assert store.commit_checkpoint(job.id, 1, checkpoint(1, 5, -99.0)) == replies[5]  # the reply was lost: the same
    assert kinds(store, job).count("checkpoint") == 5


def test_an_address_holds_one_checkpoint(store: Store) -> None:
    job = started(store)
    store.commit_checkpoint(job.id, 1, checkpoint(1, 5))
    with pytest.raises(ConflictError, match="is committed already, with the manifest"):
        store.commit_checkpoint(job.id, 1, checkpoint(1, 5).model_copy(update={"manifest_sha256": "f" * 64}))


def test_a_diverged_metric_is_left_out(store: Store) -> None:
    job = started(store)
    reply = store.commit_checkpoint(job.id, 1, checkpoint(1, 5, float("nan")))
    assert [(c.metrics, c.best) for c in reply.kept] == [({}, False)]


def test_the_newest_checkpoint_is_that_of_the_newest_attempt(store: Store) -> None:
    """The first attempt's later steps may have been found corrupt: the second went on from an earlier one."""
    job = started(store)
    for step in (5, 10):
        store.commit_checkpoint(job.id, 1, checkpoint(1, step))
    store.finish(job.id, 1, finish("failed"))
    started(store, job)
    store.commit_checkpoint(job.id, 2, checkpoint(2, 7))
    assert [(c.attempt, c.step) for c in store.checkpoints(job.id)] == [(2, 7), (1, 10)]


def test_logs_may_be_named_after_the_end(store: Store) -> None:
    job = started(store)
    store.finish(job.id, 1, finish())
    store.set_log(job.id, 1, "s3://log")
    store.set_log(job.id, 1, "s3://log")
    assert store.detail(job.id).attempts[0].log_uri == "s3://log"
    assert kinds(store, job).count("log") == 1
    with pytest.raises(NotFoundError):
        store.set_log(job.id, 9, "s3://log")


def test_jobs_that_are_over_wait_for_their_mlflow_run_to_be_closed(store: Store) -> None:
    ids = [store.submit(spec(), owner="me").id for _ in range(3)]
    store.cancel(ids[2], by="me")
    store.cancel(ids[0], by="me")
    assert [job.id for job in store.untracked()] == [ids[0], ids[2]]
    store.tracked(ids[1])  # not over: changes nothing
    store.tracked(ids[0])
    assert [job.id for job in store.untracked()] == [ids[2]]


def test_tokens(store: Store, database: str) -> None:
    store.add_token("ann", "secret-a")
    store.add_token("ann", "secret-a")
    store.add_token("bob", "secret-b")
    found = [store.token_user(token) for token in ("secret-a", "secret-b", "secret-c")]
    assert [None if one is None else (one.name, one.role) for one in found] == [("ann", "user"), ("bob", "user"), None]
    store.add_token("ann", "secret-a", admin=True)
    store.add_token("ann", "secret-a")  # takes nothing away
    assert [token.role for token in store.tokens()] == ["admin", "user"]
    store.set_role("ann", admin=False)
    assert [token.role for token in store.tokens()] == ["user", "user"]
    assert [token.name for token in store.tokens()] == ["ann", "bob"]
    for name, token in (("ann", "another"), ("cid", "secret-a")):
        with pytest.raises(ConflictError, match="revoke"):
            store.add_token(name, token)
    assert "secret-a" not in str(sql(database, "SELECT * FROM vaesvc_tokens"))
    store.revoke_token("ann")
    assert store.token_user("secret-a") is None
    with pytest.raises(NotFoundError):
        store.revoke_token("ann")
