"""The API over a real socket: who may call, what is promised, and what every error looks like."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import __version__, auth, middleware, wire
from service.client import AttemptClient, Client
from service.errors import (
    AuthError,
    ConflictError,
    FencedError,
    ForbiddenError,
    ImpossibleError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from service.kinds.train.spec import resolve
from service.queue.jobs import Checkpoint, JobState
from service.signing import read_key
from tests.api_server import Api, LossyProxy, running_api, settings_in
from tests.contract.test_api_rights import CALLS, PUBLIC, VALUES, of_attempt

RECIPE = "digits/beta-vae-mlp"
CLAIM = wire.ClaimRequest(runner_id="r1", version=__version__, host="node-1")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(settings_in(tmp_path / "home")) as running:
        yield running


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with api.client() as made:
        yield made


def spec(**fields: Any) -> dict[str, Any]:
    return resolve(RECIPE, **fields).model_dump(mode="json")


def checkpoint(job_id: str, step: int, **fields: Any) -> Checkpoint:
    uri = f"s3://vaesvc/checkpoints/{job_id}/{step}/"
    values = {"attempt": 1, "step": step, "uri": uri, "manifest_sha256": f"{step:064d}", "bytes": 10}
    return Checkpoint(**(values | fields))


# --- who may call ---------------------------------------------------------------------------------------------------

USER_CALLS = [
    (method, path.format(job_id="j1", **VALUES))
    for method, path in CALLS  # from the OpenAPI document
    if f"{method} {path}" not in PUBLIC and not of_attempt(path)
]
ATTEMPT_CALLS = [
    ("POST", "claim"),
    ("POST", "heartbeat"),
    ("POST", "progress"),
    ("POST", "checkpoints"),
    ("GET", "checkpoints"),
    ("GET", "drained"),
    ("POST", "model"),
    ("POST", "finish"),
]


def test_every_call_of_attempts_is_in_this_list() -> None:
    listed = {(method, f"/v1/jobs/{{job_id}}/attempts/{{number}}/{name}") for method, name in ATTEMPT_CALLS}
    assert {call for call in CALLS if of_attempt(call[1])} == listed
    assert len(USER_CALLS) > 50


@pytest.mark.parametrize("header", [None, "Bearer nonsense", "Bearer", "Basic YTpi"])
def test_no_call_of_a_user_goes_without_a_known_token(api: Api, header: str | None) -> None:
    headers = {"authorization": header} if header else {}
    with httpx.Client(base_url=api.url, headers=headers, timeout=60) as caller:
        for method, path in USER_CALLS:
            answer = caller.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (401, "auth"), (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_attempt_calls_take_the_token_of_that_attempt_only(api: Api, client: Client) -> None:
    secret = auth.read_secret(api.settings.secret_file)
    job = client.submit(spec())
    api.admit()
    wrong = {
        "none": None,
        "a user's": api.token,
        "another job's": auth.attempt_token(secret, "another", 1),
        "another number's": auth.attempt_token(secret, job.id, 2),
        "another service's": auth.attempt_token(b"x" * 32, job.id, 1),
    }
    for whose, token in wrong.items():
        headers = {"authorization": f"Bearer {token}"} if token else {}
        for method, name in ATTEMPT_CALLS:
            answer = httpx.request(method, f"{api.url}/v1/jobs/{job.id}/attempts/1/{name}", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "auth"), (whose, name)


def test_an_attempts_token_opens_no_users_call(api: Api) -> None:
    token = auth.attempt_token(auth.read_secret(api.settings.secret_file), "j1", 1)
    for method, path in USER_CALLS:
        answer = httpx.request(method, api.url + path, headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 401, (method, path)
    assert "attempt's token" in answer.json()["message"]


def test_a_revoked_token_is_refused_at_once(api: Api, client: Client) -> None:
    assert client.whoami() == "ann"
    api.store.revoke_token("ann")
    with pytest.raises(AuthError, match="revoked"):
        client.whoami()


def test_tokens_are_not_in_the_database(api: Api) -> None:
    data = b"".join(path.read_bytes() for path in api.settings.home.glob("vaesvc.db*"))
    assert b"ann" in data
    assert api.token.encode() not in data


def test_health_needs_no_token_and_says_when_the_database_is_gone(api: Api) -> None:
    assert httpx.get(f"{api.url}/v1/health").json() == {
        "ok": True,
        "version": __version__,
        "detail": {"database": "ok"},
    }
    for path in api.settings.home.glob("vaesvc.db*"):
        path.unlink()
    api.store.close()
    answer = httpx.get(f"{api.url}/v1/health")
    assert (answer.status_code, answer.json()["ok"]) == (503, False)


# --- jobs -----------------------------------------------------------------------------------------------------------


def test_a_submitted_job_waits_and_is_shown(client: Client) -> None:
    job = client.submit(spec(name="first", priority=-3))
    assert (job.state, job.owner, job.name, job.priority, job.position) == (JobState.QUEUED, "ann", "first", -3, 1)
    assert job.reason  # why it waits
    assert client.job(job.id).job == client.jobs()[0]
    assert [event.kind for event in client.events(job.id)] == ["submitted"]
    assert client.server_version == __version__
    assert client.clock_skew is not None
    assert abs(client.clock_skew) < 2


def test_a_recipe_is_resolved_by_the_service(client: Client) -> None:
    assert client.dry_run({"recipe": RECIPE}) == spec()
    assert client.submit({"recipe": RECIPE}).spec == spec()


def test_the_same_key_gives_the_same_job_per_owner(api: Api, client: Client) -> None:
    first = client.submit(spec(), key="k")
    assert client.submit(spec(), key="k").id == first.id
    with pytest.raises(ConflictError, match="'k'"):
        client.submit(spec(priority=-1), key="k")
    with api.user("bob") as bob:
        assert bob.submit(spec(), key="k").id != first.id
    assert client.submit(spec()).id != client.submit(spec()).id  # without a key: two jobs


def test_many_jobs_are_submitted_at_once_in_order_and_all_or_none(api: Api, client: Client) -> None:
    many = [spec(name=f"job-{number}") for number in range(5)]
    made = client.submit_all(many, keys=[f"k{number}" for number in range(5)])
    assert [(job.name, job.position) for job in made] == [(f"job-{n}", n + 1) for n in range(5)]
    assert [job.id for job in made] == sorted(job.id for job in made)
    assert client.submit_all(many[::-1], keys=[f"k{n}" for n in range(4, -1, -1)]) == made[::-1]
    assert [event.kind for event in client.events(made[3].id)] == ["submitted"]
    with pytest.raises(UsageError, match="spec 2 of 2: trainz"):
        client.submit_all([spec(), spec() | {"trainz": 3}])
    with pytest.raises(ForbiddenError, match="spec 1 of 2: priority"), api.user("bob") as bob:
        bob.submit_all([spec(priority=1), spec()])
    with pytest.raises(ConflictError, match="'k2' was used for another spec"):
        client.submit_all([spec(), spec()], keys=["new", "k2"])
    assert len(client.jobs()) == 5


def test_a_submit_whose_answer_is_lost_makes_one_job(api: Api, client: Client) -> None:
    proxy = LossyProxy(api.url, lose=2)
    try:
        with Client(proxy.url, api.token) as unlucky:
            job = unlucky.submit(spec())
    finally:
        proxy.close()
    assert proxy.requests == 3  # two were processed, and their answers lost
    assert [found.id for found in client.jobs()] == [job.id]


def test_a_retry_whose_answer_is_lost_is_not_repeated(api: Api, client: Client) -> None:
    job = client.submit(spec())
    client.cancel(job.id)
    proxy = LossyProxy(api.url, lose=1)
    try:
        with Client(proxy.url, api.token) as unlucky, pytest.raises(UnavailableError):
            unlucky.retry(job.id)
    finally:
        proxy.close()
    assert proxy.requests == 1
    assert client.job(job.id).job.state is JobState.QUEUED


def test_two_hundred_submits_at_once_each_twice(api: Api) -> None:
    data = spec()

    def twice(number: int) -> tuple[str, str]:
        with api.client(retry_seconds=30) as one:
            return one.submit(data, key=f"k{number}").id, one.submit(data, key=f"k{number}").id

    with ThreadPoolExecutor(8) as pool:
        pairs = list(pool.map(twice, range(200)))
    assert all(first == second for first, second in pairs)
    with api.client() as client:
        assert len({first for first, _ in pairs}) == len(client.jobs(limit=1000)) == 200


def test_jobs_come_in_pages_newest_first_and_by_state(client: Client) -> None:
    ids = [client.submit(spec()).id for _ in range(5)]
    client.cancel(ids[2])
    newest_first = ids[::-1]
    first = client.jobs(limit=2)
    second = client.jobs(limit=2, before=first[-1].id)
    assert [job.id for job in first + second] == newest_first[:4]
    assert [job.id for job in client.jobs(states=[JobState.CANCELLED])] == [ids[2]]
    assert len(client.jobs(states=[JobState.CANCELLED, JobState.QUEUED])) == 5
    assert {job.id: job.position for job in client.jobs(states=[JobState.QUEUED])} == {
        ids[0]: 1,
        ids[1]: 2,
        ids[3]: 3,
        ids[4]: 4,
    }


def test_cancel_and_retry(api: Api, client: Client) -> None:
    job = client.submit(spec())
    assert client.cancel(job.id).state is JobState.CANCELLED
    assert client.cancel(job.id).state is JobState.CANCELLED
    with api.user("bob", admin=True) as bob:
        assert bob.retry(job.id).state is JobState.QUEUED
    with pytest.raises(ConflictError):
        client.retry(job.id)
    by = [event.detail.get("by") for event in client.events(job.id) if "by" in event.detail]
    assert by == ["ann", "bob"]


def test_what_no_cluster_could_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    with running_api(settings_in(tmp_path)) as api, api.client() as client:
        api.store._settle_seconds = 0.0  # the cluster is as large as it will get
        api.admit()
        with pytest.raises(ImpossibleError, match="64"):
            client.submit(spec(resources={"workers": 64}))
        assert client.jobs() == []


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": {"data": {"name": "digitz"}}}, ["digitz", "digits"]),
        ({"recipe": RECIPE, "prioritty": 3}, ["prioritty", "priority"]),
        ({"recipe": "digits/beta"}, ["digits/beta-vae-mlp"]),
        ({}, ["train"]),
    ],
)
def test_a_wrong_spec_is_told_what_is_wrong(client: Client, change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        client.submit(change)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)
    assert client.jobs() == []


def test_unknown_jobs_attempts_and_calls(api: Api, client: Client) -> None:
    with pytest.raises(NotFoundError, match="nosuch"):
        client.job("nosuch")
    with pytest.raises(NotFoundError):
        client.cancel("nosuch")
    with pytest.raises(NotFoundError, match="no attempt 7"):
        client.logs(client.submit(spec()).id, attempt=7)
    answer = httpx.get(f"{api.url}/v1/nothing", headers={"authorization": f"Bearer {api.token}"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=1001", "limit"), ("state=SLEEPING", "state"), ("limit=many", "limit")],
)
def test_a_wrong_parameter_is_named(api: Api, query: str, field: str) -> None:
    answer = httpx.get(f"{api.url}/v1/jobs?{query}", headers={"authorization": f"Bearer {api.token}"})
    assert (answer.status_code, answer.json()["code"]) == (422, "usage")
    assert field in answer.json()["message"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_beyond_the_limit_is_refused_unread(api: Api, chunked: bool) -> None:
    headers = {"authorization": f"Bearer {api.token}", "content-type": "application/json"}
    body = json.dumps({"spec": {"x": "y" * wire.MAX_REQUEST_BYTES}}).encode()
    content = iter([body[:1000], body[1000:]]) if chunked else body
    answer = httpx.post(f"{api.url}/v1/jobs", headers=headers, content=content)
    assert (answer.status_code, answer.json()["code"]) == (413, "usage")


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.3)
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        token = f"Authorization: Bearer {api.token}\r\n".encode()
        slow.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n" + token + b"Content-Length: 100\r\n\r\n{")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"spec": 3}', b'{"spec": {}, "more": 1}', b"\xff", b'{"key": "k"}'])
def test_a_body_that_is_no_request_is_refused(api: Api, body: bytes) -> None:
    headers = {"authorization": f"Bearer {api.token}", "content-type": "application/json"}
    answer = httpx.post(f"{api.url}/v1/jobs", headers=headers, content=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] == "usage"


def test_a_failure_nobody_foresaw_tells_nothing_of_the_inside(
    api: Api, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("the inside")

    monkeypatch.setattr(api.store, "cluster", broken)
    answer = httpx.get(f"{api.url}/v1/cluster", headers={"authorization": f"Bearer {api.token}"})
    assert (answer.status_code, answer.json()["code"]) == (500, "error")
    assert "inside" not in answer.text


# --- attempts -------------------------------------------------------------------------------------------------------


def test_an_attempt_from_claim_to_finish(api: Api, client: Client) -> None:
    job = client.submit(spec())
    (attempt,) = api.admit()
    with api.attempt_client(attempt) as runner:
        context = runner.claim(CLAIM)
        assert (context.job.id, context.number, context.checkpoints) == (job.id, 1, ())
        assert context.lease_seconds == api.settings.lease_seconds
        assert context.storage == api.settings.storage()
        assert runner.claim(CLAIM).job.id == job.id  # the same runner may ask again
        assert runner.heartbeat("r1").cancel is False
        report = wire.ProgressReport(
            progress={"step": 5, "total_steps": 10, "metrics": {"val/elbo": -3.0}}, run_id="run"
        )
        runner.progress(report)
        assert [one.step for one in runner.commit_checkpoint(checkpoint(job.id, 5)).kept] == [5]
        assert [one.step for one in runner.checkpoints()] == [5]
        shown = client.job(job.id)
        assert (shown.job.state, shown.job.run_id, shown.job.progress["step"]) == (JobState.RUNNING, "run", 5)
        assert shown.checkpoints[0].step == 5
        client.cancel(job.id)
        assert runner.heartbeat("r1").cancel is True
        request = wire.FinishRequest(runner_id="r1", outcome="cancelled")
        assert runner.finish(request).state is runner.finish(request).state is JobState.CANCELLED


def test_another_runner_and_an_older_attempt_are_fenced(api: Api, client: Client) -> None:
    job = client.submit(spec())
    (first,) = api.admit()
    with api.attempt_client(first) as runner:
        runner.claim(CLAIM)
        with pytest.raises(FencedError):
            runner.claim(wire.ClaimRequest(runner_id="r2", version=__version__))
        with pytest.raises(FencedError):
            runner.heartbeat("r2")
        runner.finish(wire.FinishRequest(runner_id="r1", outcome="failed", error="boom", retryable=False))
        client.retry(job.id)
        (second,) = api.admit()
        assert second.number == 2
        for call in (lambda: runner.heartbeat("r1"), lambda: runner.commit_checkpoint(checkpoint(job.id, 9))):
            with pytest.raises(FencedError):
                call()


def test_a_cluster_with_another_version_is_told_so_and_the_job_says_it(api: Api, client: Client) -> None:
    job = client.submit(spec())
    (attempt,) = api.admit()
    with api.attempt_client(attempt) as runner, pytest.raises(ConflictError, match=r"0\.0\.9.*node-7"):
        runner.claim(wire.ClaimRequest(runner_id="r1", version="0.0.9", host="node-7"))
    shown = client.job(job.id).job
    assert shown.state is JobState.FAILED
    assert "0.0.9" in (shown.reason or "")


def test_a_claim_whose_answer_is_lost_is_asked_again(api: Api, client: Client) -> None:
    client.submit(spec())
    (attempt,) = api.admit()
    proxy = LossyProxy(api.url, lose=1)
    try:
        token = auth.attempt_token(auth.read_secret(api.settings.secret_file), attempt.job_id, attempt.number)
        with AttemptClient(proxy.url, token, job_id=attempt.job_id, number=attempt.number) as runner:
            assert runner.claim(CLAIM).number == 1
    finally:
        proxy.close()


# --- storage and models where there are none ------------------------------------------------------------------------


def test_a_job_that_never_ran_has_an_empty_log(client: Client) -> None:
    job = client.submit(spec())
    assert client.logs(job.id) == wire.LogChunk(text="", offset=0, attempt=0, complete=False)
    client.cancel(job.id)
    assert client.logs(job.id).complete


def test_models_need_no_mlflow(client: Client) -> None:
    assert client.models() == []
    with pytest.raises(NotFoundError, match="no registered model 'm'; there are: none yet"):
        client.model_files("m")
    with pytest.raises(NotFoundError, match="VAESVC_MLFLOW_URI"):
        client.mirror()


def test_the_public_key_needs_no_token(api: Api) -> None:
    answer = httpx.get(f"{api.url}/v1/keys").json()
    assert answer == {"keys": [read_key(api.settings.signing_key_file).public]}
    assert api.settings.signing_key_file.stat().st_mode & 0o777 == 0o600


def test_storage_that_does_not_answer_keeps_no_heartbeat_waiting(tmp_path: Path) -> None:
    """Sixty log readers wait on a bucket that is silent; a heartbeat passes them all."""
    silent = socket.create_server(("127.0.0.1", 0))
    endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
    storage = {"bucket": "models", "endpoint_url": endpoint, "access_key": "a", "secret_key": "s"}
    with silent, running_api(settings_in(tmp_path, s3=storage)) as api, api.client() as client:
        job = client.submit(spec())
        (attempt,) = api.admit()
        with api.attempt_client(attempt) as runner, ThreadPoolExecutor(60) as pool:
            runner.claim(CLAIM)
            url, headers = f"{api.url}/v1/jobs/{job.id}/logs", {"authorization": f"Bearer {api.token}"}

            def read() -> None:
                with pytest.raises(httpx.TimeoutException):
                    httpx.get(url, headers=headers, timeout=10)

            readers = [pool.submit(read) for _ in range(60)]
            time.sleep(1)
            runner.heartbeat("r1")
            assert not any(reader.done() for reader in readers)
            for reader in readers:
                reader.result()


# --- the description ------------------------------------------------------------------------------------------------


OPEN_CALLS = {
    *(("get", f"/v1/{name}") for name in ("health", "keys", "login")),
    *(("post", f"/v1/{name}") for name in ("login", "login/finish")),
}


def test_the_openapi_description(api: Api) -> None:
    schema = httpx.get(f"{api.url}/v1/openapi.json").json()
    assert schema["info"]["title"] == "vaesvc"
    for path, methods in schema["paths"].items():
        for method, call in methods.items():
            assert call["summary"], (method, path)
            if (method, path) in OPEN_CALLS:
                assert "security" not in call
                continue
            scheme = "attempt token" if "/attempts/" in path else "user token"
            assert [list(one) for one in call["security"]] == [[scheme]], (method, path)
            error = call["responses"]["default"]["content"]["application/json"]["schema"]["$ref"]
            assert error.endswith("/ErrorReply")
    for record in ("Job", "JobDetail", "SubmitRequest", "AttemptContext", "FinishRequest", "ModelFiles", "Checkpoint"):
        assert record in schema["components"]["schemas"]


# --- more epochs ----------------------------------------------------------------------------------------------------


def _succeeded(api: Api, client: Client, **train: Any) -> str:
    job = client.submit(spec(train=train) if train else spec())
    (attempt,) = api.admit()
    with api.attempt_client(attempt) as runner:
        runner.claim(CLAIM)
        runner.commit_checkpoint(checkpoint(job.id, 5))
        runner.finish(wire.FinishRequest(runner_id="r1", outcome="succeeded", result={"steps": 5}))
    return job.id


def test_fault_13a_an_ended_job_is_given_more_epochs_and_goes_on_from_its_checkpoint(api: Api, client: Client) -> None:
    job_id = _succeeded(api, client, schedule={"kind": "constant"})
    with pytest.raises(ConflictError, match=f"vaesvc retry {job_id} --set epochs=N"):
        client.retry(job_id)
    before = client.job(job_id).job.spec["train"]
    assert before["schedule"]["kind"] == "constant"
    longer = client.amend(job_id, "lengthen", epochs=4 * before["epochs"])
    assert (longer.state, longer.failures) == (JobState.QUEUED, 0)
    assert longer.spec["train"] == {**before, "epochs": 4 * before["epochs"]}
    assert client.events(job_id)[-1].detail["epochs"] == 4 * before["epochs"]
    (attempt,) = api.admit()
    with api.attempt_client(attempt) as runner:
        context = runner.claim(CLAIM)
        assert (context.number, [one.step for one in context.checkpoints]) == (2, [5])
        with pytest.raises(ConflictError, match="when it is over"):
            client.amend(job_id, "lengthen", epochs=9 * before["epochs"])
        runner.finish(wire.FinishRequest(runner_id="r1", outcome="succeeded"))
    assert client.amend(job_id, "lengthen", epochs=4 * before["epochs"]).state is JobState.SUCCEEDED  # the same again


@pytest.mark.parametrize(
    ("train", "asked", "message"),
    [
        ({"schedule": {"kind": "constant"}}, {"epochs": 1e-3}, "is less than"),
        ({}, {}, "give one of epochs and steps"),
        ({}, {"epochs": 1e6, "steps": 3}, "give one of epochs and steps"),
        ({"schedule": {"kind": "cosine"}}, {"epochs": 1000}, "cosine falls to its end over the whole run"),
    ],
)
def test_fault_13a_what_would_be_another_run_is_refused(
    api: Api, client: Client, train: dict[str, Any], asked: dict[str, Any], message: str
) -> None:
    job_id = _succeeded(api, client, **train)
    with pytest.raises(UsageError, match=message):
        client.amend(job_id, "lengthen", **asked)
    assert client.job(job_id).job.state is JobState.SUCCEEDED
