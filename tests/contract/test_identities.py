"""Logins by a provider in SQL, on every database: whose they are, who is refused, and how often one may be used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service import auth
from service.errors import AuthError, ConflictError, ForbiddenError, NotFoundError
from service.oidc.identity import Identity
from service.queue import identities
from service.queue.jobs import JobState, TokenInfo
from service.queue.roles import Role, Scope, sha256
from service.queue.store import Store
from tests.contract.queue_checks import before_identities, cluster, spec, sql

DAY = 86_400.0


def somebody(subject: str = "u1", name: str = "ann", **more: Any) -> Identity:
    return Identity(**{"issuer": "https://login.example", "subject": subject, "name": name, **more})


def sign_in(store: Store, who: Identity, label: str = "cli-1", **more: Any) -> tuple[str, TokenInfo]:
    token = auth.new_token()
    made = store.identities.sign_in(who, label, sha256(token), **{"seconds": DAY, **more})
    assert store.token_user(token) == made
    return token, made


def test_somebody_new_is_made_or_refused_and_known_from_then_on(store: Store) -> None:
    with pytest.raises(ForbiddenError, match="no user 'ann' here: an administrator makes one"):
        sign_in(store, somebody())
    assert store.users.all() == []
    _, made = sign_in(store, somebody(new_role=Role.VIEWER))
    assert (made.name, made.role, made.label) == ("ann", "viewer", "cli-1")
    assert made.expires_at is not None
    assert made.expires_at - made.created_at == pytest.approx(DAY, abs=1e-3)
    _, again = sign_in(store, somebody(name="renamed"), "cli-2", scopes=[Scope.READ])  # the subject says who it is
    assert (again.name, again.scopes) == ("ann", (Scope.READ,))


def test_fault_04_a_name_belongs_to_the_account_that_had_it_first(store: Store) -> None:
    store.users.put("ann", Role.ADMIN)
    _, made = sign_in(store, somebody())  # an administrator has made the user for them
    assert made.role == "admin"
    for other in (somebody("u2", new_role=Role.USER), somebody("u1", issuer="https://other.example")):
        with pytest.raises(ForbiddenError, match="'ann' belongs to another account"):
            sign_in(store, other, "cli-2")
    store.users.revoke("ann")
    _, made = sign_in(store, somebody("u2", new_role=Role.USER), "cli-3")
    assert made.role == "user"  # nobody inherits a role


def test_fault_04_of_two_accounts_that_come_first_at_once_one_has_the_name(store: Store) -> None:
    def come(number: int) -> str:
        try:
            return sign_in(store, somebody(f"u{number}", new_role=Role.USER), f"cli-{number}")[1].name
        except ForbiddenError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        came = list(pool.map(come, range(8)))
    assert came.count("ann") == 1
    assert all("belongs to another account" in other for other in came if other != "ann")
    assert len(store.users.tokens("ann")) == 1


def test_fault_04_a_disabled_user_is_refused_by_every_door_until_enabled(store: Store) -> None:
    token, _ = sign_in(store, somebody(new_role=Role.USER))
    by_hand = auth.new_token()
    store.users.put_token("ann", "ci", sha256(by_hand))
    disabled = store.identities.disable("ann", disabled=True)
    assert disabled.disabled_at is not None
    assert store.identities.disable("ann", disabled=True) == disabled
    assert (store.token_user(token), store.token_user(by_hand)) == (None, None)
    for who in (somebody(), somebody(new_role=Role.ADMIN, role=Role.ADMIN)):
        with pytest.raises(ForbiddenError, match="'ann' is disabled here"):
            sign_in(store, who, "cli-2")
    assert [(user.role, user.disabled_at) for user in store.users.all()] == [("user", disabled.disabled_at)]
    assert store.identities.disable("ann", disabled=False).disabled_at is None
    assert store.token_user(token) is not None
    assert store.token_user(by_hand) is not None
    with pytest.raises(NotFoundError, match="no user 'bob'"):
        store.identities.disable("bob", disabled=True)


def test_fault_04_one_login_ends_in_one_token_whatever_is_repeated(store: Store) -> None:
    who = somebody(new_role=Role.USER)
    token, made = sign_in(store, who)
    assert store.identities.sign_in(who, "cli-1", sha256(token), seconds=DAY) == made  # the same call again
    assert store.identities.signed_in("cli-1", sha256(token)) == made
    assert store.identities.signed_in("cli-2", sha256(token)) is None
    for label, digest in (("cli-1", sha256("another")), ("cli-2", sha256(token))):
        with pytest.raises(AuthError, match="this login has been used already"):
            store.identities.sign_in(who, label, digest, seconds=DAY)
    assert store.identities.sign_out(token) is not None
    assert (store.token_user(token), store.identities.sign_out(token)) == (None, None)
    with pytest.raises(AuthError, match="used already"):  # not even when it is over
        store.identities.sign_in(who, "cli-1", sha256("another"), seconds=DAY)
    assert token not in str(sql_rows(store))
    main = auth.new_token()
    store.add_token("bob", main)
    with pytest.raises(ConflictError, match="came of no login"):
        store.identities.sign_out(main)
    assert store.token_user(main) is not None


def sql_rows(store: Store) -> list[Any]:
    return [*store.tokens(), *store.users.all(), *store.audit.acts()]


def test_role_and_group_follow_the_provider_where_it_gives_them(store: Store) -> None:
    ours = {"g1": "vision", "g2": "text"}
    for group in ("vision", "text", "own"):
        store.shares.set_group(group, 1.0)
    sign_in(store, somebody(new_role=Role.OPERATOR, role=Role.OPERATOR, groups=ours, group="vision"))
    assert members(store)["vision"] == ("ann",)
    _, made = sign_in(store, somebody(role=Role.VIEWER, groups=ours, group="text"), "cli-2")
    assert (made.role, members(store)["vision"], members(store)["text"]) == ("viewer", (), ("ann",))
    sign_in(store, somebody(groups=ours), "cli-3")
    assert members(store)["text"] == ()
    store.shares.add_member("own", "ann")
    _, made = sign_in(store, somebody(groups=ours), "cli-4")  # a group that no provider gives stays
    assert (made.role, members(store)["own"]) == ("viewer", ("ann",))
    with pytest.raises(ForbiddenError, match="vaesvc group set lost"):
        sign_in(store, somebody(groups={"g": "lost"}, group="lost"), "cli-5")


def members(store: Store) -> dict[str, tuple[str, ...]]:
    return {group.name: group.members for group in store.shares.groups()}


def test_logins_that_are_over_go_and_so_do_the_oldest_of_too_many(
    store: Store, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "MOST_LOGINS", 3)
    who = somebody(new_role=Role.USER)
    made = [sign_in(store, who, f"page-{number}")[0] for number in range(4)]
    assert [store.token_user(token) is not None for token in made] == [False, True, True, True]
    store.users.put_token("ann", "ci", sha256("by hand"), seconds=60)
    moved = f"expires_at = expires_at - {DAY + 2 * identities.KEPT_SECONDS}"
    sql(database, f"UPDATE vaesvc_tokens SET {moved}")
    sign_in(store, who, "page-9")
    assert [token.label for token in store.users.tokens("ann")] == ["ci", "page-9"]


def test_users_of_before_log_in_and_jobs_go_on_meanwhile(store: Store, database: str) -> None:
    store.observe_cluster(cluster(2), address="ray", ok=True)
    job = store.submit(spec(), owner="ann")
    (attempt,) = store.admit()
    store.claim(job.id, attempt.number, "runner")
    token = auth.new_token()
    store.add_token("ann", token, admin=True)
    before_identities(database)
    store.migrate()
    store.heartbeat(job.id, attempt.number, "runner")
    assert store.job(job.id).state is JobState.RUNNING
    known = store.token_user(token)
    assert known is not None
    assert known.admin
    _, made = sign_in(store, somebody())
    assert made.admin
