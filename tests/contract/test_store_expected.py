"""When jobs that wait are expected to start: written down by a look, read by whoever asks, held to what happened."""

from __future__ import annotations

import time

import pytest

from service.queue import expecting, forecast
from service.queue.share_records import Bounds
from service.queue.store import Store
from service.wire import ProgressReport
from tests.contract.queue_checks import before_expected, check_database, cluster, finish, spec, sql


def running(store: Store, left: float | None, cpus: float = 2) -> str:
    """A job that runs, and tells how long it still does."""
    job_id = store.submit(spec(cpus_per_worker=cpus), owner="ann").id
    assert [attempt.job_id for attempt in store.admit()] == [job_id]
    store.claim(job_id, 1, "runner")
    if left is not None:
        report = {"step": 5, "total_steps": 10, "seconds_left": left}
        store.progress(job_id, 1, ProgressReport(progress=report))
    return job_id


def look(store: Store, database: str) -> dict[str, float]:
    """Look as if the last look were long ago."""
    sql(database, "UPDATE vaesvc_expected SET made_at = made_at - 60")
    return store.expected.look()


def waits(store: Store, job_id: str) -> tuple[float, float]:
    told = store.job(job_id).expected_start
    assert told is not None
    return told[0] - time.time(), told[1] - time.time()


def test_the_first_in_line_is_told_when_what_runs_ends(store: Store, database: str) -> None:
    store.observe_cluster(cluster(2), address="ray", ok=True)
    running(store, left=10_000.0)
    first, second = (store.submit(spec(cpus_per_worker=2), owner="ann").id for _ in range(2))
    assert store.job(first).expected_start is None  # nobody has looked
    look(store, database)
    early, late = waits(store, first)
    assert 1000 < early < 10_000 < late < 100_000
    assert waits(store, second)[1] > late
    assert [job.expected_start is not None for job in store.jobs()] == [True, True, False]
    assert store.detail(first).job.expected_start is not None
    assert store.submit(spec(cpus_per_worker=2), owner="ann").expected_start == store.job(second).expected_start


def test_a_look_just_after_another_one_changes_nothing_and_an_old_one_says_nothing(store: Store, database: str) -> None:
    store.observe_cluster(cluster(2), address="ray", ok=True)
    running(store, left=10_000.0)
    job_id = store.submit(spec(cpus_per_worker=2), owner="ann").id
    look(store, database)
    sql(database, "UPDATE vaesvc_expected SET made_at = made_at + 100")  # however slow this machine is
    before = sql(database, "SELECT * FROM vaesvc_expected")
    store.expected.look()
    assert sql(database, "SELECT * FROM vaesvc_expected") == before
    sql(database, "UPDATE vaesvc_expected SET made_at = made_at - 10000")
    assert store.job(job_id).expected_start is None


def test_what_came_after_the_look_is_told_by_its_place_and_what_cannot_start_is_told_nothing(
    store: Store, database: str
) -> None:
    store.observe_cluster(cluster(2), address="ray", ok=True)
    running(store, left=1000.0)
    known = [store.submit(spec(cpus_per_worker=2), owner="ann").id for _ in range(4)]
    beyond_a_quota = store.submit(spec(cpus_per_worker=2), owner="eve").id
    store.shares.set_quota("user", "eve", Bounds(cpus=1))
    store.admit()
    look(store, database)
    other_lane, same_lane = (store.submit(spec(cpus_per_worker=2), owner=owner).id for owner in ("bob", "ann"))
    assert store.job(beyond_a_quota).expected_start is None
    for job_id in (other_lane, same_lane):
        assert waits(store, job_id)[1] >= waits(store, known[-1])[1] - 5
    look(store, database)
    store.observe_cluster(cluster(1), address="ray", ok=True)
    look(store, database)
    assert store.job(known[0]).expected_start is None  # too large for what is there now
    store.observe_cluster(cluster(1), address="ray", ok=False)
    look(store, database)
    assert sql(database, "SELECT * FROM vaesvc_expected") == []


def test_ranges_are_held_to_what_happened_and_calibrated_by_it(
    store: Store, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run says that it ends in 10,000 s, and ends at once."""
    monkeypatch.setattr(forecast, "FEWEST", 4)
    monkeypatch.setattr(expecting, "CHECK_SECONDS", 0.0)
    store.observe_cluster(cluster(2), address="ray", ok=True)
    going, told = running(store, left=10_000.0), {}
    ids = [store.submit(spec(cpus_per_worker=2), owner="ann").id for _ in range(6)]
    for job_id in ids:
        told = look(store, database)
        store.finish(going, 1, finish())
        assert [attempt.job_id for attempt in store.admit()] == [job_id]
        store.claim(job_id, 1, "runner")
        store.progress(job_id, 1, ProgressReport(progress={"step": 1, "total_steps": 9, "seconds_left": 10_000.0}))
        going = job_id
    assert told["expected_start_judged"] >= 4
    assert 0 <= told["expected_start_within"] < 1
    cancelled = store.submit(spec(cpus_per_worker=2), owner="ann").id
    look(store, database)
    assert waits(store, cancelled)[0] < 4000  # they always came sooner
    store.cancel(cancelled, by="ann")
    judged = look(store, database)["expected_start_judged"]
    assert judged <= len(ids)  # of one that was cancelled nothing came
    assert look(store, database)["expected_start_judged"] == judged
    check_database(database)


def test_an_empty_line_is_not_written_down(store: Store, database: str) -> None:
    store.observe_cluster(cluster(2), address="ray", ok=True)
    assert look(store, database) == {}
    assert sql(database, "SELECT * FROM vaesvc_expected") == []
    job_id = store.submit(spec(cpus_per_worker=2), owner="ann").id
    look(store, database)
    assert waits(store, job_id)[0] <= 0
    store.cancel(job_id, by="ann")
    look(store, database)
    assert sql(database, "SELECT * FROM vaesvc_expected") == []


def test_a_database_of_before_gets_its_tables_while_jobs_run(store: Store, database: str) -> None:
    store.observe_cluster(cluster(2), address="ray", ok=True)
    going = running(store, left=1000.0)
    job_id = store.submit(spec(cpus_per_worker=2), owner="ann").id
    before_expected(database)
    store.migrate()
    look(store, database)
    assert waits(store, job_id)[0] > 0
    store.finish(going, 1, finish())
    assert [attempt.job_id for attempt in store.admit()] == [job_id]
    check_database(database)
