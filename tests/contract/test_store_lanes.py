"""The line by lanes: read only as far as it starts, upgraded while jobs run, and never planned to be read."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from service.queue import line, scheduling
from service.queue.jobs import JobState, Resources
from service.queue.store import Store
from tests.contract.queue_checks import before_lanes, check_database, cluster, finish, spec, sql


def filled(store: Store) -> dict[str, list[str]]:
    """One job that runs, one that is over, and a line of two owners, two priorities and two kinds of gangs."""
    store.observe_cluster(cluster(4), address="ray", ok=True)
    over, runs = (store.submit(spec(cpus_per_worker=2), owner="ann").id for _ in range(2))
    for attempt in store.admit():
        store.claim(attempt.job_id, attempt.number, "runner")
    store.finish(over, 1, finish())
    waiting = [
        store.submit(spec(cpus_per_worker=cpus, priority=priority), owner=owner).id
        for cpus, priority, owner in ((3, 0, "ann"), (4, 0, "bob"), (3, 5, "bob"), (3, 0, "ann"), (4, 0, "bob"))
    ]
    return {"over": [over], "runs": [runs], "waiting": waiting}


def names(database: str) -> dict[str, str]:
    """Each job's lane, whether or not it has begun."""
    lanes = sql(database, "SELECT id, lane FROM vaesvc_jobs")
    return {job_id: lane.removeprefix(line.BEGUN) for job_id, lane in lanes}


def test_an_upgrade_gives_every_job_its_lane_while_jobs_run(store: Store, database: str) -> None:
    ids = filled(store)
    before = names(database)
    assert len({before[job_id] for job_id in ids["waiting"]}) == 3
    before_lanes(database)
    store.migrate()
    assert names(database) == before
    store.heartbeat(ids["runs"][0], 1, "runner")
    assert store.admit() == []
    store.finish(ids["runs"][0], 1, finish())
    assert [a.job_id for a in store.admit()] == [ids["waiting"][2]]
    check_database(database)


def test_what_a_process_of_before_the_upgrade_submits_is_planned_too(store: Store, database: str) -> None:
    ids = filled(store)
    before = names(database)
    sql(database, "UPDATE vaesvc_jobs SET lane = '' WHERE state = 'QUEUED'")
    store.finish(ids["runs"][0], 1, finish())
    assert [a.job_id for a in store.admit()] == [ids["waiting"][2]]
    assert names(database) == before


def test_lanes_are_the_line(store: Store) -> None:
    ids = filled(store)
    with store._read() as work:
        lanes = {(lane.priority, lane.resources): [job.job_id for job in lane.jobs] for lane in line.lanes(work)}
    first, second, urgent, third, fourth = ids["waiting"]
    three, four = Resources(cpus_per_worker=3), Resources(cpus_per_worker=4)
    assert lanes == {(0, three): [first, third], (0, four): [second, fourth], (5, three): [urgent]}
    assert {job.id: job.position for job in store.jobs(states=[JobState.QUEUED])} == {
        job_id: place for place, job_id in enumerate((urgent, first, second, third, fourth), start=1)
    }
    assert [store.job(job_id).position for job_id in ids["waiting"]] == [2, 3, 1, 4, 5]


def test_a_long_lane_is_read_in_order_and_only_as_far_as_asked(store: Store) -> None:
    ids = [store.submit(spec(), owner="me").id for _ in range(line.CHUNK + 5)]
    with store._read() as work:
        statements: list[str] = []
        sa.event.listen(work.connection, "before_cursor_execute", lambda *a: statements.append(a[2]))
        (lane,) = line.lanes(work)
        assert next(lane.jobs).job_id == ids[0]
        assert len(statements) == 1
        assert [job.job_id for job in lane.jobs] == ids[1:]
        assert len(statements) == 4  # one for the lanes, two chunks, and the one that is empty


def test_reading_a_job_plans_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = filled(store)

    def planned(*_: object, **__: object) -> None:
        raise AssertionError("a read planned")

    store.admit()
    monkeypatch.setattr(scheduling, "plan", planned)
    for job in (store.job(ids["waiting"][0]), store.detail(ids["waiting"][0]).job):
        assert (job.position, job.reason) == (2, "needs 1 x (3 CPU); free now: 2 CPU. It waits for running jobs to end")
    assert len(store.jobs()) == 7


def test_places_in_a_long_line_are_counted_from_marks(
    store: Store, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = filled(store)["waiting"]
    ids += [store.submit(spec(priority=priority), owner="cyd").id for priority in (0, 0, 0, 5, 0, -1, -1)]
    in_order = [job_id for _, job_id in sorted((-store.job(job_id).priority, job_id) for job_id in ids)]
    exact = {job_id: place for place, job_id in enumerate(in_order, start=1)}
    assert {job_id: store.job(job_id).position for job_id in ids} == exact
    monkeypatch.setattr(line, "SHORT", 4)
    monkeypatch.setattr(line, "SPACING", 3)
    store.observe_cluster(cluster(2), address="ray", ok=True)  # all of it is taken: nothing starts
    sql(database, "UPDATE vaesvc_plan SET marked_at = 0")
    assert store.admit() == []
    assert sql(database, "SELECT marks FROM vaesvc_plan") != [("{}",)]
    assert {job_id: store.job(job_id).position for job_id in ids} == exact
    assert {job.id: job.position for job in store.jobs(states=[JobState.QUEUED])} == exact
    told = [store.submit(spec(priority=priority), owner="dan") for priority in (-1, 9)]
    last, urgent = (job.id for job in told)
    assert [job.position for job in told] == [len(ids) + 1, 1]
    assert store.job(last).position == len(ids) + 1  # as of the marks: the urgent one came afterwards
    assert store.job(urgent).position == 1
    store.cancel(in_order[-1], by="cyd")
    assert store.job(last).position == len(ids)
    sql(database, "UPDATE vaesvc_plan SET marked_at = 0")
    store.admit()
    assert store.job(last).position == len(ids) + 1
