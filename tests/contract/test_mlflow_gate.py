"""The login in front of MLflow: who is let in, and for how long. A real queue, a stand-in for what lies behind."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from service import auth
from service.errors import AuthError, UnavailableError
from service.kinds.train.spec import resolve
from service.queue.jobs import Capacity
from service.queue.store import Store
from service.tracking.gate import KNOWN_SECONDS, Doorkeeper, Gate
from service.wire import FinishRequest

SECRET = b"s" * 32
RUN = "/api/2.0/mlflow/runs/create"
ALIAS = "/api/2.0/mlflow/registered-models/alias"
EXPERIMENT = "/api/2.0/mlflow/experiments/create"


class Behind:
    """Says what reached it, as MLflow would."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, bytes, dict[bytes, bytes]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.reached.append((scope["path"], message.get("body", b""), dict(scope["headers"])))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


class Door:
    """The gate, asked from outside; `seconds` is its clock."""

    def __init__(self, store: Store, everybody_reads: bool = True) -> None:
        self.seconds = 0.0
        self.behind = Behind()
        self.keeper = Doorkeeper(store, SECRET, everybody_reads=everybody_reads, clock=lambda: self.seconds)
        self._gate = Gate(self.behind, self.keeper)

    def ask(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self._gate)
            async with httpx.AsyncClient(transport=transport, base_url="http://mlflow:5000") as client:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                return await client.request(method, path, headers={**headers, **options.pop("headers", {})}, **options)

        return anyio.run(call)

    def status(self, method: str, path: str, token: str | None = None, **options: Any) -> int:
        return self.ask(method, path, token, **options).status_code


@pytest.fixture
def door(store: Store) -> Door:
    return Door(store)


@pytest.fixture
def user(store: Store) -> Callable[..., str]:
    def make(name: str, *, admin: bool = False) -> str:
        token = auth.new_token()
        store.add_token(name, token, admin=admin)
        return token

    return make


def test_fault_01_nobody_without_a_token_reaches_mlflow(door: Door) -> None:
    assert door.status("GET", "/health") == 200
    wrong = (None, "wrong", auth.new_token(), auth.attempt_token(SECRET, "j-1", 1), "vaesvc-mlflow_.0.ab")
    for path in (
        "/",
        "/version",
        "/static-files/app.js",
        "/graphql",
        "/get-artifact",
        "/api/2.0/mlflow/runs/get",
        "/x",
    ):
        for token in wrong:
            answer = door.ask("GET", path, token)
            assert answer.status_code == 401, (path, token)
            assert answer.json()["error_code"] == "UNAUTHENTICATED"
            assert answer.headers["www-authenticate"].startswith("Basic ")
    with pytest.raises(AuthError):
        anyio.run(door.keeper.caller, "ä")
    for broken in ("Basic", "Basic %%%", "Basic " + base64.b64encode(b"no colon").decode(), "Bearer", "Digest x"):
        assert door.status("GET", "/", headers={"Authorization": broken}) == 401
    assert door.status("OPTIONS", RUN) == 401
    assert [path for path, _, _ in door.behind.reached] == ["/health"]


def test_a_token_opens_as_bearer_and_as_password_and_goes_no_further(door: Door, user: Callable[..., str]) -> None:
    token = user("ann")
    basic = base64.b64encode(f"whoever:{token}".encode()).decode()
    for header in (f"Bearer {token}", f"bearer {token}", f"Basic {basic}"):
        assert door.status("GET", "/", headers={"Authorization": header}) == 200
    assert all(b"authorization" not in headers for _, _, headers in door.behind.reached)


def test_fault_01_users_log_and_administrators_register(door: Door, user: Callable[..., str]) -> None:
    ann, root = user("ann"), user("root", admin=True)
    service = auth.tracking_token(SECRET)
    for token in (ann, root, service):
        assert door.status("POST", RUN, token) == 200
        assert door.status("GET", "/api/2.0/mlflow/registered-models/search", token) == 200
        refused = door.ask("POST", "/ajax-api/3.0/mlflow/gateway/secrets/create", token)
        assert refused.status_code == 403
        assert refused.json()["error_code"] == "PERMISSION_DENIED"
    denied = door.ask("POST", ALIAS, ann)
    assert (denied.status_code, "ann may not POST" in denied.json()["message"]) == (403, True)
    assert [door.status("POST", ALIAS, token) for token in (root, service)] == [200, 200]


