"""The API's messages: what client, runner and dispatcher send each other. One definition for both ends.

User calls (bearer token of a user):
    POST /v1/jobs                          SubmitRequest -> Job          (same key and spec: the same job again)
    POST /v1/jobs:batch                    BatchRequest -> list[Job]     (all of them or none)
    POST /v1/jobs/dry-run                  SubmitRequest -> ResolvedSpec
    GET  /v1/jobs?state=&limit=&before=&owner=&array=&together=&label=&since=&until=    -> list[Job]
    GET  /v1/jobs/{id}                     -> JobDetail
    GET  /v1/jobs/{id}/events?after=       -> list[Event]
    GET  /v1/jobs/{id}/logs?attempt=&offset= -> LogChunk
    POST /v1/jobs/{id}/cancel              -> Job
    POST /v1/jobs/{id}/retry               -> Job
    POST /v1/jobs/{id}/hold                -> Job
    POST /v1/jobs/{id}/release             -> Job
    POST /v1/jobs/{id}/reprioritize        Reprioritize -> Job  (`service.order.records`)
    POST /v1/jobs/{id}/amend               AmendRequest -> Job  (what a job's kind lets be changed or told)
    GET  /v1/jobs/{id}/view                -> JobView
    PUT  /v1/code/{digest}                 a wheel -> CodeRef            (where `user_code` allows it)
    GET  /v1/models                        -> list[ModelVersion]
    GET  /v1/models/{name}/files?version=&alias=   -> ModelFiles (presigned addresses)
    GET  /v1/models/mirror                 -> Mirror
    POST /v1/data/uploads                  DataUpload -> DataMissing  (where to send what is not there yet)
    GET  /v1/data                          -> list[NamedSet]
    GET  /v1/data-sets                     -> list[KeptSet]           (those without a name, too, and why each is kept)
    PUT  /v1/data/{name}                   DataPoint -> NamedSet      (the name points to the digest from now on)
    GET  /v1/data/{name}                   -> DataDetail
    GET  /v1/data/{name}/files             -> DataFiles (presigned addresses)
    DELETE /v1/data/{name}?digest=         -> DataRemoved
    GET  /v1/quota                         -> list[Quota]                (of the caller, and of their group)
    GET  /v1/cluster                       -> ClusterStatus
    GET  /v1/whoami                        -> Identity
    GET  /v1/tokens                        -> list[TokenInfo]            (the caller's)
    PUT  /v1/tokens/{label}                TokenRequest -> TokenInfo
    POST /v1/tokens/{label}/rotate         RotateRequest -> TokenInfo
    DELETE /v1/tokens/{label}              -> Revoked
    GET  /v1/users                         -> list[UserInfo]             (this and what follows: an administrator's)
    PUT  /v1/users/{name}                  RoleRequest -> UserInfo
    DELETE /v1/users/{name}                -> Revoked
    GET  /v1/users/{name}/tokens           -> list[TokenInfo]
    PUT  /v1/users/{name}/tokens/{label}   TokenRequest -> TokenInfo
    DELETE /v1/users/{name}/tokens/{label} -> Revoked
    GET  /v1/notifications                 -> list[Subscription]         (the caller's)
    POST /v1/notifications?job=            NoticeRequest -> SubscriptionReply
    DELETE /v1/notifications/{subscription}       -> SubscriptionReply
    POST /v1/notifications/{subscription}/try     -> Trial
    GET  /v1/audit?actor=&object=&refused=&since=&until=&before=&limit= -> list[ActRecord]
    GET  /v1/usage?since=&until=&by=       -> list[Used]
    GET  /metrics                          Prometheus' text
    GET  /v1/health                        -> Health                      (no token)
    GET  /v1/keys                          -> Keys                        (no token)
Administrators' calls:
    GET  /v1/groups                        -> list[Group]
    PUT  /v1/groups/{group}                GroupRequest -> list[Group]
    DELETE /v1/groups/{group}              -> list[Group]
    PUT  /v1/groups/{group}/members/{user} -> list[Group]
    DELETE /v1/groups/{group}/members/{user} -> list[Group]
    GET  /v1/quotas                        -> list[Quota]
    PUT  /v1/quotas/{kind}/{name}          Bounds -> Quota
    DELETE /v1/quotas/{kind}/{name}        -> list[Quota]
Attempt calls (bearer token of that attempt, made when it was admitted):
    POST /v1/jobs/{id}/attempts/{number}/claim        ClaimRequest -> AttemptContext
    POST /v1/jobs/{id}/attempts/{number}/heartbeat    HeartbeatRequest -> HeartbeatReply   (renews the lease)
    POST /v1/jobs/{id}/attempts/{number}/progress     ProgressReport -> HeartbeatReply     (does not renew the lease)
    POST /v1/jobs/{id}/attempts/{number}/checkpoints  Checkpoint -> CheckpointReply
    GET  /v1/jobs/{id}/attempts/{number}/checkpoints  -> list[Checkpoint]  newest first
    GET  /v1/jobs/{id}/attempts/{number}/drained      -> list[str]  of nodes on which nothing may begin
    POST /v1/jobs/{id}/attempts/{number}/model        RegisterRequest -> RegisterReply
    POST /v1/jobs/{id}/attempts/{number}/finish       FinishRequest -> Job
Kinds of jobs add calls of their own (`Kind.routes`).
An error is an `ErrorReply` with the status of `service.errors`. Both ends send their version as `VERSION_HEADER`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.code.reference import CodeRef
from service.data.records import Kept, Move, NamedSet
from service.queue.jobs import MAIN_LABEL, Attempt, Checkpoint, Job, Record
from service.queue.notice import ENDS, Channel, Notice, Subscription
from service.queue.roles import Role, Scope
from vae_models.data.canonical import MOST_JSON_BYTES
from vae_models.data.spec import Digest

RunnerId = Annotated[str, Field(min_length=1, max_length=200)]
VERSION_HEADER = "x-vaesvc-version"
MAX_REQUEST_BYTES = 1 << 20  # a resolved spec is a few kilobytes
MAX_BATCH = 1000  # jobs in one request


class ErrorReply(Record):
    code: str  # the class of `service.errors` that the client raises again
    message: str


class NoticeRequest(Record):
    """A wish to be told of jobs."""

    channel: Channel
    address: str = Field(
        min_length=1, max_length=1000, description="an https address, of Slack too; of mail user@example.org"
    )
    notices: tuple[Notice, ...] = Field(default=ENDS, min_length=1, max_length=len(Notice))


class SubscriptionReply(Record):
    subscription: Subscription
    secret: str | None = None  # that signs a webhook's messages


class Trial(Record):
    id: str  # of the message


class SubmitRequest(Record):
    spec: dict[str, Any]  # a JobSpec, resolved or with a recipe and overrides left to resolve
    key: str | None = Field(default=None, min_length=1, max_length=200, description="idempotency key")
    notify: tuple[NoticeRequest, ...] = Field(default=(), max_length=10, description="where to tell of it what")


class BatchRequest(Record):
    jobs: tuple[SubmitRequest, ...] = Field(min_length=1, max_length=MAX_BATCH, description="in the order of their age")


class ResolvedSpec(Record):
    spec: dict[str, Any]


class JobDetail(Record):
    job: Job
    attempts: tuple[Attempt, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()


class AmendRequest(BaseModel):
    """what: a signal ("finish"), or an amendment of the kind ("lengthen", "extend"). Beside it what that takes."""

    model_config = ConfigDict(frozen=True, extra="allow")

    what: str = Field(min_length=1, max_length=32)

    @property
    def fields(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Table(Record):
    """For people. header: with units."""

    title: str = ""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()


class JobView(Record):
    """What a job has come to, as its kind shows it.

    pictures: name -> presigned address. detail: the same for programs; its form is the kind's.
    """

    job: Job
    tables: tuple[Table, ...] = ()
    pictures: dict[str, str] = Field(default_factory=dict)
    detail: dict[str, Any] = Field(default_factory=dict)


class LogChunk(Record):
    text: str
    offset: int  # where the next read goes on, bytes
    attempt: int
    complete: bool  # nothing will be added


class ClaimRequest(Record):
    runner_id: RunnerId  # new for every runner process
    version: str = Field(max_length=100, description="vaesvc's version on the cluster")
    host: str = Field(default="", max_length=255)


class StorageSettings(Record):
    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key: str | None = None
    secret_key: str | None = None

    def __repr__(self) -> str:  # secrets never reach a log
        return f"StorageSettings(bucket={self.bucket!r}, prefix={self.prefix!r}, endpoint_url={self.endpoint_url!r})"

    __str__ = __repr__


class AttemptContext(Record):
    """All that an attempt needs to run, handed out once to the runner that claims it."""

    job: Job
    number: int
    lease_seconds: float
    storage: StorageSettings
    mlflow_uri: str | None = Field(repr=False)  # with the attempt's login
    checkpoints: tuple[Checkpoint, ...] = ()  # newest first
    cancel_grace_seconds: float = 8.0  # a cancelled attempt may checkpoint this long
    avoid: tuple[str, ...] = ()  # Ray's ids of nodes: the attempt before this one hung there
    drained: tuple[str, ...] = ()  # of nodes that operators drain: nothing may start there


class HeartbeatRequest(Record):
    runner_id: RunnerId


class HeartbeatReply(Record):
    lease_seconds: float
    cancel: bool  # checkpoint if you can, then stop
    finish: bool = False  # stop trying, and end with what there is
    stop: str | None = None  # why the attempt shall end, of which another goes on with the job
    hangs: bool = False  # that is why: nothing can be waited for
    grace: float | None = None  # seconds in which it may checkpoint; none: as long as a cancelled one


class Pulse(Record):
    """How long ago the training loop last came by, and the longest that it was away so far.

    watched: it is in the middle of training; before and after that it may be away for long.
    """

    watched: bool = True
    idle_seconds: float = Field(default=0.0, ge=0, le=1e9)
    usual_seconds: float = Field(default=0.0, ge=0, le=1e9)


class ProgressReport(Record):
    progress: dict[str, Any]
    run_id: str | None = Field(default=None, max_length=200, description="MLflow's run, once it is known")
    pulse: Pulse | None = None  # none: nothing is known of it, and a hang is not looked for


class CheckpointReply(Record):
    kept: tuple[Checkpoint, ...]  # newest first
    delete: tuple[str, ...] = ()  # addresses that retention gave up: the caller deletes them


class FinishRequest(Record):
    runner_id: RunnerId
    outcome: Literal["succeeded", "failed", "cancelled"]
    error: str | None = None
    retryable: bool = True
    outage: bool = False  # failed because machines were lost: does not count against `retry.max_attempts`
    result: dict[str, Any] = Field(default_factory=dict)
    log_uri: str | None = Field(default=None, max_length=1000)
    spec_sha256: str | None = Field(
        default=None, max_length=64, description="of the spec that was run: where it was extended, another one follows"
    )


class ModelVersion(Record):
    """version: the service's number. mlflow_version: MLflow's, which is the same unless somebody else had it."""

    name: str
    version: str
    aliases: tuple[str, ...] = ()  # best
    source: str
    job_id: str | None = None
    metric: str | None = None
    value: float | None = None
    created_at: float = 0.0
    mlflow_version: str | None = None  # none: MLflow does not show it
    code: CodeRef | None = None  # the package of a user's own that it takes to load it
    signed: bool = True  # by the service's key of now; a version that is not is neither loaded nor the best


class ModelFiles(Record):
    """envelope: what the service signed (`service.model_files`): the manifest's SHA-256, and with it the files'.

    code: presigned address of the package of own code that the model needs, whose digest is in what was signed
    """

    name: str
    version: str
    files: dict[str, str]  # relative path -> presigned address
    envelope: str
    code: str | None = None


class RegisterRequest(Record):
    """winner: as the attempt's result names it; without one, the best checkpoint that the queue knows. mlflow_version:
    MLflow's number."""

    winner: dict[str, Any] | None = None
    mlflow_version: int | None = Field(default=None, ge=1)


