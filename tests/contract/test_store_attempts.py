"""The store's contract for attempts, from the claim to the last word, on every database."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from service.errors import ConflictError, FencedError, NotFoundError
from service.queue.jobs import AttemptState, JobState
from service.queue.schema import attempts
from service.queue.store import Store
from service.wire import ProgressReport
from tests.contract.queue_checks import (
    RUNNER,
    check_database,
    checkpoint,
    cluster,
    end_backoff,
    expire_lease,
    finish,
    kinds,
    spec,
    started,
)

# --- attempts -------------------------------------------------------------------------------------------------------


def test_a_claim_and_an_end_write_in_one_statement_on_postgresql(store: Store) -> None:
    """The job and its attempt, locked, and all that is written, with who is to be told."""
    if store._database.sqlite:
        pytest.skip("SQLite's statements are calls in this process, one for each table")
    store.claim(started(store, claim=False).id, 1, RUNNER)  # what a connection asks but once
    job = started(store, claim=False)
    statements: list[str] = []
    sa.event.listen(store._database._engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    store.claim(job.id, 1, RUNNER)
    claiming = len(statements)
    store.finish(job.id, 1, finish())
    ending = len(statements) - claiming
    assert (claiming, ending) == (2, 2)
    assert kinds(store, job)[-2:] == ["claimed", "finished"]
    assert store.detail(job.id).attempts[0].state is AttemptState.SUCCEEDED


def test_who_waited_for_a_job_knows_what_has_become_of_its_attempt_meanwhile(store: Store) -> None:
    """Whoever waits for the lock has begun to read before the other's change: what it goes by is newer."""
    changed, inserted = started(store, claim=False), started(store, claim=False)
    row = {"job_id": inserted.id, "number": 2, "state": AttemptState.STARTING.value, "nodes": [], "created_at": 1.0}
    with ThreadPoolExecutor(2) as threads:
        with store._write() as work:
            work.locked_job(changed.id, 1)
            work.locked_job(inserted.id)
            waiting = [
                threads.submit(store.claim, changed.id, 1, RUNNER), threads.submit(store.claim, inserted.id, 2, RUNNER)
            ]  # fmt: skip
            time.sleep(0.3)
            work.update_attempt(changed.id, 1, runner_id="another")
            work.connection.execute(sa.insert(attempts).values(row))
            work.update_job(inserted.id, attempt=2)
        with pytest.raises(FencedError, match="belongs to runner another"):
            waiting[0].result()
        assert waiting[1].result()[0].attempt == 2
    assert store.detail(inserted.id).attempts[1].runner_id == RUNNER


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


# --- checkpoints, logs, tracking ------------------------------------------------------------------------------------


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
