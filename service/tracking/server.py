"""Calls to an MLflow server, each with a timeout; failures in our own words."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from service.errors import AuthError, ConflictError, NotFoundError, UnavailableError, UsageError, VaesvcError
from service.retry import again, unavailable
from service.storage_errors import local, public
from service.tracking import login

T = TypeVar("T")

TIMEOUT = 20  # seconds for one answer
POINTS_PER_CALL = 1000  # MLflow's limits
PARAMS_PER_CALL = 100
PAGE = 1000

# What MLflow's client reads from the environment. A value that is already there stays.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(TIMEOUT),
    # it would repeat what must not be repeated blindly, such as creating a run: who calls repeats, and looks first
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

ERRORS: dict[str, type[VaesvcError]] = {
    "RESOURCE_DOES_NOT_EXIST": NotFoundError,
    "NOT_FOUND": NotFoundError,
    "ENDPOINT_NOT_FOUND": NotFoundError,
    "RESOURCE_ALREADY_EXISTS": ConflictError,
    "INVALID_PARAMETER_VALUE": UsageError,
    "BAD_REQUEST": UsageError,
    "INVALID_STATE": UsageError,
    "UNAUTHENTICATED": AuthError,
    "PERMISSION_DENIED": AuthError,
    "CUSTOMER_UNAUTHORIZED": AuthError,
}


@dataclass(frozen=True, kw_only=True)
class Point:
    key: str
    value: float
    step: int
    at: int  # milliseconds since 1970, UTC


def client(uri: str) -> Any:
    """Return MLflow's own client for this server, tracking and registry, with the login that its address holds."""
    return _client(login.plain(uri))


@functools.cache
def _client(uri: str) -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    host = urlsplit(uri).hostname
    for name in ("NO_PROXY", "no_proxy"):
        if host and local(uri):
            os.environ[name] = ",".join(filter(None, (os.environ.get(name), host)))
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def explained(uri: str, doing: str) -> Iterator[None]:
    """Raise MLflow's errors as ours, naming the server and what was tried."""
    import requests
    from mlflow.exceptions import MlflowException

    what = f"could not {doing} in MLflow at {public(uri)}"
    try:
        yield
    except MlflowException as error:
        kind = ERRORS.get(str(error.error_code), UnavailableError)
        message = _short(str(error.message)).replace(uri, public(uri))
        if kind is AuthError:
            message += "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        if kind is UnavailableError:
            message += "; is the address right (VAESVC_MLFLOW_URI), and the server running?"
        raise kind(f"{what}: {message}") from error
    except requests.RequestException as error:  # uploads of files don't wrap theirs
        status = error.response.status_code if error.response is not None else None
        refused = status is not None and 400 <= status < 500 and status not in (408, 429)
        kind = UsageError if refused else UnavailableError
        raise kind(f"{what}: {_short(str(error)).replace(uri, public(uri))}") from error


def patiently(function: Callable[[], T], seconds: float) -> T:
    """Call again while the server does not answer, for `seconds`. Only for what may be repeated."""
    return again(function, when=unavailable, seconds=seconds)


def check(mlflow_uri: str) -> None:
    """Raise UnavailableError or AuthError unless a tracking server answers there."""
    if not mlflow_uri.startswith(("http://", "https://")):
        raise UsageError(
            f"{public(mlflow_uri)!r} is not an MLflow server: the address must begin with http:// or https://"
        )
    mlflow = client(mlflow_uri)
    with explained(mlflow_uri, "list experiments"):
        mlflow.search_experiments(max_results=1)


def all_pages(page: Callable[[str | None], Any]) -> list[Any]:
    """Return everything that a paged search finds."""
    items: list[Any] = []
    token = None
    while True:
        part = page(token)
        items += part
        token = part.token
        if not token:
            return items


# --- points --------------------------------------------------------------------------------------------------------


def log_points(uri: str, run_id: str, points: Sequence[Point]) -> None:
    """Log points. Repeating the very same ones (their times included) changes nothing: MLflow keeps a point once."""
    server = client(uri)
    from mlflow.entities import Metric

    for start in range(0, len(points), POINTS_PER_CALL):
        part = points[start : start + POINTS_PER_CALL]
        metrics = [Metric(p.key, p.value, p.at, p.step) for p in part]
        with explained(uri, f"log {len(part)} points of run {run_id}"):
            server.log_batch(run_id, metrics=metrics)


def last_steps(uri: str, run_id: str) -> dict[str, int]:
    """Return the largest step of each metric."""
    mlflow = client(uri)
    with explained(uri, f"read run {run_id}"):
        run = mlflow.get_run(run_id)
    return {metric.key: int(metric.step) for metric in run.data.to_proto().metrics}


def steps(uri: str, run_id: str, key: str) -> set[int]:
    """Return every step of one metric."""
    mlflow = client(uri)
    with explained(uri, f"read {key} of run {run_id}"):
        return {int(metric.step) for metric in mlflow.get_metric_history(run_id, key)}


def now_ms() -> int:
    return int(time.time() * 1000)


def _short(text: str, length: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[:length]}..."
