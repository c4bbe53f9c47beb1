"""The store's contract, on every database."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from service.errors import ConflictError, ImpossibleError, NotFoundError
from service.queue.acts import Act
from service.queue.gathering import outcomes
from service.queue.jobs import AttemptState, Capacity, Job, JobState, Resources
from service.queue.store import Store
from service.queue.submission import Submission
from tests.contract.queue_checks import (
    RUNNER,
    cluster,
    finish,
    kinds,
    spec,
    sql,
    started,
)

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


@pytest.mark.parametrize("seen", [True, False])
def test_the_same_key_and_spec_is_the_same_job(store: Store, seen: bool) -> None:
    """Whether the key is looked for first, or the insert tells."""
    if seen:
        store.observe_cluster(cluster(4), address="ray", ok=True)
    first = store.submit(spec("one"), owner="me", key="k")
    assert store.submit(spec("one"), owner="me", key="k").id == first.id
    assert kinds(store, first) == ["submitted"]
    with pytest.raises(ConflictError, match=f"'k' was used for another spec, by {first.id}"):
        store.submit(spec("two"), owner="me", key="k")
    assert store.submit(spec("two"), owner="you", key="k").id != first.id
    assert len({store.submit(spec("one"), owner="me").id for _ in range(3)}) == 3
    store.cancel(first.id, by="me")
    assert store.submit(spec("one"), owner="me", key="k").state is JobState.CANCELLED


@pytest.mark.parametrize("other", [{}, {"priority": 5}, {"labels": {"a": "b"}}], ids=["plain", "priority", "labels"])
def test_those_who_submit_at_the_same_time_are_told_of_their_own(store: Store, other: dict[str, Any]) -> None:
    """Whether they are put by one statement or in a transaction."""
    used = store.submit(spec("used"), owner="me", key="k")
    asked = [("you", None, "one"), ("me", "k", "used"), ("me", "k", "two"), ("me", "n", "new"), ("me", "n", "new")]
    act = Act(act="POST", status=200)
    specs = [spec(name).model_copy(update=other if name == "one" else {}) for _, _, name in asked]
    together = [Submission.of(one, owner, key, act) for one, (owner, key, _) in zip(specs, asked, strict=True)]
    told = outcomes(store._put_several, together)
    refused = told.pop(2)
    assert isinstance(refused, ConflictError)
    assert f"'k' was used for another spec, by {used.id}" in str(refused)
    one, again, new, same = (job for job in told if isinstance(job, Job))
    assert (again.id, same.id) == (used.id, new.id)
    assert sorted(job.name for job in store.jobs()) == ["new", "one", "used"]
    assert [store.job(job.id) for job in (one, again, new, same)] == [one, again, new, same]
    assert sorted(act.object for act in store.audit.acts()) == sorted(job.id for job in (one, again, new, same))
    assert [kinds(store, job) for job in (one, new)] == [["submitted"], ["submitted"]]


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


def test_what_the_audit_log_says_of_a_submit_is_written_with_the_job_or_not_at_all(store: Store) -> None:
    """Also of callers whose jobs are put into the line together, of a key that was used, and of a batch."""
    store.observe_cluster(cluster(4), address="ray", ok=True)
    act = Act(actor="me", act="POST /v1/jobs", status=200)

    def put(number: int) -> str:
        return store.submit(spec(f"n{number}"), owner="me", key=f"k{number % 8}", act=act).id

    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(put, range(8)))
        assert sorted(each.object for each in store.audit.acts()) == sorted(ids)
        with pytest.raises(ConflictError):
            list(threads.map(put, range(8, 16)))
    assert store.submit(spec("n3"), owner="me", key="k3", act=act).id == ids[3]
    batch = store.submit_all([(spec("a"), None), (spec("b"), None)], owner="me", act=act)
    with pytest.raises(ConflictError):
        store.submit_all([(spec("c"), None), (spec("d"), "k0")], owner="me", act=act)
    newest, before, *first = store.audit.acts()
    assert (newest.object, before.object) == (f"{batch[0].id} {batch[1].id}", ids[3])
    assert len(first) == 8
    assert {(each.actor, each.act, each.status) for each in first} == {("me", "POST /v1/jobs", 200)}


def test_writers_at_once_each_get_their_own_answer(store: Store) -> None:
    """What one of them is refused undoes nothing of the others, in whatever transaction they were."""
    store.observe_cluster(cluster(4), address="ray", ok=True)
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


# --- tokens -----------------------------------------------------------------------------------------------------------


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
