"""Whose job it is: who changes it, who sees it. Every call is taken from the OpenAPI document, so none is forgotten."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from service import api, auth, settings, wire
from service.client import Client
from service.errors import ForbiddenError, NotFoundError
from service.kinds.study.spec import resolve_study
from service.kinds.train.spec import resolve
from service.queue.jobs import Job, JobState
from service.queue.roles import Role
from service.queue.store import Store
from tests.api_server import Api, running_api, settings_in
from tests.contract.queue_checks import sql

RECIPE = "digits/beta-vae-mlp"
BODIES = {
    "/v1/jobs/{job_id}/amend": {"what": "lengthen", "epochs": 900},
    "/v1/jobs/{job_id}/study/extend": {"trials": 9},
    "/v1/jobs/{job_id}/lengthen": {"epochs": 900},
    "/v1/jobs/{job_id}/reprioritize": {"priority": -3},
}
NOT_OF_A_JOB = {
    "/v1/jobs", "/v1/jobs:batch", "/v1/jobs/dry-run", "/v1/data/uploads",
    "/v1/tokens/{label}", "/v1/tokens/{label}/rotate",  # the caller's own; the next are the administrators'
    "/v1/users/{name}", "/v1/users/{name}/tokens/{label}", "/v1/users/{name}/disabled",
    "/v1/login", "/v1/login/finish",  # tests/integration/test_login.py
    "/v1/notifications", "/v1/notifications/{subscription}", "/v1/notifications/{subscription}/try",
    "/v1/code/{digest}",  # the caller's own from the start
    "/v1/groups/{group}", "/v1/groups/{group}/members/{user}", "/v1/quotas/{kind}/{name}",  # test_api_shares.py
    "/v1/nodes/{node}/drain", "/v1/nodes/{node}/resume",  # operators': test_api_nodes.py
    "/v1/data/{name}",  # a name's owner's: tests/integration/test_data_upload.py
}  # fmt: skip
STUDY = {
    "base": RECIPE,
    "stages": [
        {
            "name": "rates",
            "space": {"optimizer.lr": {"kind": "log-uniform", "low": 1e-4, "high": 1e-2}},
            "search": {"kind": "random", "trials": 2},
        }
    ],
}


def _document() -> dict[str, Any]:
    """The OpenAPI document, of an application that nobody calls."""
    with tempfile.TemporaryDirectory() as folder:
        made = settings_in(Path(folder))
        store = Store(made.database_url)
        try:
            return api.create_app(made, store).openapi()
        finally:
            store.close()


PATHS: dict[str, dict[str, Any]] = _document()["paths"]
OF_A_USER = [
    (method.upper(), path)
    for path, methods in PATHS.items()
    for method in methods
    if "attempts/{number}" not in path and path != "/v1/health"
]
CHANGING = [(method, path) for method, path in OF_A_USER if method != "GET" and path not in NOT_OF_A_JOB]
READING = [(method, path) for method, path in OF_A_USER if method == "GET" and "{job_id}" in path]


@dataclass(frozen=True, kw_only=True)
class Jobs:
    api: Api
    train: Job
    study: Job

    def of(self, path: str) -> Job:
        return self.study if "/study" in path else self.train

    def call(self, client: Client, method: str, path: str, job_id: str) -> httpx.Response:
        url = path.replace("{job_id}", job_id)
        return client._http.pool.request(method, url, json=BODIES.get(path))


@contextmanager
def _jobs(folder: Path, **more: Any) -> Iterator[Jobs]:
    with running_api(settings_in(folder, **more)) as api, api.client() as ann:
        train = ann.submit(resolve(RECIPE, ["schedule.kind=constant"]))
        study = ann.submit(resolve_study(STUDY))
        yield Jobs(api=api, train=train, study=study)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    with _jobs(tmp_path_factory.mktemp("open")) as made:
        yield made


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """A service that shows users their own only."""
    with _jobs(tmp_path_factory.mktemp("closed"), read="own") as made:
        yield made


@pytest.fixture(scope="module")
def bob(jobs: Jobs) -> Iterator[Client]:
    with jobs.api.user("bob") as client:
        yield client


def test_every_changing_call_is_of_one_job() -> None:
    """A new one must be either the caller's own from the start (and named above), or say whose job it changes."""
    assert len(CHANGING) >= 4
    assert [path for _, path in CHANGING if "{job_id}" not in path] == []


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_fault_04_another_users_job_is_not_changed(jobs: Jobs, bob: Client, method: str, path: str) -> None:
    job = jobs.of(path)
    before = jobs.api.store.events(job.id)
    answer = jobs.call(bob, method, path, job.id)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert all(word in answer.json()["message"] for word in ("ann's", "administrator", "you are bob", job.id))
    assert jobs.api.store.events(job.id) == before
    assert jobs.api.store.job(job.id).state is JobState.QUEUED


