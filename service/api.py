"""The HTTP API: the queue's only door for users and runners. The calls are listed in `service.wire`.

Handlers that only touch SQL run in FastAPI's thread pool. Those that wait on S3 or MLflow share a small pool of
their own: a storage outage must never keep a runner's heartbeat waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from pydantic import Field

from service import (
    __version__,
    access,
    amendments,
    areas,
    attempt_routes,
    auditing,
    auth,
    batches,
    kinds,
    middleware,
    model_routes,
    shares_routes,
    wire,
)
from service.access import JobId, User
from service.code.reference import CodeRef, Digest
from service.data import routes as data
from service.errors import UsageError, VaesvcError
from service.figures import routes as figures
from service.kinds.kind import loaded
from service.log_text import log_chunk
from service.nodes import routes as nodes
from service.notify import routes as notifications
from service.oidc import routes as logins
from service.oidc.signing_in import SigningIn, provider_of
from service.order import routes as order
from service.queue.jobs import MAX_ATTEMPT, Event, Job, JobState, TokenInfo
from service.queue.listing import Which
from service.queue.store import Store
from service.services import LOGINS, RESOLVING, SLOW_THREADS, App, Services
from service.settings import Settings
from service.signing import read_key
from service.specs.job import LABEL, MOST_LABELS
from service.users import routes as users_and_tokens

if TYPE_CHECKING:
    from service.specs.job import JobSpec

log = logging.getLogger("vaesvc.api")

MAX_OFFSET = 2**63 - 1  # what a database counts to

CodeDigest = Annotated[Digest, Path(description="SHA-256 of the package's canonical form")]
_error: dict[str, Any] = {"model": wire.ErrorReply, "description": "an error; `code` names its kind"}
_errors: dict[int | str, dict[str, Any]] = {422: _error, "default": _error}
users = APIRouter(prefix="/v1", tags=["users"], responses=_errors)  # each call says which scopes it needs


def _of_one_job(scope: Any, may: Callable[..., Any]) -> APIRouter:
    """Return a router for calls of one job: every one of them is on such a router, and so is checked."""
    needs = [scope, Depends(may)]
    return APIRouter(prefix="/v1/jobs/{job_id}", tags=["users"], dependencies=needs, responses=_errors)


def _reading() -> APIRouter:
    return _of_one_job(access.READS, access.reader)


def _changing() -> APIRouter:
    return _of_one_job(access.CHANGES, access.changer)


read_job, change_job = _reading(), _changing()
public = APIRouter(prefix="/v1", tags=["health"])


# --- users: jobs ----------------------------------------------------------------------------------------------------


@users.post("/jobs", summary="Submit a job", dependencies=[access.SUBMITS])
async def submit(request: wire.SubmitRequest, services: App, user: User, call: Request) -> Job:
    """Put a job into the queue. With a key: the same owner, key and spec give the same job again, however often it is
    sent; the same key with another spec is a conflict."""
    notify = notifications.targets(services.settings, request.notify)
    act = auditing.act_of(call, HTTPStatus.OK)
    put = partial(services.store.submit, owner=user.name, key=request.key, notify=notify, act=act)

    def put_without_code(spec: JobSpec) -> tuple[JobSpec, Job | None]:
        return spec, put(spec) if spec.code is None else None

    read = partial(batches.read, request.spec, services, user)
    spec, job = await services.read_specs_then(read, put_without_code)
    if job is None:
        await _check_code(spec.code, services, user)
        job = await anyio.to_thread.run_sync(partial(put, spec))
    auditing.already_noted(call)
    return job


@users.post("/jobs:batch", summary="Submit many jobs", dependencies=[access.SUBMITS])
async def submit_batch(request: wire.BatchRequest, services: App, user: User, call: Request) -> list[Job]:
    """Put many jobs into the queue in one transaction, in the order given: all of them or none. Keys are those of
    single submits. An error says which of the jobs it is about."""
    specs = await batches.resolved(request.jobs, services, user, lambda spec: _check_code(spec.code, services, user))
    act = auditing.act_of(call, HTTPStatus.OK)
    jobs = await anyio.to_thread.run_sync(partial(services.store.submit_all, specs, owner=user.name, act=act))
    auditing.already_noted(call)
    return jobs


async def _check_code(code: CodeRef | None, services: Services, user: TokenInfo) -> None:
    """Check that the job's own code may be used by this user, and that it is stored."""
    if code is None:
        return
    from service.code import storage

    access.may_bring_code(services.settings, user)
    if not await services.wait_for(lambda: storage.is_there(services.artifacts, code)):
        raise UsageError(f"code: the package {code} has not been brought; submit with `vaesvc submit --code`")


