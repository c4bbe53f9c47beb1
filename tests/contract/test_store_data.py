"""Data sets in SQL: names that point to digests, what needs a set, and its removal. Both databases."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
import sqlalchemy as sa

from service.data.records import Kept, SetState
from service.errors import ConflictError, ForbiddenError, NotFoundError, UnavailableError, VaesvcError
from service.queue.data_needs import Grace
from service.queue.data_sets import digests
from service.queue.store import Store
from service.specs.job import JobSpec
from tests.contract.queue_checks import sql
from vae_models.data.spec import DataSpec

A, B = "a" * 64, "b" * 64
FACTS = DataSpec(shape=(3, 2, 2), axes=("channel", "height", "width"), support="bytes", sizes=(5, 2, 1))


class Using(JobSpec):
    """A job of a kind of its own: the queue knows none."""

    kind: Literal["using"] = "using"
    runs: list[dict[str, Any]]


def using(*sets: str) -> Using:
    return Using(name="job", register_as="model", runs=[{"data": {"name": "photos", "digest": one}} for one in sets])


def add(store: Store, digest: str = A, *, complete: bool = True, owner: str = "ann") -> None:
    facts = FACTS.model_copy(update={"digest": digest})
    store.data.begin(digest, manifest="{}", facts=facts, bytes=9, files=3, owner=owner)
    if complete:
        store.data.complete(digest)


def age(url: str, seconds: float = 1000) -> None:
    """Nothing has been touched for so long."""
    sql(url, f"UPDATE vaesvc_data_sets SET touched_at = touched_at - {seconds}")


def moves(store: Store, name: str) -> list[tuple[str | None, str | None, str]]:
    return [(move.previous, move.digest, move.by) for move in store.data.moves(name)]


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_name_points_to_a_set_and_is_moved(store: Store) -> None:
    add(store, A)
    add(store, B)
    first = store.data.point("photos", A, by="ann")
    assert (first.name, first.digest, first.owner, first.bytes, first.files) == ("photos", A, "ann", 9, 3)
    assert first.facts == FACTS.model_copy(update={"digest": A})
    assert store.data.point("photos", A, by="ann") == first  # said again, after an answer that was lost
    second = store.data.point("photos", B, by="ann")
    assert (second.digest, second.created_at) == (B, first.created_at)
    assert second.moved_at >= first.moved_at
    assert store.data.named("photos") == second
    assert store.data.names() == [second]
    assert moves(store, "photos") == [(None, A, "ann"), (A, B, "ann")]


def test_a_name_is_its_owners_and_an_administrators(store: Store) -> None:
    add(store, A)
    add(store, B)
    store.data.point("photos", A, by="ann")
    with pytest.raises(ForbiddenError, match=r"photos is ann's: only ann or an administrator may move or remove it"):
        store.data.point("photos", B, by="bob")
    with pytest.raises(ForbiddenError, match=r"and you are bob"):
        store.data.remove("photos", by="bob")
    assert store.data.point("photos", B, by="root", admin=True).owner == "ann"
    assert store.data.names(owner="bob") == []
    with pytest.raises(NotFoundError, match=r"no data set is named 'photos'; `vaesvc data list`"):
        store.data.named("photos", owner="bob")
    store.data.remove("photos", by="root", admin=True)
    assert moves(store, "photos") == [(None, A, "ann"), (A, B, "root"), (B, None, "root")]


def test_a_removal_said_again_is_the_same_removal(store: Store) -> None:
    add(store)
    store.data.point("photos", A, by="ann")
    with pytest.raises(ConflictError, match=r"points to aaaa.* by now, not to bbbb.*: nothing was removed"):
        store.data.remove("photos", by="ann", digest=B)
    removal = store.data.remove("photos", by="ann", digest=A)
    assert store.data.remove("photos", by="ann", digest=A) == removal
    with pytest.raises(NotFoundError):
        store.data.remove("photos", by="bob", digest=A)
    with pytest.raises(NotFoundError):
        store.data.remove("photos", by="ann")
    assert store.data.point("photos", A, by="bob").owner == "bob"  # the name is free again


def test_the_nearest_names_are_told(store: Store) -> None:
    add(store)
    for name in ("photos", "photo-2", "faces"):
        store.data.point(name, A, by="ann")
    with pytest.raises(NotFoundError, match=r"named 'photo'; did you mean photos or photo-2\? `vaesvc data list`"):
        store.data.named("photo")


def test_no_name_points_to_what_is_not_whole(store: Store) -> None:
    with pytest.raises(NotFoundError, match=r"no data set aaaa.* is known here"):
        store.data.point("photos", A, by="ann")
    add(store, complete=False)
    with pytest.raises(NotFoundError, match="is not whole: its upload has not ended"):
        store.data.point("photos", A, by="ann")
    assert store.data.names() == []
    assert moves(store, "photos") == []


def test_where_a_name_pointed_cannot_be_rewritten(store: Store, database: str) -> None:
    add(store)
    store.data.point("photos", A, by="ann")
    for statement in ("UPDATE vaesvc_data_moves SET by = 'bob'", "DELETE FROM vaesvc_data_moves"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            sql(database, statement.replace("by =", '"by" ='))


def test_who_has_brought_a_set_may_use_it(store: Store) -> None:
    add(store)
    store.data.point("photos", A, by="bob")
    assert [store.data.brought(A, user) for user in ("ann", "bob", "eve")] == [True, True, False]
    store.data.remove("photos", by="bob")
    assert store.data.brought(A, "bob")


def test_two_at_once_get_one_name(open_store: Callable[..., Store]) -> None:
    stores = [open_store() for _ in range(4)]
    add(stores[0])

    def point(number: int) -> str:
        try:
            return stores[number].data.point("photos", A, by=f"user-{number}").owner
        except VaesvcError as error:
            return type(error).__name__

    with ThreadPoolExecutor(4) as pool:
        owners = list(pool.map(point, range(4)))
    assert sorted(owners)[:3] == ["ForbiddenError"] * 3
    assert stores[0].data.named("photos").owner == owners[owners.index(max(owners))]
    assert len(stores[0].data.moves("photos")) == 1


# --- what needs a set -----------------------------------------------------------------------------------------------


def test_a_job_names_the_digests_of_its_spec() -> None:
    assert digests(using(A, B, A).model_dump(mode="json")) == {A, B}
    assert digests({"train": {"data": {"name": "mnist", "facts": {"digest": None}}}, "code": {"digest": A}}) == set()


def test_a_job_needs_sets_that_are_whole(store: Store, database: str) -> None:
    with pytest.raises(NotFoundError, match=r"no data set aaaa.* is stored here: add it with `vaesvc data add"):
        store.submit(using(A), owner="ann")
    add(store, complete=False)
    with pytest.raises(NotFoundError, match="is stored here"):
        store.submit(using(A), owner="ann")
    assert store.jobs() == []  # all or nothing
    store.data.complete(A)
    job = store.submit(using(A), owner="ann", key="k")
    assert store.submit(using(A), owner="ann", key="k").id == job.id
    assert store.data.waiting_jobs(A) == [job.id]
    store.cancel(job.id, by="ann")
    assert store.data.waiting_jobs(A) == []
    age(database)
    assert store.data.unneeded(500) == []  # the job can be retried
    assert store.retry(job.id, by="ann").state == "QUEUED"


def test_what_nothing_needs_is_removed_after_its_grace(store: Store, database: str) -> None:
    for digest in (A, B):
        add(store, digest)
    add(store, "c" * 64, complete=False)  # an upload that stopped half-way
    store.data.point("photos", A, by="ann")
    assert store.data.unneeded(500) == []
    age(database)
    assert store.data.unneeded(500) == [B]
    age(database, 10_000)  # an upload has two hours at least
    assert store.data.unneeded(500) == [B, "c" * 64]
    store.data.point("photos", B, by="ann")  # needed again; and what it pointed to begins its grace
    assert store.data.unneeded(500) == ["c" * 64]
    assert not store.data.begin_removal(B, 500)
    assert not store.data.begin_removal(A, 500)
    assert store.data.begin_removal("c" * 64, 500)
    store.data.end_removal("c" * 64)
    store.data.end_removal("c" * 64)
    assert store.data.stored("c" * 64) is None
    assert not store.data.begin_removal("c" * 64, 500)
    assert store.data.known([A, "c" * 64]) == {A}
    store.data.remove("photos", by="ann")
    age(database)
    assert store.data.unneeded(500) == [A, B]


def test_a_set_that_was_trained_on_goes_some_time_after_its_jobs_unless_a_model_is_left(
    store: Store, database: str
) -> None:
    for digest in (A, B):
        add(store, digest)
    plain, registered = (store.submit(using(digest), owner="ann") for digest in (A, B))
    age(database)
    assert store.data.unneeded(500, 0) == []  # both wait
    for job in (plain, registered):
        store.cancel(job.id, by="ann")
    sql(
        database,
        "INSERT INTO vaesvc_model_versions (job_id, name, version, envelope, created_at) "
        f"VALUES ('{registered.id}', 'model', 1, '{{}}', 0)",
    )
    age(database)
    assert store.data.unneeded(500, 3600) == []  # they may be tried again
    sql(database, "UPDATE vaesvc_jobs SET ended_at = ended_at - 4000")
    assert store.data.unneeded(500, 3600) == [A]
    assert not store.data.begin_removal(B, 500, 3600)
    assert store.data.begin_removal(A, 500, 3600)
    with pytest.raises(NotFoundError, match="is stored here"):
        store.retry(plain.id, by="ann")
    store.data.end_removal(A)
    assert store.data.stored(A) is None
    with pytest.raises(NotFoundError, match=r"no data set aaaa.* is stored here: add it with `vaesvc data add"):
        store.retry(plain.id, by="ann")
    assert store.job(plain.id).state == "CANCELLED"
    add(store)  # the same files have the same digest
    assert store.retry(plain.id, by="ann").state == "QUEUED"
    age(database)
    assert store.data.unneeded(500, 0) == []
    assert store.retry(registered.id, by="ann").state == "QUEUED"


def test_why_a_set_is_kept_is_told(store: Store, database: str) -> None:
    for digest, owner in ((A, "ann"), (B, "bob")):
        add(store, digest, owner=owner)
    grace = Grace(seconds=500, job_seconds=3600)
    touched = {digest: store.data.stored(digest).touched_at for digest in (A, B)}  # type: ignore[union-attr]
    nothing = {"names": (), "models": 0, "last_model": None, "jobs": 0, "last_job": None}
    assert [each.kept for each in store.data.kept(grace)] == [
        Kept(**nothing, until=touched[digest] + 500) for digest in (A, B)
    ]
    for name in ("photos", "faces"):
        store.data.point(name, A, by="ann")
    mine, bobs = (store.submit(using(A, B), owner=owner) for owner in ("ann", "bob"))
    for version, job in ((1, mine.id), (2, bobs.id)):
        sql(
            database,
            "INSERT INTO vaesvc_model_versions (job_id, name, version, envelope, created_at) "
            f"VALUES ('{job}', 'model', {version}, '{{}}', {version})",
        )
    both = {"models": 2, "last_model": "model/2", "jobs": 2, "last_job": bobs.id, "until": None}
    first, second = store.data.kept(grace)
    assert (first.digest, first.owner, first.kept) == (A, "ann", Kept(names=("faces", "photos"), **both))
    assert second.kept == Kept(names=(), **both)
    store.cancel(mine.id, by="ann")
    store.cancel(bobs.id, by="bob")
    sql(database, f"UPDATE vaesvc_jobs SET ended_at = ended_at - 4000 WHERE id = '{bobs.id}'")
    (only,) = store.data.kept(grace, digest=A)
    assert (only.kept.jobs, only.kept.last_job) == (1, mine.id)  # bob's was over for longer than the grace
    own = {"models": 1, "last_model": "model/1", "jobs": 1, "last_job": mine.id, "until": None}
    (anns,) = store.data.kept(grace, owner="ann")
    assert (anns.digest, anns.kept) == (A, Kept(names=("faces", "photos"), **own))
    sql(database, f"DELETE FROM vaesvc_model_versions WHERE job_id = '{bobs.id}'")
    (bobs_own,) = store.data.kept(grace, owner="bob")
    assert (bobs_own.digest, bobs_own.kept) == (B, Kept(**nothing, until=None))  # ann's job and model keep it


def test_a_removal_that_was_begun_is_ended_before_anything_needs_the_set_again(store: Store, database: str) -> None:
    add(store)
    age(database)
    assert store.data.begin_removal(A, 500)
    for needing in (
        lambda: store.data.point("photos", A, by="ann"),
        lambda: store.data.complete(A),
        lambda: add(store),
    ):
        with pytest.raises(UnavailableError, match="is being removed just now: try again in a moment"):
            needing()
    with pytest.raises(NotFoundError):
        store.submit(using(A), owner="ann")
    assert store.data.unneeded(500) == [A]  # whoever marked it died: the next one goes on
    assert store.data.begin_removal(A, 500)
    store.data.end_removal(A)
    add(store, complete=False)
    found = store.data.stored(A)
    assert found is not None
    assert found.state is SetState.UPLOADING


def test_a_set_is_either_needed_or_removed_never_both(open_store: Callable[..., Store], database: str) -> None:
    stores = [open_store(settle_seconds=0.0) for _ in range(2)]
    for number in range(10):
        digest = f"{number:064x}"
        add(stores[0], digest)
        age(database)
        with ThreadPoolExecutor(2) as pool:
            removal = pool.submit(stores[0].data.begin_removal, digest, 500)
            job = pool.submit(_submitted, stores[1], digest)
        assert removal.result() != job.result(), digest


def _submitted(store: Store, digest: str) -> bool:
    try:
        store.submit(using(digest), owner="ann")
    except NotFoundError:
        return False
    return True