@pytest.mark.parametrize(("method", "path"), CHANGING)
@pytest.mark.parametrize("admin", [False, True])
def test_fault_04_owner_and_administrator_change_it(tmp_path: Path, method: str, path: str, admin: bool) -> None:
    with _jobs(tmp_path) as jobs, jobs.api.user("root", admin=True) as root, jobs.api.client() as ann:
        job = jobs.of(path)
        if path.endswith(("/retry", "/amend", "/lengthen")):
            ann.cancel(job.id)
        if path.endswith("/release"):
            ann.order.hold(job.id)
        answer = jobs.call(root if admin else ann, method, path, job.id)
        assert answer.status_code == 200, answer.text
        by = [event.detail["by"] for event in jobs.api.store.events(job.id) if "by" in event.detail]
        assert by[-1] == ("root" if admin else "ann")


@pytest.mark.parametrize(("method", "path"), CHANGING + READING)
def test_fault_04_where_reading_is_closed_anothers_job_is_as_unknown_as_none(
    closed: Jobs, method: str, path: str
) -> None:
    token = auth.new_token()
    closed.api.store.add_token(f"stranger-{auth.new_token()[-9:]}", token)
    with closed.api.client(token) as stranger:
        job = closed.of(path)
        answer, absent = (closed.call(stranger, method, path, name) for name in (job.id, "nosuch"))
    assert (answer.status_code, absent.status_code) == (404, 404)
    assert answer.json()["message"].replace(job.id, "nosuch") == absent.json()["message"]


def test_fault_04_where_reading_is_closed_lists_hold_ones_own(closed: Jobs) -> None:
    with closed.api.client() as ann, closed.api.user("cid") as cid, closed.api.user("root", admin=True) as root:
        own = cid.submit(resolve(RECIPE))
        assert [job.id for job in cid.jobs()] == [own.id]
        assert {job.id for job in ann.jobs()} == {closed.train.id, closed.study.id}
        assert len(root.jobs()) == 3
        assert ann.job(closed.train.id).job.owner == "ann"
        assert root.job(own.id).job.owner == "cid"
        assert cid.jobs(limit=1, before="zzzz")[0].id == own.id  # pages are of what one sees


def test_fault_04_reasons_for_waiting_name_no_strangers_job(tmp_path: Path) -> None:
    with running_api(settings_in(tmp_path, read="own")) as api, api.client() as ann, api.user("bob") as bob:
        ann.submit(resolve(RECIPE, resources={"workers": 3}))
        assert len(api.admit()) == 1
        large = ann.submit(resolve(RECIPE, resources={"workers": 4}))
        small = bob.submit(resolve(RECIPE))
        assert api.admit() == []
        told = bob.job(small.id)
        assert "could delay the first job of the line" in str(told.job.reason)
        assert large.id not in told.model_dump_json()


