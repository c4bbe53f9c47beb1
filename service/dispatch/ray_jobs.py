"""The door to a Ray cluster from outside: its machines and its jobs, over HTTP with the cluster's token.

Nothing here calls `ray.init`: a dispatcher joins no cluster and survives the loss of one. Ray's own client sends its
requests without a time limit; this one gives every request one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, cast

from service.errors import AuthError, ConflictError, NotFoundError, UnavailableError
from service.queue.jobs import Capacity

_CONNECT_SECONDS = 3.05
_READ_SECONDS = 10.0
_MOST_ROWS = 10_000
_OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray prefers these to the address it is given


class RayState(StrEnum):
    """The state that Ray reports of a job. A hint: SQL is the truth."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def over(self) -> bool:
        return self in (RayState.STOPPED, RayState.SUCCEEDED, RayState.FAILED)


@dataclass(frozen=True, kw_only=True)
class RayJob:
    submission_id: str
    state: RayState
    message: str = ""  # of a failed one: the reason, with the end of its log
    error_type: str | None = None
    exit_code: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RayNode:
    """A machine of the cluster. id: Ray's. address: its IP address. head: whether the attempts' runners are on it.
    resources: in total, in Ray's names (memory in bytes)."""

    id: str
    address: str = ""
    head: bool = False
    resources: Mapping[str, float] = field(default_factory=dict)


def capacity(nodes: Collection[RayNode]) -> Capacity:
    """Return what these nodes have together."""
    return Capacity(nodes=tuple(dict(node.resources) for node in nodes))


