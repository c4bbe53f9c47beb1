"""Users, their tokens and the audit log in SQL, on every database: what is taken, for how long, and what it may do."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import exc

from service import auth
from service.errors import ConflictError, ForbiddenError, NotFoundError, VaesvcError
from service.queue import tokens
from service.queue.acts import Act
from service.queue.jobs import JobState, TokenInfo
from service.queue.roles import SCOPES, Role, Scope, holders, sha256
from service.queue.store import Store
from tests.contract.queue_checks import before_users, cluster, spec, sql


def _new(store: Store, name: str, label: str, **more: Any) -> str:
    token = auth.new_token()
    store.users.put_token(name, label, sha256(token), **more)
    return token


def _info(store: Store, token: str) -> TokenInfo:
    known = store.token_user(token)
    assert known is not None
    return known


def _later(database: str, seconds: float) -> None:
    """Let so much time pass for the tokens."""
    moved = f"created_at = created_at - {seconds}, expires_at = expires_at - {seconds}"
    sql(database, f"UPDATE vaesvc_tokens SET {moved}")


def test_a_token_may_what_both_its_users_role_and_its_scopes_allow(store: Store) -> None:
    for role in Role:
        store.users.put(role.value, role)
        whole, narrow = (
            _new(store, role, label, scopes=scopes) for label, scopes in (("a", None), ("b", [Scope.READ]))
        )
        assert {scope for scope in Scope if _info(store, whole).may(scope)} == SCOPES[role]
        assert _info(store, narrow).held() == (Scope.READ,)
    admins = _new(store, "viewer", "wide", scopes=list(Scope))
    assert _info(store, admins).held() == (Scope.READ,)
    store.users.put("viewer", Role.ADMIN)  # it counts from the next call
    assert _info(store, admins).admin
    assert [holders(scope)[0] for scope in Scope] == ["viewer", "user", "user", "operator", "admin"]


def test_a_token_past_its_end_is_unknown(store: Store, database: str) -> None:
    store.users.put("ann", Role.USER)
    token = _new(store, "ann", "ci", seconds=3600)
    expires_at = _info(store, token).expires_at
    assert expires_at is not None
    assert abs(expires_at - time.time() - 3600) < 60
    _later(database, 3590)
    assert store.token_user(token) is not None
    _later(database, 11)
    assert store.token_user(token) is None


def test_a_replaced_token_is_taken_for_its_grace_and_no_longer(store: Store, database: str) -> None:
    store.users.put("ann", Role.USER)
    old = _new(store, "ann", "ci", scopes=[Scope.READ], seconds=7200)
    new = _new(store, "ann", "ci", grace_seconds=600, seconds=1e6)
    assert (_info(store, old).replaced, _info(store, new).replaced) == (True, False)
    assert _info(store, new).scopes == (Scope.READ,)  # as before, and for no longer than the old one was made for
    made = _info(store, new)
    assert made.expires_at is not None
    assert made.expires_at - made.created_at == pytest.approx(7200, abs=1e-3)
    _later(database, 590)
    assert store.token_user(old) is not None
    _later(database, 11)
    assert (store.token_user(old), _info(store, new).label) == (None, "ci")
    with pytest.raises(NotFoundError, match="no token 'other' that could be replaced"):
        _new(store, "ann", "other", grace_seconds=600)


def test_the_same_token_again_changes_nothing_and_anothers_is_refused(store: Store) -> None:
    for name in ("ann", "bob"):
        store.users.put(name, Role.USER)
    token = _new(store, "ann", "ci")
    before = store.users.tokens()
    store.users.put_token("ann", "ci", sha256(token))
    assert store.users.tokens() == before
    for name, label in (("bob", "ci"), ("ann", "other")):
        with pytest.raises(ConflictError, match="known already"):
            store.users.put_token(name, label, sha256(token))
    with pytest.raises(ConflictError, match="has a token 'ci' already"):
        _new(store, "ann", "ci")
    with pytest.raises(NotFoundError, match="no user 'nobody'"):
        _new(store, "nobody", "ci")
    rotated = _new(store, "ann", "ci", grace_seconds=60)
    store.users.put_token("ann", "ci", sha256(rotated), grace_seconds=60)  # a repeated call
    assert [one.replaced for one in store.users.tokens("ann")] == [True, False]


def test_who_has_scopes_or_an_end_gives_no_more_than_that(store: Store) -> None:
    store.users.put("ann", Role.USER)
    whole = _info(store, _new(store, "ann", "whole", seconds=1000))
    longer = _info(store, _new(store, "ann", "longer", seconds=10_000, by=whole))
    assert longer.expires_at == whole.expires_at
    narrow = _info(store, _new(store, "ann", "narrow", scopes=[Scope.READ]))
    assert _info(store, _new(store, "ann", "as-narrow", by=narrow)).scopes == (Scope.READ,)
    with pytest.raises(ForbiddenError, match="scopes: submit: the token that asks has not got them"):
        _new(store, "ann", "wider", scopes=[Scope.READ, Scope.SUBMIT], by=narrow)


def test_revoking_ends_a_label_or_all_of_them_and_the_role(store: Store, database: str) -> None:
    store.users.put("ann", Role.ADMIN)
    first, second = _new(store, "ann", "a"), _new(store, "ann", "b")
    _new(store, "ann", "a", grace_seconds=60)
    store.users.revoke("ann", "a")  # the replaced one too
    assert (store.token_user(first), _info(store, second).role) == (None, "admin")
    store.users.revoke("ann")
    assert store.token_user(second) is None
    store.add_token("ann", "another")
    assert _info(store, "another").role == "user"  # nobody inherits a role
    with pytest.raises(NotFoundError, match="'ann' has no token 'b'"):
        store.users.revoke("ann", "b")
    assert second not in str(sql(database, "SELECT * FROM vaesvc_tokens"))


def test_a_user_has_so_many_tokens_at_most(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST_TOKENS", 3)
    store.users.put("ann", Role.USER)
    for number in range(3):
        _new(store, "ann", f"t{number}")
    with pytest.raises(ConflictError, match="3 tokens, the most"):
        _new(store, "ann", "one-more")


def test_the_audit_log_is_read_by_who_what_when_and_refusal_and_never_changed(store: Store, database: str) -> None:
    for actor, object, status in (("ann", "j1", 200), ("bob", "j1", 403), ("ann", "j2", 409), ("", "j2", 401)):
        store.audit.add(Act(actor=actor, act="POST /v1/x", object=object, origin="::1", status=status))
    acts = store.audit.acts()
    assert [(act.actor, act.object, act.allowed) for act in acts] == [
        ("", "j2", False), ("ann", "j2", True), ("bob", "j1", False), ("ann", "j1", True),
    ]  # fmt: skip
    assert abs(acts[0].at - time.time()) < 60
    assert [act.object for act in store.audit.acts(actor="ann")] == ["j2", "j1"]
    assert [act.actor for act in store.audit.acts(object="j1")] == ["bob", "ann"]
    assert [act.actor for act in store.audit.acts(refused=True)] == ["", "bob"]
    assert store.audit.acts(before=acts[1].id) == acts[2:]
    assert store.audit.acts(limit=1) == acts[:1]
    assert store.audit.acts(until=acts[-1].at) == []
    assert len(store.audit.acts(since=acts[-1].at)) == 4
    for change in ("UPDATE vaesvc_audit SET actor = 'cid'", "DELETE FROM vaesvc_audit"):
        with pytest.raises(exc.DBAPIError, match="append-only"):
            sql(database, change)


def test_what_is_noted_is_bounded_and_is_text(store: Store) -> None:
    store.audit.add(Act(actor="a" * 300, act="x\x00\ud800", object="o" * 900, status=200))
    (act,) = store.audit.acts()
    assert (len(act.actor), len(act.object)) == (200, 500)
    assert act.act == "x\N{REPLACEMENT CHARACTER}?"
    assert store.audit.acts(actor="a\x00", object="\ud800") == []


def test_tokens_of_before_work_as_they_did_while_jobs_run(store: Store, database: str) -> None:
    store.observe_cluster(cluster(2), address="ray", ok=True)
    job = store.submit(spec(), owner="ann")
    (attempt,) = store.admit()
    store.claim(job.id, attempt.number, "runner")
    before_users(database)
    for name, admin in (("ann", False), ("root", True)):
        values = {"name": name, "sha256": sha256(f"{name}s"), "admin": admin}
        sql(database, "INSERT INTO vaesvc_tokens VALUES (:name, :sha256, 12.5, :admin)", **values)
    store.migrate()
    store.heartbeat(job.id, attempt.number, "runner")
    assert store.job(job.id).state is JobState.RUNNING
    known = {name: _info(store, f"{name}s") for name in ("ann", "root")}
    assert [(one.role, one.label, one.scopes, one.created_at) for one in known.values()] == [
        ("user", "main", None, 12.5), ("admin", "main", None, 12.5),
    ]  # fmt: skip
    assert (known["ann"].admin, known["root"].admin) == (False, True)


def test_a_failed_act_leaves_no_user_behind(store: Store) -> None:
    store.add_token("ann", "one")
    with pytest.raises(VaesvcError, match="revoke that one first"):
        store.add_token("bob", "one")
    assert [user.name for user in store.users.all()] == ["ann"]
