"""Jobs that come after others: met, never met, in chains, and cancelled or tried again meanwhile. Both databases."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.errors import ConflictError, NotFoundError
from service.kinds.train.spec import TrainSpec
from service.queue.jobs import JobState
from service.queue.store import Store
from tests.contract.queue_checks import check_database, cluster, finish, spec

OUTCOMES = {"SUCCEEDED": "succeeded", "FAILED": "failed", "CANCELLED": "cancelled"}
WANTED = ("succeeded", "failed", "ended")
FEW = settings(phases=[Phase.generate], max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))


def after(*written: str) -> TrainSpec:
    return TrainSpec.model_validate({**spec().model_dump(mode="json"), "after": written})


def submitted(store: Store, *written: str) -> str:
    store.observe_cluster(cluster(8), address="ray", ok=True)
    return store.submit(after(*written), owner="me").id


def end(store: Store, job_id: str, how: str) -> None:
    """End a job that waits in the line or has been admitted."""
    store.admit()
    number = store.job(job_id).attempt
    store.claim(job_id, number, "runner")
    if how == "CANCELLED":
        store.cancel(job_id, by="me")
    store.finish(job_id, number, finish(OUTCOMES[how], retryable=False))


def states(store: Store, *job_ids: str) -> list[str]:
    store.admit()
    return [store.job(job_id).state.value for job_id in job_ids]


@pytest.mark.parametrize("how", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_each_way_to_end_meets_what_was_wanted_or_never_will(store: Store, database: str, how: str) -> None:
    first = submitted(store)
    waiting = [submitted(store, f"{first}:{wanted}") for wanted in WANTED]
    for job_id in waiting:
        job = store.job(job_id)
        assert (job.state, job.position) == (JobState.HELD, None)
        assert str(job.reason).startswith(f"starts after job {first} has ")
    store.admit()
    assert [store.job(job_id).state for job_id in waiting] == [JobState.HELD] * 3
    end(store, first, how)
    met = ("succeeded", "ended") if how == "SUCCEEDED" else ("failed", "ended")
    expected = ["STARTING" if wanted in met else "FAILED" for wanted in WANTED]
    assert states(store, *waiting) == expected
    for job_id, state in zip(waiting, expected, strict=True):
        job = store.job(job_id)
        assert (job.ended_at is not None) == (state == "FAILED")
        reason = f"job {first} is {how}, and this one was to start after it has "
        assert job.reason is None if state == "STARTING" else str(job.reason).startswith(reason)
    check_database(database)


def test_a_spec_says_what_it_waits_for_and_each_job_once() -> None:
    assert after("j-1", "j-2:ended").after == ("j-1:succeeded", "j-2:ended")
    for wrong in ("j-1:sometime", "", ":ended", "j-1:succeeded:ended"):
        with pytest.raises(ValueError, match="pattern"):
            after(wrong)
    with pytest.raises(ValueError, match="j-1 is named more than once"):
        after("j-1", "j-1:failed")


def test_what_was_met_before_the_submission_waits_for_nothing_and_what_never_can_is_refused(store: Store) -> None:
    first = submitted(store)
    end(store, first, "SUCCEEDED")
    assert store.job(submitted(store, first)).state is JobState.QUEUED
    with pytest.raises(ConflictError, match=f"after: job {first} is SUCCEEDED, and this one was to start after it has"):
        submitted(store, f"{first}:failed")
    with pytest.raises(NotFoundError, match="no job 'nosuch'"):
        submitted(store, "nosuch")
    with pytest.raises(ConflictError, match=r"spec 2 of 2 \(job\): after: job"):
        store.submit_all([(after(), None), (after(f"{first}:failed"), None)], owner="me")
    assert len(store.jobs()) == 2


def test_a_chain_that_breaks_ends_whole_at_one_look_and_a_retry_mends_it(store: Store, database: str) -> None:
    first = submitted(store)
    second = submitted(store, first)
    third = submitted(store, second)
    alarm = submitted(store, f"{third}:failed")
    end(store, first, "FAILED")
    assert states(store, first, second, third, alarm) == ["FAILED", "FAILED", "FAILED", "STARTING"]
    for job_id in (first, second, third):
        store.retry(job_id, by="me")
    assert [store.job(job_id).state.value for job_id in (first, second, third)] == ["QUEUED", "HELD", "HELD"]
    assert states(store, first, second, third) == ["STARTING", "HELD", "HELD"]
    end(store, first, "SUCCEEDED")
    assert states(store, second, third) == ["STARTING", "HELD"]
    end(store, second, "SUCCEEDED")
    assert states(store, third) == ["STARTING"]
    check_database(database)


def test_several_are_all_waited_for_and_a_hold_keeps_it_after_that(store: Store) -> None:
    first, second = submitted(store), submitted(store)
    both = submitted(store, first, f"{second}:ended")
    store.order.hold(both, by="ann")
    end(store, first, "SUCCEEDED")
    assert states(store, both) == ["HELD"]
    assert store.job(both).reason == (
        f"starts after job {second} has ended; held by ann; `vaesvc release {both}` puts it into the line"
    )
    store.order.release(both, by="ann")
    assert store.job(both).reason == f"starts after job {second} has ended"
    end(store, second, "FAILED")
    assert states(store, both) == ["STARTING"]


def test_a_cancelled_job_that_waits_is_looked_at_no_more(store: Store) -> None:
    first = submitted(store)
    second = submitted(store, first)
    store.cancel(second, by="me")
    end(store, first, "FAILED")
    assert states(store, second) == ["CANCELLED"]
    store.retry(second, by="me")
    assert states(store, second) == ["FAILED"]


@FEW
@given(data=st.data())
def test_in_any_graph_everything_ends_and_nothing_starts_before_it_may(store: Store, data: st.DataObject) -> None:
    """Against a model: jobs with random dependencies, ended in random ways, in whatever order they may start."""
    wanted: dict[str, dict[str, str]] = {}
    ids: list[str] = []
    for _ in range(data.draw(st.integers(1, 7))):
        chosen = data.draw(st.lists(st.sampled_from(ids), max_size=3, unique=True)) if ids else []
        mine = {before: data.draw(st.sampled_from(WANTED)) for before in chosen}
        job_id = submitted(store, *(f"{before}:{how}" for before, how in mine.items()))
        wanted[job_id] = mine
        ids.append(job_id)
    met = {"succeeded": {"SUCCEEDED"}, "failed": {"FAILED", "CANCELLED"}, "ended": {"SUCCEEDED", "FAILED", "CANCELLED"}}
    over: dict[str, str] = {}
    while len(over) < len(ids):
        store.admit()
        now = {job.id: job.state for job in store.jobs(limit=len(ids))}
        for job_id in ids:
            state = now[job_id]
            before = {name: over.get(name) for name in wanted[job_id]}
            if state.final and job_id not in over:
                over[job_id] = state.value
                assert any(end is not None and end not in met[wanted[job_id][name]] for name, end in before.items())
            elif state is JobState.STARTING:
                assert all(end in met[wanted[job_id][name]] for name, end in before.items())
        going = [job_id for job_id in ids if now[job_id] is JobState.STARTING]
        if going:
            job_id = data.draw(st.sampled_from(going))
            how = data.draw(st.sampled_from(sorted(OUTCOMES)))
            end(store, job_id, how)
            over[job_id] = how
        else:
            assert len(over) == len(ids)
