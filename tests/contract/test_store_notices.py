"""The outbox: what is told of a job is written with its move, and stays until it has been delivered."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.errors import ConflictError, NotFoundError
from service.queue import notices, outbox
from service.queue.notice import Channel, Message, Notice, Target
from service.queue.store import Store
from tests.contract.queue_checks import before_notices, cluster, expire_lease, finish, spec, sql

HERE = "https://hooks.example.org/x"


def target(*wanted: Notice, address: str = HERE) -> Target:
    return Target(channel=Channel.WEBHOOK, address=address, notices=wanted or tuple(Notice))


def claimed(store: Store, lease_seconds: float = 60.0) -> list[Message]:
    return store.notices.claim(limit=10, lease_seconds=lease_seconds)


def told(store: Store) -> list[str]:
    messages = claimed(store)
    for message in messages:
        store.notices.delivered(message.id)
    return [message.notice for message in messages]


def later(database: str, seconds: float) -> None:
    moved = f"next_at = next_at - {seconds}, created_at = created_at - {seconds}"
    sql(database, f"UPDATE vaesvc_outbox SET {moved}")


@pytest.fixture
def ready(store: Store) -> Store:
    store.observe_cluster(cluster(4), address="ray", ok=True)
    return store


def test_every_move_that_is_told_is_told_once_and_with_what_it_is_about(ready: Store, database: str) -> None:
    job = ready.submit(spec("digits"), owner="ann", notify=[target()])
    ready.submit(spec("others"), owner="bob")
    ready.admit()
    assert told(ready) == []
    ready.claim(job.id, 1, "runner")
    ready.claim(job.id, 1, "runner")  # the same again
    (message,) = claimed(ready)
    assert (message.notice, message.channel, message.address, message.tries) == ("started", "webhook", HERE, 1)
    assert message.body["type"] == "job.started"
    assert message.body["id"] == message.id
    about = message.body["job"]
    assert (about["id"], about["name"], about["owner"], about["state"]) == (job.id, "digits", "ann", "RUNNING")
    ready.notices.delivered(message.id)
    expire_lease(database, job.id)
    ready.attempt_lost(job.id, 1, "the node died", outage=True)
    assert told(ready) == ["retrying"]
    sql(database, "UPDATE vaesvc_jobs SET not_before = 0")
    ready.admit()
    ready.claim(job.id, 2, "runner")
    ready.finish(job.id, 2, finish("failed", error="diverged", retryable=False))
    assert sorted(told(ready)) == ["failed", "started"]
    ready.retry(job.id, by="ann")
    ready.cancel(job.id, by="ann")
    assert told(ready) == ["cancelled"]
    ready.cancel(job.id, by="ann")
    assert told(ready) == []


def test_a_user_is_told_of_all_of_their_own_jobs_and_of_what_they_asked_for(ready: Store) -> None:
    ready.notices.subscribe("ann", target(Notice.CANCELLED))
    ready.notices.subscribe("bob", target(Notice.FAILED))
    for owner in ("ann", "bob"):
        ready.cancel(ready.submit(spec(), owner=owner).id, by=owner)
    (message,) = claimed(ready)
    assert (message.notice, message.body["job"]["owner"]) == ("cancelled", "ann")


def test_a_move_that_is_undone_tells_nothing(ready: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ready.submit(spec(), owner="ann", notify=[target()])

    def broken(*arguments: object) -> None:
        put(*arguments)  # type: ignore[arg-type]
        raise RuntimeError("power cut")

    put = outbox.put
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "put", broken)
        with pytest.raises(RuntimeError, match="power cut"):
            ready.cancel(job.id, by="ann")
    assert (ready.job(job.id).state, ready.notices.pending()) == ("QUEUED", 0)


def test_what_a_dead_process_had_claimed_is_claimed_again_with_the_same_id(
    ready: Store, database: str, open_store: Callable[..., Store]
) -> None:
    ready.cancel(ready.submit(spec(), owner="ann", notify=[target()]).id, by="ann")
    (first,) = claimed(ready)
    other = open_store()
    assert claimed(other) == []  # while the claim holds
    later(database, 61)
    (again,) = claimed(other)
    assert (again.id, again.body, again.tries) == (first.id, first.body, 2)
    other.notices.delivered(again.id)
    later(database, 1000)
    assert claimed(ready) == []
    ready.notices.failed(first, "too late")  # of the one that was slow: it has been delivered
    assert ready.notices.pending() == 0


def test_a_receiver_that_is_away_is_tried_less_and_less_often_and_given_up_after_three_days(
    ready: Store, database: str
) -> None:
    made = ready.notices.subscribe("ann", target())
    ready.cancel(ready.submit(spec(), owner="ann").id, by="ann")
    for tries, wait in ((1, 5), (2, 10), (3, 20)):
        (message,) = claimed(ready)
        assert message.tries == tries
        ready.notices.failed(message, "refused")
        later(database, wait - 1)
        assert claimed(ready) == []
        later(database, 1.1)
    (listed,) = ready.notices.all("ann")
    assert (listed.id, listed.pending, listed.given_up, listed.error) == (made.id, 1, 0, "refused")
    later(database, notices.GIVEN_UP_SECONDS)
    (message,) = claimed(ready)
    ready.notices.failed(message, "still refused")
    assert ready.notices.pending() == 0
    (listed,) = ready.notices.all("ann")
    assert (listed.pending, listed.given_up, listed.error) == (0, 1, "still refused")
    later(database, notices.KEPT_SECONDS)
    ready.notices.look(3600)
    assert sql(database, "SELECT count(*) FROM vaesvc_outbox") == [(0,)]


def test_who_waits_for_long_is_told_so_once(ready: Store, database: str) -> None:
    waiting = ready.submit(
        spec(), owner="ann", notify=[target(Notice.WAITING), target(Notice.FAILED, address=HERE + "2")]
    )
    ready.submit(spec(), owner="bob")
    assert ready.notices.look(3600) == 0
    sql(database, "UPDATE vaesvc_jobs SET created_at = created_at - 3601")
    assert (ready.notices.look(3600), ready.notices.look(3600)) == (1, 0)
    (message,) = claimed(ready)
    assert (message.notice, message.body["job"]["id"]) == ("waiting", waiting.id)


def test_subscriptions_are_their_owners_bounded_and_the_same_again_is_the_same(
    ready: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "MOST", 2)
    first = ready.notices.subscribe("ann", target(Notice.FAILED, Notice.STARTED))
    assert ready.notices.subscribe("ann", target(Notice.STARTED, Notice.FAILED)).id == first.id
    ready.notices.subscribe("ann", target(Notice.FAILED))
    with pytest.raises(ConflictError, match="2 kinds of notices already"):
        ready.notices.subscribe("ann", target(Notice.SUCCEEDED))
    with pytest.raises(NotFoundError, match="no job 'nosuch'"):
        ready.notices.subscribe("ann", target(), job_id="nosuch")
    for call in (ready.notices.remove, ready.notices.try_out):
        with pytest.raises(NotFoundError, match="you have no subscription"):
            call(first.id, "bob")
    ready.notices.try_out(first.id, "ann")
    ready.notices.remove(first.id, "ann")
    assert claimed(ready) == []  # what was still to be told of it went with it
    assert len(ready.notices.all("ann")) == 1
    ready.add_token("ann", "anns")
    ready.notices.try_out(ready.notices.all("ann")[0].id, "ann")
    ready.revoke_token("ann")  # who has no token any more is told nothing any more
    assert (ready.notices.all("ann"), claimed(ready), ready.notices.pending()) == ([], [], 0)


def test_a_database_of_before_gets_the_outbox_while_jobs_run(ready: Store, database: str) -> None:
    job = ready.submit(spec(), owner="ann")
    ready.admit()
    ready.claim(job.id, 1, "runner")
    before_notices(database)
    ready.migrate()
    ready.notices.subscribe("ann", target())
    ready.finish(job.id, 1, finish())
    assert told(ready) == ["succeeded"]
