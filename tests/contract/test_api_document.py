"""The OpenAPI document, held to its word: requests made of it by schemathesis, against a real server with jobs in it.

Whatever is sent, the answer is one that the document names, in the form that it names, and never the server's failure.
Bounded: so many requests for each call, the same ones every time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service import __version__, auth, wire
from service.kinds.study.spec import resolve_study
from service.kinds.train.spec import resolve
from service.queue.jobs import Attempt
from tests.api_server import Api, running_api, settings_in
from tests.contract.test_api_owners import PATHS, STUDY
from tests.contract.test_api_rights import VALUES

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [(method.upper(), path) for path, methods in PATHS.items() for method in methods]
RECIPE = "digits/beta-vae-mlp"
REQUESTS = 15  # for each call and mode
ALLOWED = 10_000  # trials of a study
MOST_TRIALS = 200  # of them here: ten thousand are looked through one by one, which takes seconds each time
PUBLIC = {"/v1/health", "/v1/keys"}  # what they tell is for everybody
LOGINS = {"GET /v1/login", "POST /v1/login", "POST /v1/login/finish"}  # for whoever has no token; here is no provider
UNKNOWN = (None, "Bearer nonsense", "Basic YTpi")
BOUNDED = settings(
    max_examples=REQUESTS,
    derandomize=True,  # a fixed seed
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, kw_only=True)
class Seeded:
    """An API with a run that is being trained, a study and an ended job. It has no S3 and no MLflow.

    schema: what it says of itself
    """

    api: Api
    schema: Any
    attempt: Attempt
    study: str
    ended: str

    def token(self, path: str) -> str:
        if "{number}" not in path:
            return self.api.token
        secret = auth.read_secret(self.api.settings.secret_file)
        return auth.attempt_token(secret, self.attempt.job_id, self.attempt.number)

    def jobs(self, path: str) -> list[str]:
        """Ids that a call of this path finds something at."""
        if "{number}" in path:
            return [self.attempt.job_id]
        return [self.study] if "/study" in path else [self.attempt.job_id, self.study, self.ended]


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    with running_api(settings_in(tmp_path_factory.mktemp("seeded"))) as api, api.client() as ann:
        ann.submit(resolve(RECIPE))
        (attempt,) = api.admit()
        with api.attempt_client(attempt) as runner:
            runner.claim(wire.ClaimRequest(runner_id="r1", version=__version__))
        study = ann.submit(resolve_study(STUDY))
        ended = ann.cancel(ann.submit(resolve(RECIPE)).id)
        schema = schemathesis.openapi.from_dict(httpx.get(f"{api.url}/v1/openapi.json").json())
        yield Seeded(api=api, schema=schema, attempt=attempt, study=study.id, ended=ended.id)


@pytest.mark.parametrize(
    ("mode", "method", "path"),
    [
        pytest.param(mode, method, path, id=f"{mode.value} {method} {path}")
        for method, path in OPERATIONS
        for mode in GenerationMode
        # what is forbidden can only be said where something is: a parameter, a body, a token
        if mode is GenerationMode.POSITIVE
        or {"parameters", "requestBody", "security"} & PATHS[path][method.lower()].keys()
    ],
)
def test_every_answer_is_as_the_document_says(seeded: Seeded, mode: GenerationMode, method: str, path: str) -> None:
    operation = seeded.schema[path][method]
    headers = {"Authorization": f"Bearer {seeded.token(path)}"}
    seen: set[int] = set()

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans(), data=st.data())
    def ask(case: Any, known: bool, data: st.DataObject) -> None:
        if known and "{job_id}" in path:
            case.path_parameters["job_id"] = data.draw(st.sampled_from(seeded.jobs(path)))
            if "{number}" in path:
                case.path_parameters["number"] = seeded.attempt.number
        if path.endswith("/study/extend") and isinstance(case.body, dict):
            trials = case.body.get("trials")
            if isinstance(trials, int) and MOST_TRIALS < trials <= ALLOWED:
                case.body["trials"] = MOST_TRIALS
        response = case.call(base_url=seeded.api.url, headers=headers, timeout=120)  # a busy machine
        seen.add(response.status_code)
        if response.status_code == 507:  # no S3 here: the document says so, and it is this set-up's fault
            return
        case.validate_response(response, checks=CHECKS)

    ask()
    assert seen
    assert 401 not in seen or "{number}" in path or mode is GenerationMode.NEGATIVE  # the token was right


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_call_goes_without_a_token(seeded: Seeded, method: str, path: str) -> None:
    url = seeded.api.url + path.format(job_id=seeded.ended, **VALUES)
    for header in UNKNOWN:
        answer = httpx.request(method, url, headers={"authorization": header} if header else {}, timeout=30)
        without = 200 if path in PUBLIC else 422 if f"{method} {path}" in LOGINS else 401
        assert answer.status_code == without, header
        if answer.status_code == 401:
            assert wire.ErrorReply.model_validate(answer.json()).code == "auth"


BREAKING = {
    "unclosed lists": "[" * 100_000,
    "unclosed mappings": '{"a":' * 30_000,
    "deep": '{"spec": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
    "an endless integer": '{"spec": {"priority": 1' + "0" * 5000 + "}}",
    "an infinite number": '{"spec": {"train": 1e999}}',
    "no text": "\x00",
}


@pytest.mark.parametrize("body", BREAKING)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/dry-run"])
def test_fault_05_bodies_made_to_break_parsers_are_refused(seeded: Seeded, path: str, body: str) -> None:
    headers = {"authorization": f"Bearer {seeded.api.token}", "content-type": "application/json"}
    answer = httpx.post(seeded.api.url + path, headers=headers, content=BREAKING[body].encode(), timeout=30)
    assert answer.status_code in (400, 422)
    assert len(answer.content) < 5000
    assert json.loads(answer.content)["code"] == "usage"


@pytest.mark.parametrize(
    "query",
    [
        f"events?after={10**30}",
        f"logs?offset={10**30}",
        f"logs?attempt={10**30}",
        "events?" + "&".join(["limit=5"] * 999),
    ],
)
def test_fault_05_numbers_that_no_database_holds_are_refused(seeded: Seeded, query: str) -> None:
    headers = {"authorization": f"Bearer {seeded.api.token}"}
    answer = httpx.get(f"{seeded.api.url}/v1/jobs/{seeded.ended}/{query}", headers=headers, timeout=30)
    assert answer.status_code == (200 if "limit" in query else 422), answer.text