def test_fault_04_models_of_others_are_unseen_where_reading_is_closed(closed: Jobs) -> None:
    store = closed.api.store
    strangers = store.submit(resolve(RECIPE), owner="zoe")
    for name, job_id in (("hers", closed.train.id), ("nobodys", strangers.id)):
        store.put_model_version(job_id, name, None, lambda number: "not signed")
    with closed.api.client() as ann, closed.api.user("dan") as dan, closed.api.user("amy", admin=True) as amy:
        assert [one.name for one in ann.models()] == ["hers"]
        assert dan.models() == []
        assert {one.name for one in amy.models()} == {"hers", "nobodys"}
        with pytest.raises(NotFoundError, match="there are: none yet"):
            dan.model_files("hers")


def test_fault_04_only_administrators_go_before_everybody(jobs: Jobs, bob: Client) -> None:
    with pytest.raises(ForbiddenError, match="priority: 1 is an administrator's, and you are bob"):
        bob.submit(resolve(RECIPE, priority=1))
    with pytest.raises(ForbiddenError, match="priority"):
        bob.dry_run({"recipe": RECIPE, "priority": 1})
    assert bob.submit(resolve(RECIPE, priority=-1)).priority == -1
    with jobs.api.user("chief", admin=True) as chief:
        assert chief.submit(resolve(RECIPE, priority=7)).priority == 7


def test_only_operators_keep_their_room_from_higher_priorities(jobs: Jobs, bob: Client) -> None:
    asked = {"recipe": RECIPE, "preemptible": False}
    for call in (bob.dry_run, lambda given: bob.submit(resolve(given))):
        with pytest.raises(ForbiddenError, match=r"preemptible: false is an operator's .*, and you are bob"):
            call(asked)
    assert bob.submit(resolve(RECIPE)).spec["preemptible"] is True
    with jobs.api.user("boss", admin=True) as boss:
        assert boss.submit(resolve(asked)).spec["preemptible"] is False


def test_fault_04_whoami_tells_the_role_and_it_changes_at_once(jobs: Jobs) -> None:
    with jobs.api.user("eve") as eve:
        assert eve.identity() == wire.Identity(owner="eve", role=Role.USER, scopes=("read", "submit", "change"))
        jobs.api.store.set_role("eve", admin=True)
        assert eve.identity().role == "admin"
        assert jobs.call(eve, "POST", "/v1/jobs/{job_id}/cancel", jobs.train.id).status_code == 200
        jobs.api.store.set_role("eve", admin=False)
        assert jobs.call(eve, "POST", "/v1/jobs/{job_id}/retry", jobs.train.id).status_code == 403
        with pytest.raises(NotFoundError, match="'nobody' has no token"):
            jobs.api.store.set_role("nobody", admin=True)


def test_fault_04_tokens_of_before_stay_users_and_the_stacks_own_becomes_an_administrator(tmp_path: Path) -> None:
    """An upgrade makes nobody more than they were, except who started the stack and owns all its files anyway."""
    from alembic import command
    from alembic.config import Config

    from service.queue.database import Database
    from service.stack import database as stack_database

    made = settings.load({"VAESVC_HOME": str(tmp_path), "VAESVC_CONFIG": ""})
    (tmp_path / "token").write_text("the-stacks")
    with Database(made.database_url).write() as connection:
        config = Config()
        config.set_main_option("script_location", "service.queue:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for name, token in (("me", "the-stacks"), ("bob", "bobs")):
            digest = hashlib.sha256(token.encode()).hexdigest()
            values = {"name": name, "sha256": digest}
            connection.execute(sa.text("INSERT INTO vaesvc_tokens VALUES (:name, :sha256, 0)"), values)
    store = Store(made.database_url)
    store.migrate()
    assert {token.name: token.role for token in store.tokens()} == {"me": "user", "bob": "user"}
    stack_database.prepare(made)
    assert {token.name: token.role for token in store.tokens()} == {"me": "admin", "bob": "user"}
    assert sql(made.database_url, "SELECT version_num FROM vaesvc_version") != [("0001",)]
    store.close()
