"""Nodes, and operators' drains of them: what is known, obeyed, waited for and forgotten. Both databases."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from service.attempt.assignment import AttemptAccess
from service.code.shelf import Shelf
from service.dispatch.decisions import Limits
from service.dispatch.dispatcher import Dispatcher
from service.dispatch.machines import Machines
from service.dispatch.ray_jobs import RayNode
from service.errors import ConflictError, NotFoundError, UsageError
from service.queue.jobs import Attempt, AttemptState, JobState
from service.queue.node_records import Node, SeenNode
from service.queue.store import Store
from tests.contract.queue_checks import before_nodes, check_database, checkpoint, cluster, finish, spec, sql
from tests.local_cluster import LocalCluster, NoDrains

RUNNER = "runner"
DAY = 86_400.0
HEAD = SeenNode(id="head0", address="10.0.0.1", head=True, resources={"CPU": 1.0})
FIRST = SeenNode(id="aa11", address="10.0.0.2", resources={"CPU": 4.0})
SECOND = SeenNode(id="aa22", address="10.0.0.3", resources={"CPU": 4.0})
ALL = (HEAD, FIRST, SECOND)


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    opened = open_store(settle_seconds=0.0)
    opened.observe_cluster(cluster(4, 4), address="ray", ok=True)
    opened.nodes.observe(ALL)
    return opened


def listed(store: Store) -> dict[str, Node]:
    return {node.id: node for node in store.nodes.all()}


def running(store: Store) -> str:
    """A job with an attempt that has been claimed."""
    job_id = store.submit(spec(), owner="ann").id
    store.admit()
    store.mark_submitted(job_id, 1)
    store.claim(job_id, 1, RUNNER)
    return job_id


class Ray:
    """Two nodes beside the head; the attempts that are named have workers on the first."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def nodes(self) -> tuple[RayNode, ...]:
        return tuple(
            RayNode(id=node.id, address=node.address, head=node.head, resources=node.resources) for node in ALL
        )

    def places(self) -> dict[str, frozenset[str]]:
        return {name: frozenset({FIRST.id}) for name in self.names}


class Notices:
    def __init__(self, draining: Mapping[str, float | None]) -> None:
        self.draining = draining

    def read(self) -> Mapping[str, float | None]:
        return self.draining


def looks(store: Store, ray: Ray, draining: Mapping[str, float | None] | None = None) -> Machines:
    """What a dispatcher does of its look at the nodes."""
    machines = Machines(ray, Notices(draining or {}))  # type: ignore[arg-type]
    machines.look(store.nodes.drained())
    store.nodes.observe(machines.seen())
    return machines


def test_an_attempt_on_a_node_that_an_operator_drains_goes_on_elsewhere_at_no_cost(store: Store, database: str) -> None:
    job_id = running(store)
    name = f"{job_id}-1"
    ray = Ray(name)
    assert looks(store, ray).drained([name]) == {}
    (drained,) = store.nodes.drain("aa1", by="opal", because="new memory")
    assert (drained.attempts, drained.empty) == ((name,), False)
    machines = looks(store, ray)
    (nodes,) = machines.drained([name]).values()
    why = "leaves its node: node aa11 (10.0.0.2) is being drained by opal (new memory)"
    assert store.drains.ask(job_id, 1, nodes, grace=60.0) == f"{name} {why}"
    reply = store.heartbeat(job_id, 1, RUNNER)
    assert reply.stop == why
    assert reply.grace == pytest.approx(60.0, abs=30)
    store.commit_checkpoint(job_id, 1, checkpoint(1, 12))
    after = store.finish(job_id, 1, finish("failed", error=why))
    assert (after.state, after.failures, after.outages, after.not_before) == (JobState.QUEUED, 0, 0, 0.0)
    assert store.detail(job_id).attempts[0].state is AttemptState.REQUEUED
    assert store.nodes.kept_away_from() == ("aa11",)
    looks(store, Ray())
    assert listed(store)["aa11"].empty
    assert not listed(store)["aa22"].empty  # nobody drains it
    assert [node.drain for node in store.nodes.resume("10.0.0.2")] == [None]
    assert store.nodes.kept_away_from() == ()
    assert looks(store, ray).drained([name]) == {}
    check_database(database, cpus=8)