class RayCluster:
    """A cluster's Jobs API. Every method raises UnavailableError (no answer in time) or AuthError (token)."""

    def __init__(self, address: str, token: str | None, read_seconds: float = _READ_SECONDS) -> None:
        """Prepare the client. address: of the dashboard, http://HOST:8265. token: the cluster's, None if it has
        none."""
        self.address = address.rstrip("/")
        self._token = token
        self._timeout = (_CONNECT_SECONDS, read_seconds)

    def nodes(self) -> tuple[RayNode, ...]:
        """Return every living node. Ray calls a node living that is being drained, until it is gone."""
        return tuple(
            RayNode(
                id=row["node_id"], address=row.get("node_ip") or "", head=bool(row.get("is_head_node")),
                resources=_schedulable(row.get("resources_total") or {}),
            )
            for row in self._listed("nodes")
            if row.get("state") == "ALIVE"
        )  # fmt: skip

    def places(self) -> dict[str, frozenset[str]]:
        """Return the ids of the nodes on which each job's actors hold anything, by submission id: where its workers
        are."""
        with self._errors("list its jobs"):
            names = {job.job_id: job.submission_id for job in self._client.list_jobs() if job.job_id}
        places: dict[str, set[str]] = {}
        for row in self._listed("actors", "filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"):
            name = names.get(row.get("job_id"))
            if name and row.get("node_id") and row.get("required_resources"):
                places.setdefault(name, set()).add(row["node_id"])
        return {name: frozenset(nodes) for name, nodes in places.items()}

    def jobs(self) -> dict[str, RayJob]:
        """Return every job that was submitted and that the cluster still knows, by submission id."""
        with self._errors("list its jobs"):
            listed = self._client.list_jobs()
        return {job.submission_id: _record(job) for job in listed if job.submission_id}

    def submit(
        self,
        submission_id: str,
        entrypoint: str,
        *,
        env: Mapping[str, str],
        metadata: Mapping[str, str],
        packages: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Start `entrypoint` on the head node; harmless when `submission_id` is known already.

        packages: folder name -> a zip of it. Ray unpacks each on every node that the job comes to, outside of any
        environment, and puts it on the path of the job's processes alone.
        """
        runtime_env: dict[str, Any] = {"env_vars": dict(env)}
        if packages:
            runtime_env["py_modules"] = [self._bring(name, data) for name, data in packages.items()]
        try:
            with self._errors(f"start {submission_id}"):
                self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=submission_id,
                    runtime_env=runtime_env,
                    metadata=dict(metadata),
                )
        except ConflictError:
            return

    def stop(self, submission_id: str) -> None:
        """Send SIGTERM to the job's processes, SIGKILL 3 s later; harmless when it is over or unknown."""
        with contextlib.suppress(NotFoundError), self._errors(f"stop {submission_id}"):
            self._client.stop_job(submission_id)

    def delete(self, submission_id: str) -> None:
        """Forget a job that is over; harmless when it is unknown."""
        with contextlib.suppress(NotFoundError), self._errors(f"forget {submission_id}"):
            self._client.delete_job(submission_id)

    def log(self, submission_id: str) -> str:
        """Return what the job's entry point printed; empty when Ray has nothing."""
        with contextlib.suppress(NotFoundError), self._errors(f"read the log of {submission_id}"):
            return cast(str, self._client.get_job_logs(submission_id))
        return ""

    def _listed(self, what: str, filters: str = "") -> list[dict[str, Any]]:
        """Return the rows that Ray's state API has of `what`."""
        reply = self._request("GET", f"/api/v0/{what}?detail=1&limit={_MOST_ROWS}{filters and '&'}{filters}")
        rows: list[dict[str, Any]] = reply.get("data", {}).get("result", {}).get("result", [])
        return rows

    def _bring(self, name: str, data: bytes) -> str:
        """Give a zip to the cluster's store, which forgets it when no job has it. Return its address there."""
        with self._errors(f"take the package {name}"):
            answer = self._client._do_request("PUT", f"/api/packages/gcs/{name}.zip", data=data)
            if answer.status_code != 200:
                raise RuntimeError(f"Request failed with status code {answer.status_code}: {answer.text[-500:]}")
        return f"gcs://{name}.zip"

    @cached_property
    def _client(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        timeout = self._timeout

        class Client(JobSubmissionClient):  # type: ignore[misc]
            def _do_request(self, *args: Any, **kwargs: Any) -> Any:
                return super()._do_request(*args, **({"timeout": timeout} | kwargs))

        headers = {"Authorization": f"Bearer {self._token}"} if self._token else None
        with _without(_OVERRIDES):
            return Client(self.address, headers=headers)

    def _request(self, method: str, path: str) -> dict[str, Any]:
        with self._errors(f"answer {path.partition('?')[0]}"):
            response = self._client._do_request(method, path)
            if response.status_code != 200:
                raise RuntimeError(f"Request failed with status code {response.status_code}: {response.text[:500]}")
            return cast(dict[str, Any], response.json())

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Raise Ray's errors as ours. Its client raises RuntimeError for every reply that is not 200."""
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise AuthError(
                f"Ray at {self.address} refuses the token ({_first_line(error)}). Set VAESVC_RAY_TOKEN_FILE to the "
                "file that its head was started with (RAY_AUTH_TOKEN_PATH)."
            ) from None
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            raise UnavailableError(f"Ray at {self.address} did not {doing}: {_first_line(error)}") from error
        except RuntimeError as error:
            text = str(error)
            if "already exists" in text:
                raise ConflictError(_first_line(error)) from None
            if "does not exist" in text or "status code 404" in text:
                raise NotFoundError(_first_line(error)) from None
            raise UnavailableError(f"Ray at {self.address} did not {doing}: {_last_line(text)}") from error


def _schedulable(total: Mapping[str, float]) -> dict[str, float]:
    """Return the resources without what no job asks for: the names of single nodes and the object store."""
    return {name: float(amount) for name, amount in total.items() if ":" not in name and name != "object_store_memory"}


def _record(job: Any) -> RayJob:
    return RayJob(
        submission_id=job.submission_id,
        state=RayState(str(getattr(job.status, "value", job.status))),
        message=job.message or "",
        error_type=getattr(job.error_type, "value", job.error_type),
        exit_code=job.driver_exit_code,
        metadata=job.metadata or {},
    )


@contextlib.contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _last_line(text: str) -> str:
    """Return the last line, which names the error: the dashboard puts whole tracebacks into its replies."""
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "no reason given"
