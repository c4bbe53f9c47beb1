"""Groups and quotas through the API and the command line: an administrator's, and refused to others."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from service import auth
from service.cli.main import app
from service.errors import ForbiddenError, QuotaError
from service.kinds.train.spec import resolve
from service.queue.share_records import Bounds
from tests.api_server import Api, running_api, settings_in
from tests.contract.test_api_owners import PATHS

RECIPE = "digits/beta-vae-mlp"
CALLS = [
    (method.upper(), path)
    for path, methods in PATHS.items()
    for method in methods
    if path.startswith(("/v1/groups", "/v1/quotas"))
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(settings_in(tmp_path_factory.mktemp("shares"))) as running:
        yield running


@pytest.fixture
def admin_token(api: Api) -> str:
    token = auth.new_token()
    api.store.add_token(f"root-{token[-8:]}", token, admin=True)
    return token


def vaesvc(api: Api, token: str, *arguments: str) -> Result:
    env = {"VAESVC_CONFIG": "", "VAESVC_API_URL": api.url, "VAESVC_TOKEN": token}
    return CliRunner().invoke(app, arguments, env=env)


def test_groups_and_quotas_are_an_administrators(api: Api) -> None:
    assert len(CALLS) == 8
    with api.user("bob") as bob:
        for method, path in CALLS:
            url = path.format(group="red", user="bob", kind="user", name="bob")
            answer = bob._http.pool.request(method, url, json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (method, path)
    assert api.store.shares.groups() == []
    assert api.store.shares.quotas() == []


def test_the_commands_make_show_and_remove_them(api: Api, admin_token: str) -> None:
    made = vaesvc(api, admin_token, "group", "set", "vision", "--weight", "3")
    assert made.exit_code == 0, made.output
    vaesvc(api, admin_token, "group", "add", "vision", "ann", "zoe")
    table = vaesvc(api, admin_token, "group", "list").output
    assert "vision" in table
    assert "75.0" in table
    assert "ann, zoe" in table
    assert "(in no group)" in table
    vaesvc(api, admin_token, "quota", "set", "group", "vision", "--gpus", "16", "--queued", "100")
    changed = vaesvc(
        api, admin_token, "quota", "set", "group", "vision", "--workers", "8", "--unlimited", "queued", "--json"
    )
    assert json.loads(changed.output)[0] == {
        "kind": "group", "name": "vision", "gpus": 16.0, "cpus": None, "workers": 8, "queued": None, "priority": None,
        "storage_bytes": None, "stored_bytes": None,
    }  # fmt: skip
    sized = vaesvc(api, admin_token, "quota", "set", "group", "vision", "--storage", "1.5")
    assert " 1.5 " in sized.output.splitlines()[-1]
    vaesvc(api, admin_token, "quota", "set", "group", "vision", "--unlimited", "storage")
    assert api.store.shares.quotas()[0].storage_bytes is None
    assert api.store.shares.quotas()[0].stored_bytes == 0
    mine = vaesvc(api, api.token, "quota", "list", "--mine").output  # ann's
    assert "group vision" in mine
    vaesvc(api, admin_token, "quota", "rm", "group", "vision")
    vaesvc(api, admin_token, "group", "rm", "vision")
    assert api.store.shares.groups() == []
    assert api.store.shares.quotas() == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("group", "add", "nosuch", "ann"), "NotFoundError", "no group 'nosuch'; there is none yet. Make one with"),
        (("group", "set", "red", "--weight", "0"), "UsageError", "--weight 0: Input should be greater than 0"),
        (("quota", "set", "user", "ann", "--gpus", "-1"), "UsageError", "--gpus -1.0: Input should be greater than or"),
        (("quota", "set", "user", "ann", "--unlimited", "x"), "UsageError", "no such limit; there are gpus, cpus"),
        (("quota", "rm", "user", "ann"), "NotFoundError", "user ann has no quota of their own"),
    ],
)
def test_mistakes_are_told(api: Api, admin_token: str, arguments: tuple[str, ...], error: str, message: str) -> None:
    done = vaesvc(api, admin_token, *arguments)
    assert (type(done.exception).__name__, done.exit_code != 0) == (error, True)
    assert message in str(done.exception)


def test_a_quota_may_allow_a_priority_and_no_more(api: Api) -> None:
    with api.user("prio") as prio:
        with pytest.raises(ForbiddenError, match="priority: 2 is an administrator's"):
            prio.submit(resolve(RECIPE, priority=2))
        api.store.shares.set_quota("user", "prio", Bounds(priority=2))
        assert prio.submit(resolve(RECIPE, priority=2)).priority == 2
        with pytest.raises(QuotaError, match="priority: 3 is more than the quota of user prio allows, which is 2"):
            prio.submit(resolve(RECIPE, priority=3))
        api.store.shares.remove_quota("user", "prio")