def test_rays_notices_and_operators_drains_are_one(store: Store) -> None:
    store.nodes.drain("aa11", by="opal", because="new memory")
    machines = looks(store, Ray("a-1"), {"aa11": 1000.0, "aa22": None})
    assert machines.look(store.nodes.drained()).nodes == ({"CPU": 1.0},)
    (both,) = machines.drained(["a-1"])["a-1"]
    said = "node aa11 (10.0.0.2) is being drained by opal (new memory), and is gone at 1970-01-01 00:16:40 UTC"
    assert str(both) == said
    known = listed(store)
    assert [(node.ray_drains, node.ray_deadline, node.drain is not None) for node in known.values()] == [
        (False, None, False), (True, 1000.0, True), (True, None, False),
    ]  # fmt: skip
    store.nodes.resume("aa11")  # Ray's own stays
    assert machines.look(store.nodes.drained()).nodes == ({"CPU": 1.0},)
    assert listed(store)["aa11"].ray_drains
    store.nodes.drain("head0", by="opal")
    assert machines.look(store.nodes.drained()).nodes == ()
    assert set(machines.drained(["a-1", "b-1"])) == {"a-1", "b-1"}  # all runners are there


def test_the_same_again_changes_nothing_and_another_reason_or_end_does(store: Store) -> None:
    (first,) = store.nodes.drain("aa11", by="opal", because="a")
    assert store.nodes.drain("10.0.0.2", by="otto", because="a") == [first]
    until = time.time() + 3600
    (changed,) = store.nodes.drain("aa11", by="otto", because="b\x00", until=until)
    assert first.drain is not None
    assert changed.drain is not None
    assert changed.drain.since == first.drain.since
    assert (changed.drain.by, changed.drain.because, changed.drain.until) == (
        "otto",
        "b\N{REPLACEMENT CHARACTER}",
        until,
    )
    assert store.nodes.resume("aa11") == store.nodes.resume("aa11")
    with pytest.raises(UsageError, match="that moment has passed"):
        store.nodes.drain("aa11", by="opal", until=time.time() - 100)
    with pytest.raises(NotFoundError, match=r"no node 'b'; there are head0 \(10.0.0.1\), aa11 \(10.0.0.2\), aa22"):
        store.nodes.drain("b", by="opal")
    with pytest.raises(ConflictError, match=r"several nodes begin with 'aa': aa11 .*, aa22 .*Give more of the id"):
        store.nodes.resume("aa")
    assert store.nodes.drained() == {}


def test_who_waits_is_told_when_nothing_is_there_and_nothing_can_come(store: Store, database: str) -> None:
    job_id = running(store)
    name = f"{job_id}-1"
    (drained,) = store.nodes.drain("aa11", by="opal")
    assert not drained.empty  # the dispatcher has not looked since
    assert not listed(store)["head0"].empty
    assert listed(store)["head0"].attempts == (name,)
    looks(store, Ray())
    node = listed(store)["aa11"]
    assert (node.obeyed, node.attempts, node.undecided, node.empty) == (True, (), (name,), False)
    looks(store, Ray(name))
    assert listed(store)["aa11"].attempts == (name,)
    store.nodes.observe([HEAD, SeenNode(id="aa11", address="10.0.0.2", obeys=store.nodes.drained()["10.0.0.2"].since)])
    sql(database, "UPDATE vaesvc_attempts SET started_at = started_at + 60")  # it was claimed after the drain: it knows
    assert listed(store)["aa11"].empty
    store.nodes.resume("aa11")
    store.nodes.drain("aa11", by="opal")
    assert not listed(store)["aa11"].obeyed  # that was of the one before


