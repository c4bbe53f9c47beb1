"""What a request to MLflow's server does, read from its method and path: the gate's table. Pure.

Whatever is not here is offered to nobody: of MLflow's many calls those that run jobs, keep other services' keys, call
addresses that a caller names, or let one write where artifacts are read from, are left out on purpose.
"""

from __future__ import annotations

import re
from enum import Enum


class Right(Enum):
    """The right that a caller needs for a request. Each includes those before it."""

    OPEN = 0  # nothing: whether the server lives
    READ = 1  # look at everything, in the user interface too
    LOG = 2  # write experiments, runs and their artifacts
    REGISTER = 3  # write the registry of models, delete artifacts


_API = r"/(?:ajax-)?api/[23]\.0/mlflow"
_ARTIFACTS = r"/(?:ajax-)?api/2\.0/mlflow-artifacts"
_SHOWN = (  # families of calls of which those that only read (GET) are offered
    "artifacts", "datasets", "experiments", "get-online-trace-details", "get-trace-artifact", "issues", "jobs",
    "label-schemas", "logged-models", "metrics", "model-versions", "prompt-optimization", "registered-models",
    "review-queues", "runs", "scorers", "server-info", "traces", "ui-telemetry", "unified-traces", "workspaces",
)  # fmt: skip
_SEARCHED = "datasets|experiments|issues|logged-models|prompt-optimization/jobs|runs|traces"
_EXPERIMENT = "create|update|delete|restore|set-experiment-tag|delete-experiment-tag"
_RUN = "create|update|delete|restore|set-tag|delete-tag|log-(?:batch|inputs|metric|model|parameter)|outputs"
_TABLE: tuple[tuple[Right, str, str], ...] = (  # right, methods, path
    (Right.OPEN, "GET HEAD", "/health"),
    (Right.READ, "GET HEAD", r"/|/version|/get-artifact|/model-versions/get-artifact|/(?:static-files|build)/.*"),
    (Right.READ, "GET HEAD POST", "/graphql"),  # of MLflow's schema nothing writes
    (Right.READ, "GET HEAD", rf"{_API}/(?:{'|'.join(_SHOWN)})(?:/.*)?"),
    (Right.READ, "GET HEAD", rf"{_ARTIFACTS}/(?:artifacts(?:/.*)?|presigned/.+)"),
    (Right.READ, "POST", rf"{_API}/(?:{_SEARCHED})/search"),
    (Right.READ, "POST", rf"{_API}/(?:experiments/search-datasets|registered-models/get-latest-versions|ui-telemetry)"),
    (Right.READ, "POST", rf"{_API}/traces/(?:batchGetInfos|calculate-filter-correlation|metrics)"),
    (Right.LOG, "POST", rf"{_API}/experiments/(?:{_EXPERIMENT})"),
    (Right.LOG, "POST", rf"{_API}/runs/(?:{_RUN})"),
    (Right.LOG, "POST PATCH DELETE", rf"{_API}/logged-models(?:/.*)?"),
    (Right.LOG, "POST", rf"{_API}/upload-artifact"),
    (Right.LOG, "PUT", rf"{_ARTIFACTS}/artifacts/.+"),
    (Right.REGISTER, "POST PATCH DELETE", rf"{_API}/(?:registered-models|model-versions)/.+"),
    (Right.REGISTER, "DELETE", rf"{_ARTIFACTS}/artifacts/.+"),
)
_RULES = tuple((right, frozenset(methods.split()), re.compile(path)) for right, methods, path in _TABLE)
_NEW_EXPERIMENT = re.compile(rf"{_API}/experiments/create")


def needed(method: str, path: str) -> Right | None:
    """Return the least right that opens this request; None: nobody may make it."""
    rights = [right for right, methods, rule in _RULES if method in methods and rule.fullmatch(path)]
    return min(rights, key=lambda right: right.value, default=None)


def names_a_place(path: str) -> bool:
    """Return whether the body may say where artifacts lie (`artifact_location`): the server would read and write
    there."""
    return _NEW_EXPERIMENT.fullmatch(path) is not None