@users.post("/jobs/dry-run", summary="Resolve a spec without submitting it", dependencies=[access.SUBMITS])
async def dry_run(request: wire.SubmitRequest, services: App, user: User) -> wire.ResolvedSpec:
    """Return the spec with every default filled in."""
    spec = await services.read_specs(partial(batches.read, request.spec, services, user))
    if spec.code is not None:
        access.may_bring_code(services.settings, user)
    return wire.ResolvedSpec(spec=spec.model_dump(mode="json"))


@users.put(
    "/code/{digest}",
    summary="Bring a package of one's own",
    dependencies=[access.SUBMITS],
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {
        "type": "string", "format": "binary", "description": "a wheel in its canonical form, as `vaesvc` builds it",
    }}}}},
)  # fmt: skip
async def put_code(digest: CodeDigest, request: Request, services: App, user: User) -> CodeRef:
    """Keep the package under its digest, for jobs whose spec names it. Nothing of it is imported here. Idempotent."""
    access.may_bring_code(services.settings, user)
    data = await request.body()
    return await services.wait_for(lambda: _put_code(services, digest, data))


def _put_code(services: Services, digest: str, data: bytes) -> CodeRef:
    from service.code import storage, wheel

    package = wheel.read(data, most_bytes=services.settings.code_bytes)
    if package.digest != digest:
        raise UsageError(f"the wheel has the digest {package.digest}, and was brought as {digest}: it came altered")
    storage.keep(services.artifacts, package)
    return package.ref


@users.get("/jobs", summary="List jobs", dependencies=[access.READS])
def jobs(
    services: App,
    user: User,
    state: Annotated[
        list[JobState] | None, Query(max_length=len(JobState), description="only these states; repeatable")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[str | None, Query(max_length=100, description="the last job's id of the page before")] = None,
    owner: Annotated[str | None, Query(max_length=200, description="only this user's")] = None,
    array: Annotated[str | None, Query(max_length=32, description="only of this array")] = None,
    together: Annotated[bool, Query(description="of each array one, with how many of it are in which state")] = False,
    label: Annotated[
        list[Annotated[str, Field(pattern=LABEL)]] | None,
        Query(max_length=MOST_LABELS, description="only with this label, name=value; repeatable: with all of them"),
    ] = None,
    since: Annotated[float | None, Query(ge=0, le=1e12, description="submitted then or later, s since 1970")] = None,
    until: Annotated[float | None, Query(ge=0, le=1e12, description="submitted before, s since 1970")] = None,
) -> Sequence[Job]:
    """Return jobs, newest first, with the position in the queue and the reason for waiting: those of all owners, or, as
    the service is set, the caller's own."""
    seen = None if access.sees_all(services.settings, user) else user.name
    labels = dict(each.split("=", 1) for each in label or ())
    which = Which(owner=owner, array=array, together=together, labels=labels, since=since, until=until)
    return services.store.jobs(states=state, limit=limit, before=before, owner=seen, which=which)


@read_job.get("", summary="One job, its attempts and checkpoints")
def job(job_id: JobId, services: App) -> wire.JobDetail:
    return services.store.detail(job_id)


@read_job.get("/events", summary="What happened to a job")
def events(
    job_id: JobId,
    services: App,
    after: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="the last event's id that is known already")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> Sequence[Event]:
    """Return the job's events, oldest first."""
    return services.store.events(job_id, after=after, limit=limit)


@change_job.post("/cancel", summary="Cancel a job")
def cancel(job_id: JobId, services: App, user: User) -> Job:
    """Cancel the job; asking again is harmless. A running attempt checkpoints and stops; the events say who asked."""
    return services.store.cancel(job_id, by=user.name)


@change_job.post("/retry", summary="Queue a failed or cancelled job again")
def retry(job_id: JobId, services: App, user: User) -> Job:
    """Queue the job again. The next attempt goes on from the last committed checkpoint."""
    return services.store.retry(job_id, by=user.name)


@change_job.post("/amend", summary="Tell a job something, or give it more to do")
def amend(job_id: JobId, request: wire.AmendRequest, services: App, user: User) -> Job:
    """Signal or change the job, as its kind allows: "finish" ends a study with what it has found out, "extend" gives it
    more trials, "lengthen" gives a run that is over more epochs or steps. What was done is not done again, and asking
    again is harmless."""
    return amendments.amend(services.store, job_id, request, by=user.name)


@read_job.get("/view", summary="What a job has come to, as its kind shows it")
async def view(job_id: JobId, services: App) -> wire.JobView:
    """Return tables and pictures for people, and the same for programs."""
    job = await anyio.to_thread.run_sync(services.store.job, job_id)
    return await services.wait_for(lambda: _view(services, job))


def _view(services: Services, job: Job) -> wire.JobView:
    shown = loaded(kinds.named(job.kind).view)(job, services.artifacts)
    return shown.model_copy(update={"pictures": areas.picture_addresses(services.artifacts, job)})


@read_job.get("/logs", summary="A piece of an attempt's log")
async def logs(
    job_id: JobId,
    services: App,
    attempt: Annotated[int | None, Query(ge=1, le=MAX_ATTEMPT, description="its number; default the newest")] = None,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET, description="bytes to skip: the last chunk's `offset`")] = 0,
) -> wire.LogChunk:
    """Return at most 1 MiB of the log at a time. It comes from S3, seconds behind the attempt, and stays when the
    cluster is gone."""
    detail = await anyio.to_thread.run_sync(services.store.detail, job_id)
    return await services.wait_for(lambda: log_chunk(services.artifacts, detail, attempt, offset))


