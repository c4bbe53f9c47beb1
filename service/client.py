"""The Python client: typed calls on the API, bounded in time, repeated only where that is harmless.

    with Client("http://127.0.0.1:8080", token) as client:
        job = client.submit(spec)

A call is repeated after a connection error, a timeout or a 502/503/504, with backoff, until `retry_seconds` are over.
Repeating is harmless because reads change nothing and every write is idempotent: a submit always carries a key, and the
attempts' calls carry their number. The one exception is `retry`, which is repeated only while nothing was sent.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

import httpx
import pydantic
from pydantic import TypeAdapter

from service import __version__, wire
from service.code.reference import CodeRef
from service.data.calls import DataCalls
from service.errors import AuthError, UnavailableError, UsageError, VaesvcError, from_code
from service.figures.calls import FigureCalls
from service.nodes.calls import NodeCalls
from service.notify.calls import NoticeCalls
from service.oidc.calls import LoginCalls
from service.order.calls import OrderCalls
from service.queue.jobs import Checkpoint, Event, Job, JobState
from service.retry import again
from service.shares_calls import SharesCalls
from service.users.calls import UserCalls

if TYPE_CHECKING:
    from service.code.wheel import Wheel

T = TypeVar("T")

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
SLOW_READ_SECONDS = 75.0  # calls for which the API waits on S3 or MLflow: a little longer than it does itself
RETRY_SECONDS = 4.0
_AGAIN = frozenset({502, 503, 504})
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_jobs = TypeAdapter(list[Job])
_events = TypeAdapter(list[Event])
_versions = TypeAdapter(list[wire.ModelVersion])
_checkpoints = TypeAdapter(list[Checkpoint])
_ids = TypeAdapter(list[str])


class _AgainError(Exception):
    """A failed call that may succeed next time. `sent`: the server may have seen the request. `final`: what to raise in
    the end."""

    def __init__(self, *, sent: bool, final: VaesvcError) -> None:
        super().__init__(str(final))
        self.sent = sent
        self.final = final


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return the context of this machine's trusted certificates. Read once: it takes 20 to 30 ms."""
    return httpx.create_ssl_context()


def _trusts_nobody() -> ssl.SSLContext:
    """Return a context for plain HTTP, which needs no certificates: any TLS connection would fail."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _address(url: str) -> SplitResult:
    with contextlib.suppress(ValueError):  # half an IPv6 address, a port that is none
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    raise UsageError(f"the API's address {url!r} is none: it looks like http://HOST:PORT (VAESVC_API_URL)")


class _Http:
    """One connection pool to one API, its token, and the rules for repeating."""

    def __init__(self, url: str, token: str | None, retry_seconds: float) -> None:
        parts = _address(url)
        self.url = url.rstrip("/")
        self.retry_seconds = retry_seconds
        self.server_version: str | None = None  # from the last answer
        self.clock_skew: float | None = None  # seconds that the server's clock is ahead, from the last answer
        headers = {wire.VERSION_HEADER: __version__, "user-agent": f"vaesvc/{__version__}"}
        if token:
            if not token.isascii() or not token.isprintable() or " " in token:
                raise AuthError("the token holds characters that no token has (a line break?): check VAESVC_TOKEN")
            headers["authorization"] = f"Bearer {token}"
        local = parts.hostname in LOOPBACK
        self.pool = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            trust_env=not local,  # a proxy cannot reach this machine's loopback
            verify=_trusts_nobody() if local and parts.scheme == "http" else _certificates(),
        )

    def call(
        self,
        method: str,
        path: str,
        adapter: Callable[[bytes], T],
        *,
        body: pydantic.BaseModel | None = None,
        data: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        read_seconds: float | None = None,
        repeatable: bool = True,
    ) -> T:
        """Make one call and return its answer. Raises the `service.errors` error that the API named, or
        UnavailableError."""
        content = body.model_dump_json().encode() if body is not None else data
        kind = "application/json" if data is None else "application/octet-stream"

        def once() -> T:
            answer = self._send(method, path, content, kind, params, read_seconds or READ_SECONDS)
            return self._parse(answer, adapter)

        try:
            return again(
                once,
                when=lambda error: isinstance(error, _AgainError) and (repeatable or not error.sent),
                seconds=self.retry_seconds,
                first=0.1,
                longest=2.0,
            )
        except _AgainError as error:
            raise error.final from None

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        kind: str,
        params: Mapping[str, Any] | None,
        read_seconds: float,
    ) -> httpx.Response:
        headers = {"content-type": kind} if content is not None else None
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            answer = self.pool.request(
                method,
                path,
                content=content,
                params=given,
                headers=headers,
                timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS),
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _AgainError(sent=False, final=self._unreachable(str(error) or "no connection")) from error
        except httpx.RequestError as error:
            raise _AgainError(sent=True, final=self._unreachable(str(error) or type(error).__name__)) from error
        self.server_version = answer.headers.get(wire.VERSION_HEADER)
        self.clock_skew = _skew(answer.headers.get("date"))
        if answer.status_code in _AGAIN:
            code, message = _error(answer)
            final = from_code(code, message) if code else self._unreachable(message)
            raise _AgainError(sent=True, final=final)
        return answer

    def _parse(self, answer: httpx.Response, adapter: Callable[[bytes], T]) -> T:
        if answer.is_success:
            try:
                return adapter(answer.content)
            except pydantic.ValidationError as error:
                raise UnavailableError(self._not_understood(answer)) from error
        code, message = _error(answer)
        if code is None:
            raise UnavailableError(self._not_understood(answer))
        if answer.status_code == 500:
            raise UnavailableError(f"the API at {self.url}: {message}")
        raise from_code(code, message)

    def _not_understood(self, answer: httpx.Response) -> str:
        other = self.server_version
        if other is None:
            return (
                f"{answer.url.copy_with(query=None)} (HTTP {answer.status_code}) is no vaesvc API: check VAESVC_API_URL"
            )
        return (
            f"the answer of the API at {self.url} (vaesvc {other}) is not understood by this client (vaesvc "
            f"{__version__}): install the same version"
        )

    def _unreachable(self, why: str) -> UnavailableError:
        return UnavailableError(
            f"the API at {self.url} does not answer ({why}). Start the local stack with `vaesvc up`, or set "
            "VAESVC_API_URL to the service's address; `vaesvc doctor` tells more."
        )


def _skew(date: str | None) -> float | None:
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp() + 0.5 - time.time()
    except ValueError:
        return None


def _error(answer: httpx.Response) -> tuple[str | None, str]:
    """Return (code, message) of an error; code None when the answer is not the API's."""
    try:
        error = wire.ErrorReply.model_validate_json(answer.content)
    except pydantic.ValidationError:
        return None, f"HTTP {answer.status_code} {answer.reason_phrase}".rstrip()
    return error.code, error.message


