"""What of MLflow's server is offered, and to whom: every call that this version of it has."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from service.tracking.rights import Right, needed

ROUTES = """
import json, sys
from mlflow.server import app, fastapi_app
from mlflow.server.assistant.api import assistant_router
from mlflow.server.gateway_api import gateway_router
from mlflow.server.job_api import job_api_router
from mlflow.server.otel_api import otel_router
rules = [(rule.rule, sorted(rule.methods - {"OPTIONS", "HEAD"})) for rule in app.url_map.iter_rules()]
for router in (assistant_router, gateway_router, job_api_router, otel_router):
    rules += [(route.path, sorted(route.methods)) for route in router.routes]
print(json.dumps(rules))
"""


@pytest.fixture(scope="module")
def calls() -> set[tuple[str, str]]:
    """(method, path) of all of them, an example in every place that a rule leaves open."""
    import json

    done = subprocess.run([sys.executable, "-c", ROUTES], capture_output=True, text=True, check=True, timeout=120)
    rules = json.loads(done.stdout.splitlines()[-1])
    assert len(rules) > 300
    return {(method, re.sub(r"<[^>]*>|\{[^}]*\}", "x1", path)) for path, methods in rules for method in methods}


def ours(calls: set[tuple[str, str]], right: Right | None) -> set[str]:
    """Short, and each once: the two prefixes of MLflow's calls mean the same."""
    found = {(method, path) for method, path in calls if needed(method, path) is right}
    return {f"{method} {re.sub('^/(ajax-)?api/[23].0/(mlflow/)?', '', path)}" for method, path in found}


def test_fault_01_what_writes_is_offered_to_those_who_may(calls: set[tuple[str, str]]) -> None:
    """Named one by one: a new version of MLflow that can write in another way does not slip through."""
    assert ours(calls, Right.OPEN) == {"GET /health"}
    assert ours(calls, Right.REGISTER) == {
        "DELETE mlflow-artifacts/artifacts/x1",
        *(f"POST model-versions/{what}" for what in ("create", "set-tag", "transition-stage")),
        *(f"DELETE model-versions/{what}" for what in ("delete", "delete-tag")),
        "PATCH model-versions/update",
        *(f"POST registered-models/{what}" for what in ("create", "rename", "set-tag", "alias")),
        *(f"DELETE registered-models/{what}" for what in ("delete", "delete-tag", "alias")),
        "PATCH registered-models/update",
    }
    experiment = ("create", "update", "delete", "restore", "set-experiment-tag", "delete-experiment-tag")
    log = ("log-batch", "log-inputs", "log-metric", "log-model", "log-parameter", "outputs")
    assert ours(calls, Right.LOG) == {
        *(f"POST experiments/{what}" for what in experiment),
        *(f"POST runs/{what}" for what in ("create", "update", "delete", "restore", "set-tag", "delete-tag", *log)),
        *(f"POST logged-models{what}" for what in ("", "/x1/params")),
        *(f"PATCH logged-models/{what}" for what in ("x1", "x1/tags")),
        *(f"DELETE logged-models/{what}" for what in ("x1", "x1/tags/x1")),
        "POST upload-artifact",
        "PUT mlflow-artifacts/artifacts/x1",
    }
    reading = {line for line in ours(calls, Right.READ) if not line.startswith("GET ")}
    searches = ("datasets", "experiments", "issues", "logged-models", "prompt-optimization/jobs", "runs", "traces")
    traces = ("batchGetInfos", "calculate-filter-correlation", "metrics")
    assert reading == {
        "POST /graphql",
        *(f"POST {what}/search" for what in searches),
        *(f"POST traces/{what}" for what in traces),
        "POST experiments/search-datasets",
        "POST registered-models/get-latest-versions",
        "POST ui-telemetry",
    }


def test_fault_01_what_runs_or_calls_out_is_offered_to_nobody(calls: set[tuple[str, str]]) -> None:
    nobody = ours(calls, None)
    families = (
        "gateway",
        "scorers/register",
        "scorer/invoke",
        "webhooks",
        "assistant",
        "genai",
        "demo",
        "invoke",
        "v1",
    )
    for family in families:
        assert any(family in line for line in nobody), family
    assert all("gateway" not in line and "webhook" not in line and "assistant" not in line
               for right in Right for line in ours(calls, right))  # fmt: skip


@pytest.mark.parametrize(
    "path",
    [
        "/ajax-api/2.0/mlflow/registered-models//alias",
        "//ajax-api/2.0/mlflow/runs/create",
        "/ajax-api/2.0/mlflow/runs/create/",
        "/ajax-api/2.0/mlflow/experiments/../registered-models/alias",
        "/AJAX-API/2.0/mlflow/runs/create",
        "/api/2.0/mlflow/runs/create\n",
        "/health/../api/2.0/mlflow/runs/create",
    ],
)
def test_a_path_that_is_written_otherwise_opens_less(path: str) -> None:
    assert needed("POST", path) in (None, Right.REGISTER)
    assert needed("POST", "/health") is None
