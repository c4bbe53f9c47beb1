"""Groups, quotas and usage on both databases: charged once, told with numbers, and nobody passes them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.errors import ConflictError, NotFoundError, QuotaError
from service.queue import stored as stored_bytes
from service.queue.jobs import Capacity, JobState
from service.queue.share_records import Bounds
from service.queue.sharing import HALF_LIFE_SECONDS
from service.queue.store import Store
from tests.contract.queue_checks import (
    before_shares,
    before_storage_quotas,
    check_database,
    checkpoint,
    cluster,
    finish,
    spec,
    sql,
)
from vae_models.data.spec import DataSpec


def run_all(store: Store) -> list[str]:
    """Admit, claim and finish what starts now; return whose it was."""
    made = store.admit()
    for attempt in made:
        store.claim(attempt.job_id, attempt.number, "runner")
        store.finish(attempt.job_id, attempt.number, finish())
    return [store.owner(attempt.job_id) for attempt in made]


def seconds(store: Store) -> dict[tuple[str, str], float]:
    """CPU-seconds by group and user, as they count now."""
    return {(group.name, used.user): used.cpu_seconds for group in store.shares.groups() for used in group.usage}


def lasted(database: str, job_id: str, begin: float, end: float) -> None:
    """Turn the clock: the attempt lasted from `begin` to `end` seconds ago."""
    now = "unixepoch()" if database.startswith("sqlite") else "extract(epoch from clock_timestamp())"
    times = f"created_at = {now} - {begin}, ended_at = {now} - {end}"
    sql(database, f"UPDATE vaesvc_attempts SET {times} WHERE job_id = :id", id=job_id)


def groups(store: Store) -> None:
    for group, weight, user in (("red", 2.0, "ann"), ("blue", 1.0, "bob")):
        store.shares.set_group(group, weight)
        store.shares.add_member(group, user)


def test_every_attempt_is_charged_once_after_its_end_and_counts_half_after_a_week(store: Store, database: str) -> None:
    groups(store)
    store.observe_cluster(cluster(8), address="ray", ok=True)
    ids = {owner: store.submit(spec(cpus_per_worker=2), owner=owner).id for owner in ("ann", "bob", "cyd")}
    assert len(run_all(store)) == 3
    lasted(database, ids["ann"], 100.0, 0.0)
    lasted(database, ids["bob"], HALF_LIFE_SECONDS + 100.0, HALF_LIFE_SECONDS)
    lasted(database, ids["cyd"], 50.0, 0.0)
    expected = {("red", "ann"): 200.0, ("blue", "bob"): 100.0, ("", "cyd"): 100.0}
    assert seconds(store) == pytest.approx(expected, rel=0.05)  # not charged yet, and counted all the same
    for _ in range(3):
        store.admit()
        assert seconds(store) == pytest.approx(expected, rel=0.05)
    assert sql(database, "SELECT count(*) FROM vaesvc_attempts WHERE NOT charged") == [(0,)]
    assert [g.share for g in store.shares.groups()] == [1 / 4, 2 / 4, 1 / 4]  # blue, red, those in none


def test_what_runs_counts_and_is_not_charged(store: Store, database: str) -> None:
    groups(store)
    store.observe_cluster(cluster(8), address="ray", ok=True)
    job = store.submit(spec(cpus_per_worker=2), owner="ann")
    store.admit()
    sql(database, "UPDATE vaesvc_attempts SET created_at = created_at - 100")
    store.admit()
    assert seconds(store)["red", "ann"] == pytest.approx(200.0, rel=0.05)
    assert sql(database, "SELECT count(*) FROM vaesvc_usage") == [(0,)]
    assert store.job(job.id).state == JobState.STARTING


def test_who_has_used_less_by_weight_goes_first_and_the_other_is_told(store: Store, database: str) -> None:
    groups(store)
    store.observe_cluster(cluster(1), address="ray", ok=True)
    for owner, length in (("ann", 500.0), ("bob", 400.0)):
        job = store.submit(spec(), owner=owner)
        assert run_all(store) == [owner]
        lasted(database, job.id, length, 0.0)
    waiting = [store.submit(spec(), owner=owner) for owner in ("bob", "bob", "ann", "ann")]
    assert run_all(store) == ["ann"]  # 500 / 2 < 400 / 1
    reason = store.job(waiting[0].id).reason
    assert reason is not None
    assert "group blue used 44% of the CPU time of those who wait" in reason
    assert "the share is 33%" in reason
    assert "vaesvc group set blue --weight N" in reason
    assert "share" not in (store.job(waiting[3].id).reason or "")
    check_database(database)


def test_without_groups_and_quotas_the_line_is_by_priority_and_age(store: Store) -> None:
    store.observe_cluster(cluster(1), address="ray", ok=True)
    for owner, priority in (("ann", 0), ("ann", 0), ("bob", 0), ("cyd", 5)):
        store.submit(spec(priority=priority), owner=owner)
    assert [run_all(store) for _ in range(4)] == [["cyd"], ["ann"], ["ann"], ["bob"]]


def test_the_head_stays_the_head_when_shares_change(store: Store) -> None:
    groups(store)
    store.observe_cluster(cluster(4), address="ray", ok=True)
    runs = store.submit(spec(cpus_per_worker=2), owner="cyd")
    store.admit()
    head = store.submit(spec(cpus_per_worker=4), owner="ann")
    assert store.admit() == []
    store.shares.set_group("red", 1e-3)  # ann would come last from now on
    small = [store.submit(spec(cpus_per_worker=3), owner=owner).id for owner in ("bob", "cyd")]
    store.claim(runs.id, 1, "runner")
    store.finish(runs.id, 1, finish())
    assert [attempt.job_id for attempt in store.admit()] == [head.id]
    assert {store.job(job_id).state for job_id in small} == {JobState.QUEUED}


def test_a_quota_of_running_cpus_is_kept_and_told(store: Store) -> None:
    groups(store)
    store.shares.add_member("red", "cyd")
    store.shares.set_quota("group", "red", Bounds(cpus=3))
    store.observe_cluster(cluster(16), address="ray", ok=True)
    first = store.submit(spec(cpus_per_worker=2), owner="ann")
    second = store.submit(spec(cpus_per_worker=2), owner="cyd")
    other = store.submit(spec(cpus_per_worker=2), owner="bob")
    assert {attempt.job_id for attempt in store.admit()} == {first.id, other.id}
    assert store.job(second.id).reason == (
        "asks for 2 CPUs; the quota of group red is 3 CPUs at a time, and 2 are held or kept for earlier jobs of it. "
        "It starts when some of these have ended; or an administrator can raise it: vaesvc quota set group red --cpus N"
    )
    store.shares.set_quota("group", "red", Bounds(cpus=4))
    assert [attempt.job_id for attempt in store.admit()] == [second.id]


@pytest.mark.parametrize(
    ("bounds", "asked", "message"),
    [
        (
            Bounds(workers=2),
            {"workers": 3},
            r"resources.workers: 3 is more than the quota of user ann allows, which is 2",
        ),
        (Bounds(cpus=4), {"workers": 3, "cpus_per_worker": 2}, r"CPUs of all workers: 6 is more than .* is 4. Ask for"),
        (
            Bounds(gpus=0),
            {"gpus_per_worker": 1},
            r"GPUs of all workers: 1 is more .* vaesvc quota set user ann --gpus N",
        ),
        (Bounds(priority=-1), {"priority": 0}, r"priority: 0 is more than the quota of user ann allows, which is -1"),
        (Bounds(queued=0), {}, r"the quota of user ann is 0 jobs in the line; 0 wait there, and this is one more"),
    ],
)
def test_a_submission_beyond_a_quota_is_refused_with_the_numbers(
    store: Store, bounds: Bounds, asked: dict[str, float], message: str
) -> None:
    store.shares.set_quota("user", "ann", bounds)
    with pytest.raises(QuotaError, match=message):
        store.submit(spec(**asked), owner="ann")  # type: ignore[arg-type]
    store.submit(spec(**asked), owner="bob")  # type: ignore[arg-type]
    assert [job.owner for job in store.jobs()] == ["bob"]


def test_the_quota_of_every_user_is_for_those_who_have_none_of_their_own(store: Store) -> None:
    store.shares.set_quota("user", "*", Bounds(queued=1))
    store.shares.set_quota("user", "bob", Bounds(queued=2))
    job = store.submit(spec(), owner="ann", key="once")
    with pytest.raises(QuotaError, match="the quota of user ann is 1 jobs in the line; 1 wait there"):
        store.submit(spec(), owner="ann")
    assert store.submit(spec(), owner="ann", key="once").id == job.id  # nothing is new
    with pytest.raises(QuotaError, match="0 wait there, and this is 3 more"):
        store.submit_all([(spec(), None)] * 3, owner="bob")
    assert len(store.submit_all([(spec(), None)] * 2, owner="bob")) == 2
    store.cancel(job.id, by="ann")
    store.submit(spec(), owner="ann")


def test_many_at_once_do_not_pass_a_quota_of_jobs_in_the_line(store: Store) -> None:
    groups(store)
    store.shares.add_member("red", "cyd")
    store.shares.set_quota("group", "red", Bounds(queued=5))

    def submit(index: int) -> bool:
        try:
            store.submit(spec(), owner=("ann", "cyd")[index % 2])
        except QuotaError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(submit, range(12))) == 5


def test_a_user_is_in_one_group_at_most_and_what_was_used_stays_there(store: Store, database: str) -> None:
    groups(store)
    store.observe_cluster(cluster(8), address="ray", ok=True)
    job = store.submit(spec(), owner="ann")
    run_all(store)
    lasted(database, job.id, 60.0, 0.0)
    store.admit()
    with pytest.raises(ConflictError, match=r"'ann' is in group 'red', and a user is in one group at most"):
        store.shares.add_member("blue", "ann")
    store.shares.remove_member("red", "ann")
    store.shares.add_member("blue", "ann")
    assert seconds(store)["red", "ann"] == pytest.approx(60.0, rel=0.05)
    with pytest.raises(NotFoundError, match=r"no group 'green'; there are blue, red. Make one"):
        store.shares.add_member("green", "ann")
    store.shares.remove_group("red")
    assert [(group.name, group.members) for group in store.shares.groups()] == [("blue", ("ann", "bob")), ("", ())]
    with pytest.raises(NotFoundError, match="no group 'red'"):
        store.shares.set_quota("group", "red", Bounds())


def test_an_upgrade_charges_nothing_that_is_over_and_all_that_runs(store: Store, database: str) -> None:
    store.observe_cluster(Capacity(nodes=({"CPU": 4.0},)), address="ray", ok=True)
    over, runs, waits = (store.submit(spec(cpus_per_worker=2), owner="ann").id for _ in range(3))
    store.admit()
    store.claim(over, 1, "runner")
    store.finish(over, 1, finish())
    store.claim(runs, 1, "runner")
    before_shares(database)
    store.migrate()
    store.heartbeat(runs, 1, "runner")
    assert [attempt.job_id for attempt in store.admit()] == [waits]
    store.finish(runs, 1, finish())
    store.admit()
    charged = "SELECT job_id FROM vaesvc_attempts WHERE charged"
    assert {row[0] for row in sql(database, charged)} == {over, runs}
    store.shares.set_group("red", 1.0)
    lasted(database, waits, 30.0, 0.0)
    check = sql(database, "SELECT cpu_seconds FROM vaesvc_usage")
    assert 0.0 <= check[0][0] < 60.0
    assert store.job(waits).state == JobState.STARTING


# --- storage --------------------------------------------------------------------------------------------------------


def bring(store: Store, digest: str, size: int, owner: str) -> None:
    facts = DataSpec(shape=(1,), axes=("feature",), support="reals", sizes=(1, 1, 1), digest=digest)
    store.data.begin(digest, manifest="{}", facts=facts, bytes=size, files=1, owner=owner)


def stored(store: Store, user: str) -> list[int | None]:
    return [quota.stored_bytes for quota in store.shares.of_user(user)]


def test_a_quota_of_storage_counts_what_is_kept_and_refuses_submissions_and_uploads(store: Store) -> None:
    groups(store)
    store.shares.add_member("red", "cyd")
    store.observe_cluster(cluster(8), address="ray", ok=True)
    store.shares.set_quota("group", "red", Bounds(storage_bytes=100))
    store.shares.set_quota("user", "ann", Bounds(storage_bytes=1000))
    job = store.submit(spec(keep_best=1), owner="ann")
    store.admit()
    store.claim(job.id, 1, "runner")
    for step in (1, 2, 3):  # the first one is given up: the last and one before it are kept
        store.commit_checkpoint(job.id, 1, checkpoint(1, step))
    assert stored(store, "ann") == [20, 20]
    store.put_model_version(job.id, "model", None, lambda number: "signed", bytes=7)
    bring(store, "a" * 64, 60, "cyd")
    assert stored(store, "ann") == [27, 87]
    assert {group.name: group.stored_bytes for group in store.shares.groups()} == {"red": 87, "blue": 0, "": 0}
    with pytest.raises(QuotaError, match=r"group red is 100 B of storage, and 87 B are used .*upload has 14 B more"):
        bring(store, "b" * 64, 14, "ann")
    bring(store, "a" * 64, 60, "ann")  # it is there
    bring(store, "b" * 64, 13, "ann")
    bring(store, "c" * 64, 500, "bob")  # nobody bounds
    why = r"checkpoints 20 B, models 7 B, data 73 B\)\. To free some: .*data rm NAME.*vaesvc gc.* group red --storage N"
    with pytest.raises(QuotaError, match=why):
        store.submit(spec(), owner="cyd")
    store.submit(spec(), owner="bob")
    store.finish(job.id, 1, finish())
    assert store.collected.give_up(job.id, "checkpoints", 20, weights=True)
    assert stored(store, "cyd") == [80]
    store.submit(spec(), owner="cyd")


def test_what_has_not_begun_waits_for_storage_and_says_so_and_what_has_begun_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_bytes, "RARELY", 0.0)  # each plan finds out what is stored
    groups(store)
    store.shares.set_quota("group", "red", Bounds(storage_bytes=10))
    store.shares.set_quota("user", "*", Bounds(storage_bytes=1000))
    store.observe_cluster(cluster(2), address="ray", ok=True)
    runs, second, third = (store.submit(spec(workers=2), owner="ann").id for _ in range(3))
    other = store.submit(spec(workers=2), owner="bob").id
    assert [attempt.job_id for attempt in store.admit()] == [runs]
    store.claim(runs, 1, "runner")
    store.commit_checkpoint(runs, 1, checkpoint(1, 1))  # 10 B: from now on the quota is used up
    store.finish(runs, 1, finish("failed", error="a node was lost"))
    store.order.reprioritize(runs, 1, by="root", admin=True)  # its lane is found anew
    assert [attempt.job_id for attempt in store.admit()] == [runs]
    assert "storage" not in (store.job(other).reason or "")
    store.claim(runs, 2, "runner")
    store.finish(runs, 2, finish())
    bring(store, "a" * 64, 999, "bob")
    assert [attempt.job_id for attempt in store.admit()] == [other]  # who is held back is passed by others
    (reason,) = {store.job(second).reason, *(job.reason for job in store.jobs() if job.id in (second, third))}
    assert reason is not None
    assert reason.startswith("waits for storage: the quota of group red is 10 B of storage, and 10 B are used (checkp")
    assert all(way in reason for way in ("`vaesvc data rm NAME`", "vaesvc gc", "set group red --storage N"))
    store.expected.look()
    assert store.job(second).expected_start is None  # nobody knows when some is freed
    store.claim(other, 1, "runner")
    store.finish(other, 1, finish())
    assert store.admit() == []
    assert store.collected.give_up(runs, "checkpoints", 10, weights=True)
    assert [attempt.job_id for attempt in store.admit()] == [second]


def test_uploads_at_once_do_not_pass_a_quota_of_storage_together(open_store: Callable[..., Store]) -> None:
    store = open_store()
    store.shares.set_quota("user", "*", Bounds(storage_bytes=30))

    def one(number: int) -> bool:
        try:
            bring(open_store(), f"{number:064x}", 10, "ann")
        except QuotaError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(one, range(6))) == 3
    assert [quota.stored_bytes for quota in store.shares.quotas()] == [None]  # of every user: of nobody


def test_models_that_were_registered_before_count_nothing(store: Store, database: str) -> None:
    store.observe_cluster(cluster(8), address="ray", ok=True)
    store.shares.set_quota("user", "ann", Bounds(gpus=4))
    job = store.submit(spec(), owner="ann")
    store.admit()
    store.claim(job.id, 1, "runner")
    store.commit_checkpoint(job.id, 1, checkpoint(1, 1))
    store.put_model_version(job.id, "model", None, lambda number: "signed", bytes=7)
    before_storage_quotas(database)
    store.migrate()
    assert stored(store, "ann") == [10]
    store.finish(job.id, 1, finish())
    check_database(database)


def test_submits_of_several_owners_at_once_keep_to_each_ones_quota(store: Store, database: str) -> None:
    """They wait for each other and share transactions; what one owner may not have costs no other anything."""
    store.shares.set_quota("user", "ann", Bounds(queued=3))
    owners = ["ann", "bob", "cyd"] * 5

    def submit(owner: str) -> str | None:
        try:
            return store.submit(spec(), owner=owner).id
        except QuotaError:
            return None

    with ThreadPoolExecutor(8) as threads:
        made = list(zip(owners, threads.map(submit, owners), strict=True))
    there = {job.id: job.owner for job in store.jobs()}
    assert {job_id: owner for owner, job_id in made if job_id is not None} == there
    assert [list(there.values()).count(owner) for owner in ("ann", "bob", "cyd")] == [3, 5, 5]
    check_database(database)