# --- users: cluster, themselves ---------------------------------------------------------------------------------------


@users.get("/cluster", summary="The cluster as the dispatcher saw it last", dependencies=[access.READS])
def cluster(services: App) -> wire.ClusterStatus:
    return services.store.cluster()


@users.get("/whoami", summary="The name and the role of the token", dependencies=[access.READS])
def whoami(user: User) -> wire.Identity:
    return wire.Identity(
        owner=user.name, role=user.role, token=user.label, scopes=user.held(), expires_at=user.expires_at
    )


# --- health ---------------------------------------------------------------------------------------------------------


@public.get("/health", summary="Does the API reach its database?", responses={503: {"model": wire.Health}})
def health(services: App, response: Response) -> wire.Health:
    """Return whether the API reaches its database. Needs no token and discloses nothing that a token would protect."""
    try:
        services.store.ping()
    except VaesvcError as error:
        log.warning("health: %s", error)
        response.status_code = 503
        return wire.Health(ok=False, version=__version__, detail={"database": "does not answer"})
    return wire.Health(ok=True, version=__version__, detail={"database": "ok"})


@public.get("/keys", summary="The public keys that models are signed with")
def keys(services: App) -> wire.Keys:
    """Return the public keys. Needs no token. Readers may pin one with the setting `verify_key`."""
    return wire.Keys(keys=(services.key.public,))


# --- the application ------------------------------------------------------------------------------------------------


def create_app(settings: Settings, store: Store | None = None) -> FastAPI:
    """Return the application over these settings. `store` if the caller has one; else it is opened and closed here."""
    secret, key = auth.read_secret(settings.secret_file), read_key(settings.signing_key_file)
    provider = provider_of(settings.oidc, cli=True)
    opened = store or Store(settings.database_url, lease_seconds=settings.lease_seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if provider is not None:
            provider.close()
        if store is None:
            opened.close()

    app = FastAPI(
        title="vaesvc",
        version=__version__,
        summary="A distributed training service with a job queue for variational autoencoders",
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
    )
    app.state.services = Services(
        settings=settings,
        store=opened,
        secret=secret,
        key=key,
        slow=asyncio.Semaphore(SLOW_THREADS),
        resolving=asyncio.Semaphore(RESOLVING),
        logging_in=asyncio.Semaphore(LOGINS),
        signing_in=None
        if provider is None
        else SigningIn(provider=provider, settings=settings.oidc, store=opened, secret=secret),
    )
    middleware.install(app)
    others = (
        model_routes.router, data.router, data.every, users_and_tokens.router, notifications.router, figures.router,
        shares_routes.users, shares_routes.administrators, logins.public, logins.users,
        nodes.router,
    )  # fmt: skip
    for router in (public, users, read_job, change_job, attempt_routes.router, *others, *_of_jobs()):
        app.include_router(router)
    return app


def _of_jobs() -> tuple[APIRouter, APIRouter]:
    """Return the calls of one job that are in files of their own, and those that its kind brings."""
    read, change = _reading(), _changing()
    order.add(read, change)
    for kind in kinds.KINDS.all().values():
        if kind.routes is not None:
            loaded(kind.routes)(read, change)
    return read, change