def test_where_users_see_their_own_jobs_only_mlflow_is_the_administrators(
    store: Store, user: Callable[..., str]
) -> None:
    door = Door(store, everybody_reads=False)
    refused = door.ask("GET", "/", user("ann"))
    assert (refused.status_code, "open to administrators" in refused.text) == (401, True)
    assert door.status("GET", "/", user("root", admin=True)) == 200
    assert door.status("POST", RUN, auth.tracking_token(SECRET)) == 200


def test_a_revoked_token_ends_within_seconds(door: Door, store: Store, user: Callable[..., str]) -> None:
    token = user("ann")
    assert door.status("GET", "/", token) == 200
    store.revoke_token("ann")
    door.seconds = KNOWN_SECONDS - 0.1
    assert door.status("GET", "/", token) == 200  # remembered: a request costs no look-up
    door.seconds = KNOWN_SECONDS
    assert door.status("GET", "/", token) == 401


def test_an_attempts_token_is_worthless_when_it_is_over(door: Door, store: Store) -> None:
    job = store.submit(resolve("digits/beta-vae-mlp"), owner="ann")
    first = auth.tracking_token(SECRET, job.id, 1)
    assert door.status("POST", RUN, first) == 401  # not admitted yet
    store.observe_cluster(Capacity(nodes=({"CPU": 8.0, "memory": 1e11},)), address="ray", ok=True)
    store.admit()
    store.claim(job.id, 1, "r")
    assert door.status("POST", RUN, first) == 200
    assert door.status("POST", ALIAS, first) == 200
    others = (auth.tracking_token(SECRET, job.id, 2), auth.tracking_token(b"t" * 32, job.id, 1), first[:-1] + "x")
    assert [door.status("POST", RUN, other) for other in others] == [401, 401, 401]
    store.finish(job.id, 1, FinishRequest(runner_id="r", outcome="failed", error="gone", retryable=False))
    door.seconds = KNOWN_SECONDS
    refused = door.ask("POST", RUN, first)
    assert (refused.status_code, "is over" in refused.json()["message"]) == (401, True)


def test_fault_01_an_experiments_artifacts_lie_where_the_server_keeps_them(
    door: Door, user: Callable[..., str]
) -> None:
    """Elsewhere the server would read and write with its keys: models, checkpoints, files of its machine."""
    token = user("ann")
    plain = json.dumps({"name": "x", "tags": [{"key": "a", "value": "b"}]}).encode()
    assert door.status("POST", EXPERIMENT, token, content=plain) == 200
    assert door.behind.reached[-1][1] == plain
    for name in ("artifact_location", "artifactLocation"):
        body = json.dumps({"name": "x", name: "s3://vaesvc/models"})
        for content in (body, json.dumps(body), body.encode("utf-16")):
            refused = door.ask("POST", EXPERIMENT, token, content=content)
            assert (refused.status_code, "artifact_location" in refused.text) == (403, True), content
    assert door.status("POST", EXPERIMENT, token, content=b"{") == 403
    assert door.status("POST", EXPERIMENT, token, content=b" " * 2_000_000) == 403
    assert len(door.behind.reached) == 1
    located = json.dumps({"name": "x", "artifact_location": "s3://vaesvc/there"})
    assert door.status("POST", EXPERIMENT, user("root", admin=True), content=located) == 200


def test_a_page_of_another_port_of_this_machine_does_not_write(door: Door, user: Callable[..., str]) -> None:
    """MLflow itself lets every origin of localhost in; of others its own settings decide, as before."""
    token = user("ann")
    for origin in ("http://localhost:9999", "http://127.0.0.1:5000", "https://[::1]"):
        assert door.status("POST", RUN, token, headers={"Origin": origin}) == 403, origin
        assert door.status("GET", "/", token, headers={"Origin": origin}) == 200
    for origin in ("http://mlflow:5000", "https://lab.example"):
        assert door.status("POST", RUN, token, headers={"Origin": origin}) == 200
    asked = {"Origin": "https://lab.example", "Access-Control-Request-Method": "POST"}
    assert door.status("OPTIONS", RUN, headers=asked) == 200


def test_a_silent_database_lets_in_nobody_new(door: Door, user: Callable[..., str], monkeypatch: Any) -> None:
    known, other = user("ann"), user("bob")
    assert door.status("GET", "/", known) == 200

    def silent(token: str) -> None:
        raise UnavailableError("the database does not answer")

    monkeypatch.setattr(door.keeper._store, "token_user", silent)
    assert [door.status("GET", "/", token) for token in (known, other)] == [200, 503]