def test_a_machine_that_is_started_again_is_drained_still_and_what_is_long_gone_is_forgotten(
    store: Store, database: str
) -> None:
    store.nodes.drain("aa11", by="opal")
    store.nodes.observe([HEAD, SECOND])
    gone = listed(store)["aa11"]
    assert gone.gone_at is not None
    assert gone.empty
    again = SeenNode(id="bb11", address=FIRST.address, resources={"CPU": 4.0})
    store.nodes.observe([HEAD, SECOND, again])
    assert set(listed(store)) == {"head0", "bb11", "aa22"}
    assert store.nodes.kept_away_from() == ("bb11",)
    store.nodes.drain("aa22", by="opal", until=time.time() + 3600)
    store.nodes.observe([HEAD])
    sql(database, f"UPDATE vaesvc_nodes SET gone_at = gone_at - {DAY + 60} WHERE gone_at IS NOT NULL")
    store.nodes.observe([HEAD])
    assert set(listed(store)) == {"head0", "aa22"}  # its maintenance has an end, which is to come
    assert set(store.nodes.drained()) == {"10.0.0.3"}
    sql(database, "UPDATE vaesvc_drains SET until = 1000")
    assert store.nodes.drained() == {}
    assert listed(store)["aa22"].drain is None
    store.nodes.drain("aa22", by="opal")  # in the place of one that is over
    assert set(store.nodes.drained()) == {"10.0.0.3"}
    store.nodes.observe([HEAD])
    assert set(listed(store)) == {"head0"}
    assert sql(database, "SELECT count(*) FROM vaesvc_drains") == [(0,)]


def test_a_dispatcher_obeys_what_is_in_sql_and_so_does_the_next_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dispatch.dispatcher._LOOK_SECONDS", 0.0)
    folder = tmp_path / "ray"
    folder.mkdir()
    ray = LocalCluster(folder, ({"CPU": 1.0}, {"CPU": 4.0}))

    def access(attempt: Attempt) -> AttemptAccess:
        return AttemptAccess(api_url="http://127.0.0.1:9", job_id=attempt.job_id, number=attempt.number, token="t")  # type: ignore[arg-type]

    def unused(code: object) -> bytes:
        raise AssertionError(code)

    def dispatcher() -> Dispatcher:
        return Dispatcher(
            store, ray, access, limits=Limits(), shelf=Shelf(unused), notices=NoDrains()  # type: ignore[arg-type]
        )  # fmt: skip

    first = dispatcher()
    first.tick()
    there = [(node.id, node.address, node.head) for node in store.nodes.all() if node.gone_at is None]
    assert there == [("0", "0", True), ("1", "1", False)]  # it has no addresses
    store.nodes.drain("1", by="opal")
    job_id = store.submit(spec(cpus_per_worker=2), owner="ann").id
    first.tick()
    assert store.cluster().nodes == ({"CPU": 1.0},)
    assert listed(store)["1"].empty
    second = dispatcher()
    second.tick()
    assert store.job(job_id).state is JobState.QUEUED  # not that it could never run
    store.nodes.resume("1")
    second.tick()
    assert store.job(job_id).state is JobState.STARTING
    assert f"{job_id}-1" in ray.jobs()
    store.nodes.drain("0", by="opal", because="the head")
    second.tick()
    (attempt,) = store.detail(job_id).attempts
    assert (attempt.state, attempt.error) == (
        AttemptState.REQUEUED, "leaves its node: node 0 (0) is being drained by opal (the head)",
    )  # fmt: skip
    second.tick()
    assert (store.job(job_id).state, store.job(job_id).failures) == (JobState.QUEUED, 0)


def test_what_ran_before_the_migration_goes_on(store: Store, database: str) -> None:
    job_id = running(store)
    before_nodes(database)
    store.migrate()
    assert store.nodes.all() == []
    assert store.nodes.kept_away_from() == ()
    with pytest.raises(NotFoundError, match="none has been seen yet"):
        store.nodes.drain("aa11", by="opal")
    looks(store, Ray(f"{job_id}-1"))
    assert listed(store)["aa11"].attempts == (f"{job_id}-1",)
    assert store.finish(job_id, 1, finish()).state is JobState.SUCCEEDED
    check_database(database, cpus=8)
