"""What the runner's parent and child tell each other, and how the workers reach the API. No secret in a repr."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_serializer

from service.client import AttemptClient
from service.errors import UsageError
from service.queue.jobs import Record, spec_sha256
from service.wire import AttemptContext, FinishRequest

if TYPE_CHECKING:
    from service.artifacts import Artifacts

API_URL = "VAESVC_API_URL"
JOB_ID = "VAESVC_JOB_ID"
ATTEMPT = "VAESVC_ATTEMPT"
TOKEN = "VAESVC_ATTEMPT_TOKEN"  # nosec B105  # the name of a variable, no token
# from the dispatcher's environment to every process of an attempt
HANDED_ON = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "NCCL_DEBUG", "NCCL_IB_DISABLE", "TP_SOCKET_IFNAME")


class AttemptAccess(Record):
    """How to call the API on behalf of one attempt."""

    api_url: str
    job_id: str
    number: int
    token: SecretStr

    @field_serializer("token", when_used="json")
    def _token(self, token: SecretStr) -> str:  # only to hand it on to a process of the same attempt
        return token.get_secret_value()

    def client(self, *, retry_seconds: float) -> AttemptClient:
        """Return a client. retry_seconds: how long a call waits for an API that does not answer."""
        token = self.token.get_secret_value()
        return AttemptClient(self.api_url, token, job_id=self.job_id, number=self.number, retry_seconds=retry_seconds)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the Ray job that runs this attempt."""
        token = self.token.get_secret_value()
        return {API_URL: self.api_url, JOB_ID: self.job_id, ATTEMPT: str(self.number), TOKEN: token}

    @property
    def name(self) -> str:
        return f"{self.job_id}-{self.number}"


def access_from_environment() -> AttemptAccess:
    """Read the access. Raises UsageError for a missing variable: the dispatcher starts the runner, nobody by hand."""
    missing = [name for name in (API_URL, JOB_ID, ATTEMPT, TOKEN) if not os.environ.get(name)]
    if missing:
        raise UsageError(
            f"{', '.join(missing)} not set: `python -m service.attempt.runner` is started by the dispatcher"
        )
    try:
        return AttemptAccess(
            api_url=os.environ[API_URL],
            job_id=os.environ[JOB_ID],
            number=int(os.environ[ATTEMPT]),
            token=SecretStr(os.environ[TOKEN]),
        )
    except (ValueError, ValidationError):
        raise UsageError(f"{ATTEMPT}={os.environ[ATTEMPT]!r} is not a whole number") from None


class Assignment(Record):
    """What the child process reads on its standard input."""

    access: AttemptAccess
    context: AttemptContext
    runner_id: str
    scratch: Path  # of this attempt, on this machine; the child leaves its outcome there

    def artifacts(self, *, patience_seconds: float = 90.0) -> Artifacts:
        """Return the service's storage. patience_seconds: how long a call waits for one that does not answer."""
        from service.artifacts import Artifacts

        return Artifacts(self.context.storage, patience_seconds=patience_seconds)


class Outcome(Record):
    """How a run ended, as its driver saw it."""

    outcome: Literal["succeeded", "failed", "cancelled"]
    error: str | None = None
    retryable: bool = True
    outage: bool = False  # failed because machines were lost: see `failures.Failure`
    result: dict[str, Any] = Field(default_factory=dict)

    def request(self, runner_id: str, log_uri: str | None, spec: Mapping[str, Any]) -> FinishRequest:
        return FinishRequest(
            runner_id=runner_id,
            outcome=self.outcome,
            error=self.error,
            retryable=self.retryable,
            outage=self.outage,
            result=self.result,
            log_uri=log_uri,
            spec_sha256=spec_sha256(spec),
        )


CANCELLED = Outcome(outcome="cancelled", error="cancelled as asked")

FATAL_MARK = "vaesvc-runner-fatal: "  # the runner's last line when it could not even claim its attempt
OUTCOME = "outcome.json"  # written by the driver as its last act
VERDICT = "verdict.json"  # written beside a driver that still runs: no use waiting for it


def write_outcome(outcome: Outcome, path: Path) -> None:
    """Write the outcome: the file is complete or does not exist."""
    partial = path.with_suffix(".partial")
    partial.write_text(outcome.model_dump_json())
    partial.replace(path)


def read_outcome(path: Path) -> Outcome | None:
    """Return the outcome; None when there is none that can be read."""
    try:
        return Outcome.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def result_uri_parts(job_id: str, number: int) -> tuple[str, str, str]:
    """Return where rank 0 leaves its result for the driver, which may be on another machine."""
    return ("results", job_id, f"{number}.json")


def log_uri_parts(job_id: str, number: int) -> tuple[str, str, str]:
    return ("logs", job_id, f"{number}.log")


def spool_uri_parts(job_id: str, *, trials: bool = False) -> tuple[str, str]:
    """Return where points lie that MLflow did not take while the attempt lived; the dispatcher delivers them. trials:
    those of a study's trials, NAME.jsonl each, with NAME.run.json that names their run."""
    return ("trial-spool" if trials else "spool", job_id)
