"""Jobs outside the line, priorities that change, and what jobs are found by. Both databases."""

from __future__ import annotations

import time

import pytest

from service.errors import ConflictError, NotFoundError
from service.queue.jobs import Job, JobState
from service.queue.listing import Which
from service.queue.store import Store
from tests.contract.queue_checks import before_order, check_database, cluster, end_backoff, finish, spec


def admitted(store: Store) -> list[str]:
    return [attempt.job_id for attempt in store.admit()]


def submitted(store: Store, count: int) -> list[str]:
    """Jobs of which two run at once."""
    store.observe_cluster(cluster(2), address="ray", ok=True)
    return [store.submit(spec(), owner="me").id for _ in range(count)]


def test_a_held_job_waits_outside_the_line_and_says_so(store: Store, database: str) -> None:
    first, second, third = submitted(store, 3)
    for _ in range(2):  # asking again is harmless
        store.order.hold(first, by="ann")
    held = store.job(first)
    assert (held.state, held.position) == (JobState.HELD, None)
    assert held.reason == f"held by ann; `vaesvc release {first}` puts it into the line"
    assert [store.job(job_id).position for job_id in (second, third)] == [1, 2]
    assert admitted(store) == [second, third]
    for _ in range(2):
        store.order.release(first, by="bob")
    released = store.job(first)
    assert (released.state, released.position) == (JobState.QUEUED, 1)
    assert "ann" not in str(released.reason)
    told = [(event.kind, event.detail.get("by")) for event in store.events(first)]
    assert told == [("submitted", None), ("held", "ann"), ("released", "bob")]
    check_database(database)


def test_a_released_job_has_the_place_of_its_age(store: Store) -> None:
    first, second, third = submitted(store, 3)
    store.order.hold(second, by="me")
    store.order.release(second, by="me")
    assert admitted(store) == [first, second]
    assert store.job(third).position == 1


def test_only_what_waits_is_held(store: Store) -> None:
    (job_id,) = submitted(store, 1)
    assert admitted(store) == [job_id]
    for state in ("STARTING", "RUNNING", "SUCCEEDED"):
        if state == "RUNNING":
            store.claim(job_id, 1, "runner")
        if state == "SUCCEEDED":
            store.finish(job_id, 1, finish())
        with pytest.raises(ConflictError, match=f"is {state}: only a job that waits can be held"):
            store.order.hold(job_id, by="me")
        store.order.release(job_id, by="me")
        assert store.job(job_id).state == state
    with pytest.raises(NotFoundError):
        store.order.hold("nosuch", by="me")


def test_a_held_job_is_cancelled_at_once_and_a_retry_is_not_held(store: Store, database: str) -> None:
    (job_id,) = submitted(store, 1)
    store.order.hold(job_id, by="me")
    over = store.cancel(job_id, by="me")
    assert (over.state, over.reason) == (JobState.CANCELLED, None)
    assert over.ended_at is not None
    assert store.retry(job_id, by="me").state is JobState.QUEUED
    assert admitted(store) == [job_id]
    check_database(database)


def test_another_priority_is_another_place_in_the_line(store: Store, database: str) -> None:
    first, second, third = submitted(store, 3)
    store.order.reprioritize(third, 5, by="root")
    store.order.reprioritize(first, -5, by="ann")
    assert [store.job(job_id).position for job_id in (third, second, first)] == [1, 2, 3]
    assert admitted(store) == [third, second]
    store.claim(third, 1, "runner")
    store.order.reprioritize(third, -9, by="ann")  # counts when it is in the line again
    store.finish(third, 1, finish("failed", error="bang"))
    end_backoff(database, third)
    assert [store.job(job_id).position for job_id in (first, third)] == [1, 2]
    assert store.job(third).spec["priority"] == 0  # what was submitted stays
    store.cancel(first, by="me")
    with pytest.raises(ConflictError, match="is CANCELLED: it has no place in the line"):
        store.order.reprioritize(first, 0, by="me")


def labelled(store: Store, owner: str, **labels: str) -> Job:
    return store.submit(spec().model_copy(update={"labels": labels}), owner=owner)


def test_jobs_are_found_by_owner_labels_and_time(store: Store) -> None:
    start = time.time()
    both = labelled(store, "ann", team="vision", stage="1")
    one = labelled(store, "bob", team="vision")
    labelled(store, "bob", team="sound")
    end = time.time()

    def ids(**which: object) -> list[str]:
        return [job.id for job in store.jobs(which=Which.model_validate(which))]

    assert ids(labels={"team": "vision"}) == [one.id, both.id]
    assert ids(labels={"team": "vision", "stage": "1"}) == [both.id]
    assert ids(labels={"team": "vision"}, owner="bob") == [one.id]
    assert ids(labels={"nosuch": "1"}) == []
    assert len(ids(since=start - 1, until=end + 1)) == 3
    assert ids(since=end + 60) == ids(until=start - 60) == []
    assert [job.id for job in store.jobs(owner="ann", which=Which(owner="bob"))] == []
    assert [job.id for job in store.jobs(before=one.id, which=Which(labels={"team": "vision"}))] == [both.id]


def test_jobs_of_before_are_ordered_too(store: Store, database: str) -> None:
    first, second = submitted(store, 2)
    assert admitted(store) == [first, second]
    store.claim(first, 1, "runner")
    before_order(database)
    store.migrate()
    store.heartbeat(first, 1, "runner")
    third = labelled(store, "me", team="vision").id
    store.order.hold(third, by="me")
    store.finish(first, 1, finish())
    assert admitted(store) == []
    store.order.release(third, by="me")
    assert admitted(store) == [third]
    check_database(database)
