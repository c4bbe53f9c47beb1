"""Every call of the API x role x owner: who is let in and who is refused. Made from the OpenAPI document.

What each scope lets in is written down here once more, apart from `service.queue.roles`. A new call fails these tests
until it names a scope, and until the table in docs/security.md has it (`python -m tests.contract.test_api_rights`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from service import auth
from service.kinds.study.spec import resolve_study
from service.kinds.train.spec import resolve
from service.queue.jobs import Attempt
from service.queue.roles import Role, Scope, sha256
from tests.api_server import Api, running_api, settings_in
from tests.contract.test_api_owners import PATHS, RECIPE, STUDY

LETS_IN = {  # by scope, in the order of the table
    "read": ("viewer", "user", "operator", "admin"),
    "submit": ("user", "operator", "admin"),
    "change": ("user", "operator", "admin"),
    "operate": ("operator", "admin"),
    "admin": ("admin",),
}
OVER_ALL = ("operator", "admin")  # who sees and changes what is not their own
PUBLIC = {"GET /v1/health", "GET /v1/keys", "GET /v1/login", "POST /v1/login", "POST /v1/login/finish"}
CALLS = [(method.upper(), path) for path, methods in sorted(PATHS.items()) for method in sorted(methods)]
VALUES = {  # for the paths' other parameters
    "number": "1", "name": "nosuch", "label": "nosuch", "digest": "0" * 64, "group": "nosuch",
    "user": "nosuch", "node": "nosuch", "kind": "user", "subscription": "0" * 32,
}  # fmt: skip
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "security.md"


def scopes(method: str, path: str) -> list[str]:
    """The scopes that a call of a user needs, as the document says."""
    (needs,) = PATHS[path][method.lower()].get("security", [{}])
    return list(needs.get("user token", []))


def of_attempt(path: str) -> bool:
    return "attempts/{number}" in path


def table() -> str:
    """The table in docs/security.md."""
    lines = ["| call | needs | viewer | user | operator | admin |", "| --- | --- | --- | --- | --- | --- |"]
    for needed in LETS_IN:
        for method, path in CALLS:
            if scopes(method, path) == [needed]:
                cells = [_cell(role, needed, "{job_id}" in path) for role in Role]
                lines.append(f"| `{method} {path}` | {needed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(role: Role, needed: str, of_a_job: bool) -> str:
    if role.value not in LETS_IN[needed]:
        return "403"
    if not of_a_job or role.value in OVER_ALL:
        return "yes"
    return "their own" if needed == "change" else "yes; `own`: their own"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An API with jobs of each role's users, and connections of theirs and of strangers."""

    api: Api
    jobs: dict[str, dict[str, str]]  # of whom -> kind -> id
    attempt: Attempt
    pools: dict[str, httpx.Client]

    def status(self, caller: str, method: str, path: str, owner: str) -> int:
        job = self.jobs[owner]["study" if "/study" in path else "train"]
        job = self.attempt.job_id if of_attempt(path) else job
        valid = {"sha256": sha256(auth.new_token())} if "{label}" in path else {}
        body = {"json": valid} if method in ("POST", "PUT") else {}
        return self.pools[caller].request(method, path.format(job_id=job, **VALUES), **body).status_code


@contextmanager
def scene(folder: Path, read: str) -> Iterator[Scene]:
    made = settings_in(folder, read=read, user_code="users")
    with running_api(made) as api, ExitStack() as stack:
        pools, jobs = {}, {}
        for role in [role.value for role in Role]:
            for name in (role, f"another-{role}"):
                token = auth.new_token()
                api.store.users.put(name, Role(role))
                api.store.users.put_token(name, "main", sha256(token))
                pools[name] = _pool(stack, api, token)
                train = api.store.submit(resolve(RECIPE), owner=name)
                study = api.store.submit(resolve_study(STUDY), owner=name)
                jobs[name] = {"train": train.id, "study": study.id}
        api.store.submit(resolve(RECIPE, priority=9), owner="runs")
        (attempt, *_) = api.admit()
        pools["nobody"], pools["stranger"] = _pool(stack, api, None), _pool(stack, api, auth.new_token())
        secret = auth.read_secret(made.secret_file)
        pools["attempt"] = _pool(stack, api, auth.attempt_token(secret, attempt.job_id, 1))
        yield Scene(api=api, jobs=jobs, attempt=attempt, pools=pools)


