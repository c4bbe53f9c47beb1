"""Packages of own code through the API, into a real bucket: who may bring one, and what becomes of it."""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.artifacts import Artifacts
from service.code import storage
from service.code.build import built
from service.code.housekeeping import sweep
from service.code.wheel import Wheel
from service.errors import ForbiddenError, NotFoundError, UntrustedError, UsageError
from service.kinds import resolve
from service.settings import S3Settings, Settings
from tests.api_server import Api, running_api, settings_in
from tests.command import RECIPE, vaesvc
from tests.packages import package

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return built(package(tmp_path_factory.mktemp("package") / "my-parts"))


@pytest.fixture(scope="module")
def base(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    bucket = S3Settings.model_validate(artifacts.settings.model_dump() | {"prefix": "own-code"})
    return settings_in(tmp_path_factory.mktemp("service"), s3=bucket)


@pytest.fixture(scope="module")
def api(base: Settings) -> Iterator[Api]:
    with running_api(base.model_copy(update={"user_code": "users"})) as running:
        yield running


def test_own_code_is_off_until_whoever_runs_the_service_allows_it(base: Settings, wheel: Wheel, tmp_path: Path) -> None:
    spec = resolve(RECIPE, code=wheel.ref)
    with running_api(settings_in(tmp_path / "off", s3=base.s3)) as off, off.client() as client:
        for call in (
            lambda: client.put_code(wheel),
            lambda: client.submit(spec),
            lambda: client.dry_run(spec.model_dump()),
        ):
            with pytest.raises(ForbiddenError, match=r"user_code = 'off'.*VAESVC_USER_CODE=admins or users"):
                call()
        assert client.submit(resolve(RECIPE)).spec["code"] is None
    with running_api(settings_in(tmp_path / "admins", s3=base.s3, user_code="admins")) as api:
        with api.client() as client, pytest.raises(ForbiddenError, match="administrators alone"):
            client.put_code(wheel)
        with api.user("root", admin=True) as client:
            assert client.put_code(wheel) == wheel.ref


def test_a_package_is_kept_once_under_its_digest_and_a_job_names_it(api: Api, wheel: Wheel) -> None:
    artifacts = Artifacts(api.settings.storage())
    artifacts.delete_prefix(artifacts.uri(storage.PLACE))
    spec = resolve(RECIPE, code=wheel.ref)
    with api.client() as client:
        with pytest.raises(UsageError, match=r"my-parts 1\.0 .*has not been brought"):
            client.submit(spec)
        assert client.put_code(wheel) == client.put_code(wheel) == wheel.ref
        job = client.submit(spec)
    assert job.spec["code"] == wheel.ref.model_dump()
    assert [item.uri for item in artifacts.list(artifacts.uri(storage.PLACE))] == [
        artifacts.uri("code", wheel.digest, "my_parts-1.0-py3-none-any.whl")
    ]
    assert storage.fetch(artifacts, wheel.ref, 1 << 20) == wheel
    artifacts.put_bytes(storage.address(artifacts, wheel.ref), wheel.data + b"more", "application/octet-stream")
    artifacts.put_bytes(storage.address(artifacts, wheel.ref), b"PK", "application/octet-stream")
    with pytest.raises(UntrustedError, match="was altered in the bucket"):
        storage.fetch(artifacts, wheel.ref, 1 << 20)
    artifacts.delete_prefix(artifacts.uri(storage.PLACE))
    with pytest.raises(NotFoundError, match="submit the job again with --code"):
        storage.fetch(artifacts, wheel.ref, 1 << 20)


def test_a_package_that_no_job_and_no_model_needs_goes_after_its_grace(api: Api, wheel: Wheel) -> None:
    artifacts, grace = Artifacts(api.settings.storage()), 30 * 86_400.0
    now, later = time.time(), time.time() + 2 * grace
    with api.user("ben") as client:
        client.put_code(wheel)
        assert sweep(api.store, artifacts, 0.0) == []  # it was brought a moment ago
        job = client.submit(resolve(RECIPE, code=wheel.ref))
        assert sweep(api.store, artifacts, grace, lambda: later) == []  # the job waits
        for waiting in client.jobs():
            if not waiting.state.final:
                api.client(api.token).cancel(waiting.id) if waiting.owner == "ann" else client.cancel(waiting.id)
        assert client.job(job.id).job.ended_at is not None
        assert sweep(api.store, artifacts, grace, lambda: now + grace / 2) == []  # it may be tried again
        assert sweep(api.store, artifacts, grace, lambda: later) == [wheel.digest]
        assert not storage.is_there(artifacts, wheel.ref)


def test_a_study_that_a_searcher_of_own_code_draws_is_given_more_trials(api: Api, tmp_path: Path) -> None:
    own = {"VAESVC_HOME": str(tmp_path / "home"), "VAESVC_CONFIG": "", "VAESVC_CACHE_DIR": str(tmp_path / "cache")}
    env = {**os.environ, **own, "VAESVC_API_URL": api.url, "VAESVC_TOKEN": api.token}
    code = ("--code", str(PLUGINS))
    job = vaesvc(env, "submit", "searches/rings/scales", *code).stdout.strip()
    extend = ("study", "extend", job, "--trials", "2")
    assert "the spec needs the package lighthouse 1.0" in vaesvc(env, *extend, code=2).stderr
    assert "Stage scales has 6 assignments now." in vaesvc(env, *extend, *code).stderr
    spec = api.store.job(job).spec
    assert spec["study"]["stages"][0]["search"] == {"kind": "halton", "trials": 6}
    assert spec["code"]["name"] == "lighthouse"
    too_many = vaesvc(env, "study", "extend", job, "--trials", "9999", *code, code=2)
    assert "trials" in too_many.stderr
    assert api.store.job(job).spec == spec


def announced(api: Api, method: str, path: str, size: int) -> tuple[int, str]:
    """The answer to a request whose head says that its body has so many bytes: status, and what is taken."""
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=10)
    connection.putrequest(method, path)
    for name, value in {"authorization": f"Bearer {api.token}", "content-length": str(size)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    found = re.search(r"larger than ([0-9,]+ bytes)", answer.read().decode())
    connection.close()
    return answer.status, found[1] if found else ""


def test_other_bytes_than_the_digest_says_and_what_is_no_package_are_refused(api: Api, wheel: Wheel) -> None:
    headers = {"authorization": f"Bearer {api.token}", "content-type": "application/octet-stream"}
    with httpx.Client(base_url=api.url, headers=headers) as caller:
        other = caller.put(f"/v1/code/{'0' * 64}", content=wheel.data)
        assert (other.status_code, other.json()["code"]) == (422, "usage")
        assert "came altered" in other.json()["message"]
        none = caller.put(f"/v1/code/{wheel.digest}", content=b"PK nothing")
        assert (none.status_code, none.json()["code"]) == (422, "own_code")
        assert caller.put("/v1/code/latest", content=wheel.data).status_code == 422
    assert announced(api, "PUT", f"/v1/code/{wheel.digest}", 20 * 2**20 + 1) == (413, "20,971,520 bytes")
    assert announced(api, "POST", "/v1/jobs", 20 * 2**20) == (413, "1,048,576 bytes")  # others' bodies are as they were
    with httpx.Client(base_url=api.url) as caller:
        assert caller.put(f"/v1/code/{wheel.digest}", content=wheel.data).status_code == 401