def _one(record: type[T]) -> Callable[[bytes], T]:
    return TypeAdapter(record).validate_json


class Client:
    """A user's calls. Every one may raise AuthError, UnavailableError, and the errors that its own line names."""

    def __init__(self, url: str, token: str | None = None, *, retry_seconds: float | None = None) -> None:
        self._http = _Http(url, token, RETRY_SECONDS if retry_seconds is None else retry_seconds)
        self.data = DataCalls(self._http, SLOW_READ_SECONDS)
        self.shares = SharesCalls(self._http)
        self.users = UserCalls(self._http)
        self.notices = NoticeCalls(self._http)
        self.figures = FigureCalls(self._http)
        self.order = OrderCalls(self._http)
        self.nodes = NodeCalls(self._http)
        self.logins = LoginCalls(self._http, SLOW_READ_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.pool.close()

    @property
    def url(self) -> str:
        return self._http.url

    @property
    def server_version(self) -> str | None:
        """Return vaesvc's version at the other end, from its last answer."""
        return self._http.server_version

    @property
    def clock_skew(self) -> float | None:
        """Return the seconds that the service's clock is ahead of this one, to about 1 s; None before the first
        answer."""
        return self._http.clock_skew

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """Wait this long, inside the block, for an API that is away (a restart, say)."""
        before, self._http.retry_seconds = self._http.retry_seconds, seconds
        try:
            yield
        finally:
            self._http.retry_seconds = before

    def submit(
        self,
        spec: pydantic.BaseModel | Mapping[str, Any],
        *,
        key: str | None = None,
        notify: Sequence[wire.NoticeRequest] = (),
    ) -> Job:
        """Queue a job. The same key and spec again give the same job. notify: where to tell of it what. Raises
        UsageError, ImpossibleError, ConflictError."""
        request = wire.SubmitRequest(spec=_plain(spec), key=key or f"auto-{uuid.uuid4()}", notify=tuple(notify))
        return self._http.call("POST", "/v1/jobs", _one(Job), body=request)

    def submit_all(
        self, specs: Sequence[pydantic.BaseModel | Mapping[str, Any]], *, keys: Sequence[str] | None = None
    ) -> list[Job]:
        """Queue many jobs, in this order, in as few requests as their sizes allow: of one request all or none.

        keys: one for each spec. Raises what `submit` raises; the error says which spec of its request it is about.
        """
        keys = keys if keys is not None else [f"auto-{uuid.uuid4()}" for _ in specs]
        requests = [wire.SubmitRequest(spec=_plain(spec), key=key) for spec, key in zip(specs, keys, strict=True)]
        made: list[Job] = []
        for jobs in _batches(requests):
            body = wire.BatchRequest(jobs=jobs)
            made += self._http.call(
                "POST", "/v1/jobs:batch", _jobs.validate_json, body=body, read_seconds=SLOW_READ_SECONDS
            )
        return made

    def put_code(self, wheel: Wheel) -> CodeRef:
        """Upload a package of one's own, for jobs that name it. The same again changes nothing. Raises
        ForbiddenError."""
        path = f"/v1/code/{wheel.digest}"
        return self._http.call("PUT", path, _one(CodeRef), data=wheel.data, read_seconds=SLOW_READ_SECONDS)

    def dry_run(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return the spec as the service resolves it. Raises UsageError."""
        request = wire.SubmitRequest(spec=dict(spec))
        return self._http.call("POST", "/v1/jobs/dry-run", _one(wire.ResolvedSpec), body=request).spec

    def jobs(
        self,
        *,
        states: Sequence[JobState] | None = None,
        limit: int = 100,
        before: str | None = None,
        owner: str | None = None,
        array: str | None = None,
        together: bool = False,
        labels: Sequence[str] | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[Job]:
        """Return jobs, newest first; for the next page, `before` is the last job's id.

        together: of each array one, with how many of it are in which state. labels: `name=value`, each of which they
        have; since, until: when they were submitted, seconds since 1970.
        """
        params = {
            "state": [state.value for state in states] if states else None, "limit": limit, "before": before,
            "owner": owner, "array": array, "together": together or None, "label": list(labels) if labels else None,
            "since": since, "until": until,
        }  # fmt: skip
        return self._http.call("GET", "/v1/jobs", _jobs.validate_json, params=params)

    def job(self, job_id: str) -> wire.JobDetail:
        """Return the job. Raises NotFoundError."""
        return self._http.call("GET", f"/v1/jobs/{quote(job_id, safe='')}", _one(wire.JobDetail))

    def events(self, job_id: str, *, after: int = 0) -> list[Event]:
        """Return events, oldest first, at most 1000. Raises NotFoundError."""
        path = f"/v1/jobs/{quote(job_id, safe='')}/events"
        return self._http.call("GET", path, _events.validate_json, params={"after": after})

    def logs(self, job_id: str, *, attempt: int | None = None, offset: int = 0) -> wire.LogChunk:
        """Return at most 1 MiB of the log from `offset` (bytes). Raises NotFoundError, StorageError."""
        path = f"/v1/jobs/{quote(job_id, safe='')}/logs"
        params = {"attempt": attempt, "offset": offset}
        return self._http.call("GET", path, _one(wire.LogChunk), params=params, read_seconds=SLOW_READ_SECONDS)

    def cancel(self, job_id: str) -> Job:
        """Cancel the job. Raises NotFoundError, ConflictError."""
        return self._http.call("POST", f"/v1/jobs/{quote(job_id, safe='')}/cancel", _one(Job))

    def retry(self, job_id: str) -> Job:
        """Queue the job again. Raises NotFoundError, ConflictError (not failed or cancelled)."""
        return self._http.call("POST", f"/v1/jobs/{quote(job_id, safe='')}/retry", _one(Job), repeatable=False)

    def amend(self, job_id: str, what: str, **fields: Any) -> Job:
        """Send a job a signal ("finish"), or give it more to do, as its kind lets ("lengthen", "extend").

        Raises UsageError, ConflictError. Asking again is harmless.
        """
        request = wire.AmendRequest.model_validate({"what": what, **fields})
        return self._http.call("POST", f"/v1/jobs/{quote(job_id, safe='')}/amend", _one(Job), body=request)

    def view(self, job_id: str) -> wire.JobView:
        """Return a job's results: tables, pictures, and the same for programs. Raises NotFoundError, StorageError."""
        path = f"/v1/jobs/{quote(job_id, safe='')}/view"
        return self._http.call("GET", path, _one(wire.JobView), read_seconds=SLOW_READ_SECONDS)

    def job_call(self, job_id: str, call: str, record: type[T]) -> T:
        """Return what a call of the job's kind answers, beside `view`. Raises NotFoundError where its kind has none."""
        path = f"/v1/jobs/{quote(job_id, safe='')}/{quote(call, safe='')}"
        return self._http.call("GET", path, _one(record), read_seconds=SLOW_READ_SECONDS)

    def models(self) -> list[wire.ModelVersion]:
        """Return the model versions, newest first."""
        return self._http.call("GET", "/v1/models", _versions.validate_json)

    def model_files(self, name: str, *, version: int | None = None, alias: str | None = None) -> wire.ModelFiles:
        """Return addresses of the files, valid for an hour, and what was signed. Raises NotFoundError,
        UntrustedError."""
        path = f"/v1/models/{quote(name, safe='')}/files"
        params = {"version": version, "alias": alias}
        return self._http.call("GET", path, _one(wire.ModelFiles), params=params, read_seconds=SLOW_READ_SECONDS)

    def mirror(self) -> wire.Mirror:
        """Return where MLflow's registry differs from the service's."""
        return self._http.call("GET", "/v1/models/mirror", _one(wire.Mirror), read_seconds=SLOW_READ_SECONDS)

    def keys(self) -> tuple[str, ...]:
        """Return the public keys that the service signs models with. Needs no token."""
        return self._http.call("GET", "/v1/keys", _one(wire.Keys)).keys

    def cluster(self) -> wire.ClusterStatus:
        return self._http.call("GET", "/v1/cluster", _one(wire.ClusterStatus))

    def whoami(self) -> str:
        """Return the token's name."""
        return self.identity().owner

    def identity(self) -> wire.Identity:
        """Return the token's name and role."""
        return self._http.call("GET", "/v1/whoami", _one(wire.Identity))

    def health(self) -> wire.Health:
        """Return the service's health. Needs no token."""
        return self._http.call("GET", "/v1/health", _one(wire.Health))


class AttemptClient:
    """A runner's calls for its one attempt. On FencedError stop at once: a newer attempt exists or the job is over."""

    def __init__(self, url: str, token: str, *, job_id: str, number: int, retry_seconds: float = RETRY_SECONDS) -> None:
        self._http = _Http(url, token, retry_seconds)
        self._path = f"/v1/jobs/{quote(job_id, safe='')}/attempts/{number}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.pool.close()

    def claim(self, request: wire.ClaimRequest) -> wire.AttemptContext:
        """Claim the attempt. Raises ConflictError when the cluster's version of vaesvc is not the service's."""
        return self._http.call("POST", f"{self._path}/claim", _one(wire.AttemptContext), body=request)

    def heartbeat(self, runner_id: str, *, timeout_seconds: float = READ_SECONDS) -> wire.HeartbeatReply:
        """Renew the lease; keep `timeout_seconds` and `retry_seconds` well below what is left of it."""
        request = wire.HeartbeatRequest(runner_id=runner_id)
        path = f"{self._path}/heartbeat"
        return self._http.call("POST", path, _one(wire.HeartbeatReply), body=request, read_seconds=timeout_seconds)

    def progress(self, report: wire.ProgressReport) -> wire.HeartbeatReply:
        return self._http.call("POST", f"{self._path}/progress", _one(wire.HeartbeatReply), body=report)

    def commit_checkpoint(self, checkpoint: Checkpoint) -> wire.CheckpointReply:
        """Commit the checkpoint, after all its files are in storage."""
        return self._http.call("POST", f"{self._path}/checkpoints", _one(wire.CheckpointReply), body=checkpoint)

    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints, newest first."""
        return self._http.call("GET", f"{self._path}/checkpoints", _checkpoints.validate_json)

    def drained(self) -> list[str]:
        """Return Ray's ids of the nodes on which nothing of the attempt may begin, as of now."""
        return self._http.call("GET", f"{self._path}/drained", _ids.validate_json)

    def register(self, request: wire.RegisterRequest) -> wire.RegisterReply:
        """Ask the service to read and sign the model, after its files are in storage. Raises UntrustedError,
        UsageError."""
        path = f"{self._path}/model"
        return self._http.call("POST", path, _one(wire.RegisterReply), body=request, read_seconds=SLOW_READ_SECONDS)

    def finish(self, request: wire.FinishRequest) -> Job:
        return self._http.call("POST", f"{self._path}/finish", _one(Job), body=request)


def _plain(spec: pydantic.BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    return spec.model_dump(mode="json") if isinstance(spec, pydantic.BaseModel) else dict(spec)


def _batches(requests: Sequence[wire.SubmitRequest]) -> Iterator[tuple[wire.SubmitRequest, ...]]:
    """Return the requests in groups that one request's body may hold."""
    batch: list[wire.SubmitRequest] = []
    size = 0
    for request in requests:
        bytes_ = len(request.model_dump_json().encode()) + 1
        if batch and (size + bytes_ > wire.MAX_REQUEST_BYTES - 1024 or len(batch) == wire.MAX_BATCH):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(request)
        size += bytes_
    if batch:
        yield tuple(batch)