def _pool(stack: ExitStack, api: Api, token: str | None) -> httpx.Client:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return stack.enter_context(httpx.Client(base_url=api.url, headers=headers, timeout=120))  # a busy machine


@pytest.fixture(scope="module", params=["all", "own"])
def everybody(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, str]]:
    with scene(tmp_path_factory.mktemp("rights"), request.param) as made:
        yield made, request.param


def expected(role: str, method: str, path: str, *, own: bool, read: str) -> str:
    """What the call must be: "in", "refused", or "unknown" (as if there were no such job)."""
    if f"{method} {path}" in PUBLIC:
        return "in"
    (needed,) = scopes(method, path)
    if role not in LETS_IN[needed]:
        return "refused"
    if "{job_id}" not in path or own or role in OVER_ALL:
        return "in"
    if read == "own":
        return "unknown"
    return "refused" if needed == "change" else "in"


def fits(status: int, what: str) -> bool:
    if what == "refused":
        return status == 403
    if what == "unknown":
        return status == 404
    return (status not in (401, 403) and status < 500) or status in (503, 507)  # the set-up has no S3 and no MLflow


def test_every_call_names_exactly_one_scope_or_is_known_to_need_none() -> None:
    lacking = [
        f"{method} {path}" for method, path in CALLS
        if not of_attempt(path) and f"{method} {path}" not in PUBLIC and len(scopes(method, path)) != 1
    ]  # fmt: skip
    assert not lacking, (
        f"name a scope: dependencies=[access.READS], SUBMITS, CHANGES, OPERATES or ADMINISTERS: {lacking}"
    )
    assert set(LETS_IN) == {scope.value for scope in Scope}
    for method, path in CALLS:
        if "{job_id}" in path and not of_attempt(path):
            assert scopes(method, path) == ["read" if method == "GET" else "change"], path


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_fault_04_every_call_by_role_and_owner(everybody: tuple[Scene, str], method: str, path: str) -> None:
    there, read = everybody
    wrong = []
    for role in [role.value for role in Role]:
        for owner in (role, f"another-{role}") if "{job_id}" in path and not of_attempt(path) else (role,):
            status = there.status(role, method, path, owner)
            if of_attempt(path):
                right = status == 401
            else:
                right = fits(status, expected(role, method, path, own=owner == role, read=read))
            if not right:
                wrong.append(f"{role} -> {method} {path} of {owner}: {status}")
    for caller in ("nobody", "stranger", "attempt"):
        status = there.status(caller, method, path, "user")
        closed = f"{method} {path}" not in PUBLIC and not (caller == "attempt" and of_attempt(path))
        if (status == 401) is not closed:
            wrong.append(f"{caller} -> {method} {path}: {status}")
    assert not wrong


@pytest.mark.parametrize("everybody", ["all"], indirect=True)
@pytest.mark.parametrize(
    ("method", "path"), [call for call in CALLS if not of_attempt(call[1]) and " ".join(call) not in PUBLIC]
)
def test_fault_04_a_token_with_scopes_opens_theirs_alone(everybody: tuple[Scene, str], method: str, path: str) -> None:
    """An administrator's tokens, of one scope each."""
    there, _ = everybody
    with ExitStack() as stack:
        for scope in Scope:
            token = auth.new_token()
            label = f"{scope}-{token[-12:].strip('-_')}"
            there.api.store.users.put_token("another-admin", label, sha256(token), scopes=[scope])
            there.pools["narrow"] = _pool(stack, there.api, token)
            status = there.status("narrow", method, path, "another-admin")
            there.api.store.users.revoke("another-admin", label)
            theirs = scopes(method, path) == [scope.value]
            managing = path.startswith("/v1/tokens/")  # a token with scopes manages no others
            assert (status not in (401, 403)) is (theirs and not managing), (scope, status)


def test_the_documents_table_is_this_one() -> None:
    assert table() in DOCUMENT.read_text(), (
        "docs/security.md's table is another one; `python -m tests.contract.test_api_rights` writes it, and its "
        f"changes are to be read:\n{table()}"
    )


def write() -> None:
    """Put the table into the document, in the place of the one that is there."""
    text = DOCUMENT.read_text()
    start = text.index(table().splitlines()[0])
    DOCUMENT.write_text(text[:start] + table() + text[text.index("\n\n", start) :])


if __name__ == "__main__":
    write()