class RegisterReply(Record):
    version: ModelVersion
    envelope: str
    best: ModelVersion | None  # of the model, as the service sees it


class Mirror(Record):
    """differences: where MLflow says something else about the models than the service, a sentence each."""

    differences: tuple[str, ...] = ()


class Keys(Record):
    keys: tuple[str, ...]  # public, `ed25519:...`


class DataUpload(Record):
    """data: the text of data.json, whose SHA-256 is the digest."""

    digest: Digest
    data: str = Field(max_length=MOST_JSON_BYTES)


class DataFile(Record):
    """A file to send: PUT its bytes to `address`, with these headers."""

    file: str
    bytes: int
    address: str
    headers: dict[str, str]


class DataMissing(Record):
    """files: the first that are not there, to be sent now; missing: how many there are in all, and their bytes.

    Asked again, the answer has the next ones: nothing that is there is sent twice.
    """

    files: tuple[DataFile, ...] = ()
    missing: int
    missing_bytes: int


class DataPoint(Record):
    """data: the text of data.json, which shows that the set is the caller's, where users see their own only."""

    digest: Digest
    data: str | None = Field(default=None, max_length=MOST_JSON_BYTES)


class DataDetail(Record):
    """made, source: of data.json: what was done with the values, and what was read. jobs: not over, and needing it.
    kept: why the set is.
    """

    data: NamedSet
    kept: Kept
    made: dict[str, Any]
    source: dict[str, Any]
    moves: tuple[Move, ...]
    jobs: tuple[str, ...]


class DataFiles(Record):
    """files: name -> presigned address; of data.json too."""

    digest: Digest
    files: dict[str, str]


class DataRemoved(Record):
    """jobs: not over, and holding the digest: they run all the same."""

    name: str
    digest: str
    jobs: tuple[str, ...]


class ClusterStatus(Record):
    nodes: tuple[dict[str, float], ...] = ()
    total: dict[str, float] = Field(default_factory=dict)
    used_by_jobs: dict[str, float] = Field(default_factory=dict)
    queued: int = 0
    running: int = 0
    ray_address: str | None = None
    ray_ok: bool = False
    seen_at: float | None = None


class Identity(Record):
    owner: str  # the user's name
    role: Role = Role.USER
    token: str = MAIN_LABEL  # its label
    scopes: tuple[Scope, ...] = ()  # what role and token allow together
    expires_at: float | None = None  # seconds since 1970; none: never


class Health(Record):
    ok: bool
    version: str
    detail: dict[str, str] = Field(default_factory=dict)
