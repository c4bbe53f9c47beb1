"""Arrays: so many at once and no more, in lists one, and back in the line in turn. Both databases."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.errors import ConflictError
from service.kinds.train.spec import TrainSpec
from service.queue.jobs import JobState
from service.queue.listing import Which
from service.queue.store import Store
from tests.contract.queue_checks import check_database, cluster, end_backoff, finish, spec

FEW = settings(phases=[Phase.generate], max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
GOING = (JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.CANCELLING)


def member(index: int, *, array: str = "a-1", size: int = 5, at_most: int | None = 2) -> TrainSpec:
    place = {"id": array, "index": index, "size": size, "at_most": at_most}
    return TrainSpec.model_validate({**spec(f"job/{index}").model_dump(mode="json"), "array": place})


def submitted(store: Store, size: int = 5, *, array: str = "a-1", at_most: int | None = 2) -> list[str]:
    store.observe_cluster(cluster(16), address="ray", ok=True)
    specs = [(member(index, array=array, size=size, at_most=at_most), None) for index in range(size)]
    return [job.id for job in store.submit_all(specs, owner="me")]


def end(store: Store, job_id: str, outcome: str = "succeeded") -> None:
    number = store.job(job_id).attempt
    store.claim(job_id, number, "runner")
    store.finish(job_id, number, finish(outcome, retryable=False))


def admitted(store: Store) -> list[str]:
    return sorted(attempt.job_id for attempt in store.admit())


def test_so_many_go_on_at_once_and_the_next_when_one_is_over(store: Store, database: str) -> None:
    ids = submitted(store)
    held = store.job(ids[0])
    assert held.state is JobState.HELD
    assert held.reason == "waits for its turn: 2 at most of the array a-1 go on at once"
    assert admitted(store) == ids[:2]
    assert admitted(store) == []
    end(store, ids[0])
    assert admitted(store) == [ids[2]]
    end(store, ids[1], "failed")
    end(store, ids[2])
    assert admitted(store) == ids[3:]
    store.retry(ids[1], by="me")
    assert store.job(ids[1]).state is JobState.HELD
    assert admitted(store) == []
    end(store, ids[3])
    assert admitted(store) == [ids[1]]
    check_database(database)


def test_a_failed_attempt_keeps_the_turn(store: Store, database: str) -> None:
    ids = submitted(store)
    admitted(store)
    store.claim(ids[0], 1, "runner")
    store.finish(ids[0], 1, finish("failed", error="bang"))
    end_backoff(database, ids[0])
    assert admitted(store) == [ids[0]]


def test_held_members_and_those_that_come_after_others_let_the_next_pass(store: Store) -> None:
    ids = submitted(store)
    store.order.hold(ids[1], by="me")
    assert admitted(store) == [ids[0], ids[2]]
    store.order.release(ids[1], by="me")
    assert store.job(ids[1]).reason == "waits for its turn: 2 at most of the array a-1 go on at once"
    end(store, ids[0])
    assert admitted(store) == [ids[1]]


def test_an_array_without_a_limit_is_in_the_line_at_once(store: Store) -> None:
    ids = submitted(store, at_most=None)
    assert admitted(store) == ids


def test_in_lists_an_array_is_one_with_its_counts(store: Store) -> None:
    alone = store.submit(spec(), owner="me").id
    ids = submitted(store)
    others = submitted(store, 3, array="a-2", at_most=None)
    admitted(store)
    listed = store.jobs(which=Which(together=True))
    assert [job.id for job in listed] == [others[0], ids[0], alone]
    assert [job.states for job in listed] == [{"STARTING": 3}, {"STARTING": 2, "HELD": 3}, {}]
    assert [job.array for job in listed] == ["a-2", "a-1", None]
    assert [job.id for job in store.jobs(which=Which(array="a-1"))] == ids[::-1]
    assert len(store.jobs()) == 9


def test_an_array_is_one_users_and_of_one_form(store: Store) -> None:
    submitted(store)
    with pytest.raises(ConflictError, match="a-1 is another user's array"):
        store.submit(member(0), owner="other")
    with pytest.raises(ConflictError, match="a-1 has 5 jobs, 2 at once; not 5, all"):
        store.submit(member(0, at_most=None), owner="me")
    assert len(store.jobs()) == 5


def test_an_array_that_comes_in_pieces_goes_on(store: Store) -> None:
    (first,) = store.submit_all([(member(0, size=2), None)], owner="me")
    store.observe_cluster(cluster(16), address="ray", ok=True)
    assert admitted(store) == [first.id]
    end(store, first.id)
    assert admitted(store) == []
    (second,) = store.submit_all([(member(1, size=2), None)], owner="me")
    assert admitted(store) == [second.id]


@FEW
@given(data=st.data(), at_most=st.integers(1, 3), size=st.integers(1, 6))
def test_never_more_at_once_and_all_in_the_end(store: Store, data: st.DataObject, at_most: int, size: int) -> None:
    array = f"a-{len(store.jobs(limit=1000))}x"
    submitted(store, size, array=array, at_most=at_most)
    retried = 0
    for _ in range(60):
        store.admit()
        jobs = {job.id: job for job in store.jobs(which=Which(array=array))}
        going = [job_id for job_id, job in jobs.items() if job.state in GOING]
        assert len(going) <= at_most
        left = [job_id for job_id, job in jobs.items() if not job.state.final]
        assert len(going) == min(at_most, len(left))
        waiting = [job_id for job_id in left if jobs[job_id].state is JobState.HELD]
        over = [job_id for job_id, job in jobs.items() if job.state in (JobState.FAILED, JobState.CANCELLED)]
        if over and retried < 3 and data.draw(st.booleans()):
            store.retry(data.draw(st.sampled_from(over)), by="me")
            retried += 1
        elif waiting and data.draw(st.integers(0, 3)) == 0:
            store.cancel(data.draw(st.sampled_from(waiting)), by="me")
        elif going:
            end(store, data.draw(st.sampled_from(going)), data.draw(st.sampled_from(["succeeded", "failed"])))
        elif not left:
            return
    raise AssertionError("the array does not end")
