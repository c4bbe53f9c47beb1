"""What users do through the API is in the audit log, with who and from where; so is who was refused. And the calls and
commands about users and tokens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service import auditing, auth
from service.cli.main import main
from service.errors import AuthError, ConflictError, ForbiddenError, NotFoundError, UnavailableError
from service.kinds.train.spec import resolve
from service.queue.acts import ActRecord
from service.queue.roles import Role, Scope
from tests.api_server import Api, running_api, settings_in

RECIPE = "digits/beta-vae-mlp"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(settings_in(tmp_path)) as made:
        yield made


def _told(acts: list[ActRecord]) -> list[tuple[str, str, str, int]]:
    return [(act.actor, act.act, act.object, act.status) for act in reversed(acts)]


def test_acts_and_refusals_are_noted_and_reading_is_not(api: Api) -> None:
    with api.client() as ann, api.user("bob") as bob, api.user("root", admin=True) as root:
        job = ann.submit(resolve(RECIPE))
        two = ann.submit_all([resolve(RECIPE), resolve(RECIPE)])
        ann.job(job.id)
        ann.jobs()
        with pytest.raises(ForbiddenError):
            bob.cancel(job.id)
        with pytest.raises(ForbiddenError):
            bob.users.acts()
        ann.cancel(job.id)
        with pytest.raises(NotFoundError):
            root.cancel("nosuch")
        root.users.put("cid", Role.VIEWER)
        acts = root.users.acts()
    cancel = "POST /v1/jobs/{job_id}/cancel"
    assert _told(acts) == [
        ("ann", "POST /v1/jobs", job.id, 200),
        ("ann", "POST /v1/jobs:batch", f"{two[0].id} {two[1].id}", 200),
        ("bob", cancel, job.id, 403),
        ("bob", "GET /v1/audit", "", 403),
        ("ann", cancel, job.id, 200),
        ("root", cancel, "nosuch", 404),
        ("root", "PUT /v1/users/{name}", "cid", 200),
    ]
    assert {act.origin for act in acts} == {"127.0.0.1"}
    assert {act.token for act in acts} == {"main"}
    assert [act.allowed for act in acts].count(False) == 2


def test_strangers_are_noted_but_do_not_fill_the_log(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "STRANGERS", 3)
    with httpx.Client(base_url=api.url, headers={"x-forwarded-for": "10.9.8.7"}) as stranger:
        for _ in range(5):
            assert stranger.get("/v1/jobs").status_code == 401
        assert stranger.get("/v1/nosuch").status_code == 404
        assert stranger.get("/v1/health").status_code == 200
    acts = api.store.audit.acts()
    assert _told(acts) == [("", "GET /v1/jobs", "", 401)] * 3
    assert {act.origin for act in acts} == {"127.0.0.1"}  # whatever the caller says of itself


def test_where_the_database_is_silent_the_act_is_in_the_apis_log(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def silent(act: object) -> None:
        raise UnavailableError("the database does not answer")

    monkeypatch.setattr(api.store.audit, "add", silent)
    with api.client() as ann:
        job = ann.submit(resolve(RECIPE))  # whose act is written with it
        assert [each.object for each in api.store.audit.acts()] == [job.id]
        ann.cancel(job.id)
    assert any(job.id in record.getMessage() and '"ann"' in record.getMessage() for record in caplog.records)


def test_a_user_makes_replaces_and_drops_tokens(api: Api) -> None:
    token, narrow, newer = (auth.new_token() for _ in range(3))
    with api.client() as ann:
        ann.users.new_token("laptop", token)
        ann.users.new_token("ci", narrow, scopes=[Scope.READ], seconds=3600)
        assert [one.label for one in ann.users.tokens()] == ["ci", "laptop", "main"]
    with api.client(narrow) as ci:
        assert ci.identity().scopes == (Scope.READ,)
        with pytest.raises(ForbiddenError, match="needs the scope submit, and the token 'ci' of ann has read alone"):
            ci.submit(resolve(RECIPE))
        with pytest.raises(ForbiddenError, match="it may replace itself"):
            ci.users.new_token("more", auth.new_token())
        ci.users.rotate("ci", newer, grace_seconds=0)
        with pytest.raises(AuthError, match="past its end"):
            ci.identity()
    with api.client(newer) as ci, api.client(token) as laptop:
        assert ci.identity().scopes == (Scope.READ,)
        laptop.users.revoke_token("ci")
        with pytest.raises(AuthError):
            ci.identity()
        with pytest.raises(ConflictError):
            laptop.users.new_token("main", auth.new_token())


def test_administrators_make_users_and_their_tokens(api: Api) -> None:
    token = auth.new_token()
    with api.user("root", admin=True) as root, api.client() as ann:
        assert root.users.put("vic", Role.VIEWER).role == "viewer"
        root.users.new_token("main", token, user="vic")
        with api.client(token) as vic:
            assert vic.jobs() == []
            with pytest.raises(
                ForbiddenError, match="which is of the roles user, operator, admin, and vic is a viewer"
            ):
                vic.submit(resolve(RECIPE))
            root.users.put("vic", Role.OPERATOR)
            job = ann.submit(resolve(RECIPE))
            assert vic.cancel(job.id).state == "CANCELLED"
            assert root.users.remove("vic").tokens == 1
            with pytest.raises(AuthError):
                vic.jobs()
        assert [user.name for user in root.users.all()] == ["ann", "root"]


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vaesvc", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    printed = capsys.readouterr()
    assert end.value.code in (None, 0), printed.err
    return printed.out


def test_the_commands_about_users(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VAESVC_API_URL", api.url)
    monkeypatch.setenv("VAESVC_DATABASE_URL", api.settings.database_url)
    file = tmp_path / "roots"
    _run(capsys, "token", "add", "root", "--role", "admin", "--file", str(file))
    monkeypatch.setenv("VAESVC_TOKEN_FILE", str(file))
    before = file.read_text()
    assert _run(capsys, "user", "put", "vic", "--role", "viewer") == "vic  viewer\n"
    made = _run(capsys, "token", "new", "main", "--user", "vic", "--scope", "read", "--days", "1").strip()
    known = api.store.token_user(made)
    assert known is not None
    assert (known.name, known.held()) == ("vic", (Scope.READ,))
    _run(capsys, "token", "rotate", "--grace-hours", "0", "--file", str(file))
    assert api.store.token_user(before.strip()) is None
    assert file.stat().st_mode & 0o777 == 0o600
    assert "vic" in _run(capsys, "user", "list")
    _run(capsys, "token", "role", "vic", "operator")
    rows = _run(capsys, "audit", "--since", "1h", "--csv").splitlines()
    assert rows[0] == "ID,AT,WHO,TOKEN,DID,ABOUT,FROM,ANSWER"
    did = [row.split(",")[4] for row in reversed(rows[1:])]
    assert did == [
        "vaesvc token add", "PUT /v1/users/{name}", "PUT /v1/users/{name}/tokens/{label}",
        "POST /v1/tokens/{label}/rotate", "vaesvc token role",
    ]  # fmt: skip
    assert all(before.strip() not in row and made not in row for row in rows)
    assert "ROLE" in _run(capsys, "token", "list")
