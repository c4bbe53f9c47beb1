"""The API's calls for data sets. Whose a name is decides who moves and removes it; reading is as for jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Path, Query, Request

from service import access, wire
from service.access import User
from service.data import names, sets
from service.data.records import NAME, KeptSet, NamedSet
from service.errors import NotFoundError
from service.queue.data_needs import Grace

if TYPE_CHECKING:
    from service.queue.jobs import TokenInfo
    from service.services import Services

_error: dict[str, Any] = {"model": wire.ErrorReply, "description": "an error; `code` names its kind"}
_common: dict[str, Any] = {
    "tags": ["data"],
    "responses": {422: _error, "default": _error},
}
router = APIRouter(prefix="/v1/data", **_common)
every = APIRouter(prefix="/v1/data-sets", **_common)  # of sets with a name or without
Name = Annotated[str, Path(pattern=NAME, max_length=100, description="a name of the user's choice")]


def _limits(services: Services) -> sets.Limits:
    return sets.Limits(most_bytes=services.settings.data_set_bytes)


def _grace(services: Services) -> Grace:
    settings = services.settings
    return Grace(seconds=settings.data_grace_seconds, job_seconds=settings.data_job_grace_seconds)


def _services(request: Request) -> Any:
    return request.app.state.services


App = Annotated[Any, Depends(_services)]


def _owner(services: Services, user: TokenInfo) -> str | None:
    """Return whose names the user sees; None: everybody's."""
    return None if access.sees_all(services.settings, user) else user.name


def _may_use(services: Services, user: TokenInfo, request: wire.DataPoint) -> None:
    """Raise NotFoundError where users see their own only and this one lacks the set: a digest alone opens none."""
    if request.data is not None:
        sets.checked(wire.DataUpload(digest=request.digest, data=request.data), _limits(services))
    elif not access.sees_all(services.settings, user) and not services.store.data.brought(request.digest, user.name):
        raise NotFoundError(f"no data set {request.digest} of yours is stored here: add it with `vaesvc data add`")


@router.post("/uploads", summary="Where to send a data set's files", dependencies=[access.SUBMITS])
async def upload(request: wire.DataUpload, services: App, user: User) -> wire.DataMissing:
    """Return addresses for the files that are not stored yet, each for one size and one SHA-256. Ask again for the next
    ones, and after an interruption: what is stored is not sent again. The set has a name when it is whole."""
    limits = _limits(services)
    call = lambda: sets.begin(services.store.data, services.artifacts, limits, request, user.name)  # noqa: E731
    missing: wire.DataMissing = await services.wait_for(call)
    return missing


@router.get("", summary="List data sets", dependencies=[access.READS])
def list_data(services: App, user: User) -> Sequence[NamedSet]:
    """Return names and their sets, by name: those of all owners, or, as the service is set, the caller's own."""
    return services.store.data.names(_owner(services, user))  # type: ignore[no-any-return]


@every.get("", summary="List data sets, and why each is kept", dependencies=[access.READS])
def kept(services: App, user: User) -> Sequence[KeptSet]:
    """Return every set, with a name or without, oldest first, and what needs it: names, registered models, and jobs
    that are not over or ended lately. Those of all owners, or, as the service is set, what the caller has brought or
    named, and of what needs it the caller's own."""
    return services.store.data.kept(_grace(services), owner=_owner(services, user))  # type: ignore[no-any-return]


@router.put("/{name}", summary="Let a name point to a data set", dependencies=[access.SUBMITS])
async def point(name: Name, request: wire.DataPoint, services: App, user: User) -> NamedSet:
    """Let the name point to the set, all of whose files must be stored. Jobs that were submitted before hold the digest
    that the name had then. Idempotent."""
    names.check_free(name)
    store, digest = services.store.data, request.digest
    await anyio.to_thread.run_sync(lambda: _may_use(services, user, request))
    await services.wait_for(lambda: sets.complete(store, services.artifacts, digest))
    pointed: NamedSet = await anyio.to_thread.run_sync(
        lambda: store.point(name, digest, by=user.name, admin=user.operator)
    )
    return pointed


@router.get("/{name}", summary="What a name points to", dependencies=[access.READS])
def show(name: Name, services: App, user: User) -> wire.DataDetail:
    """Return the set's facts, what was done with the values, where the name has pointed, and why the set is kept."""
    owner = _owner(services, user)
    return sets.detail(services.store.data, services.store.data.named(name, owner), _grace(services), owner)


@router.get("/{name}/files", summary="A data set's files", dependencies=[access.READS])
async def files(name: Name, services: App, user: User) -> wire.DataFiles:
    """Return addresses that can be read without a key for an hour, in pieces too."""
    named = await anyio.to_thread.run_sync(lambda: services.store.data.named(name, _owner(services, user)))
    addresses: wire.DataFiles = await services.wait_for(
        lambda: sets.files(services.store.data, services.artifacts, named)
    )
    return addresses


@router.delete("/{name}", summary="Take a name away", dependencies=[access.CHANGES])
def remove(
    name: Name,
    services: App,
    user: User,
    digest: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{64}$", description="what it points to: then it may be said again")
    ] = None,
) -> wire.DataRemoved:
    """Take the name away. Jobs hold the digest and run all the same. The files go when no name and no job needs them
    any more."""
    seen = _owner(services, user)
    removed = services.store.data.remove(name, by=user.name, admin=user.operator, digest=digest, owner=seen)
    assert removed.previous is not None
    jobs = tuple(services.store.data.waiting_jobs(removed.previous))
    return wire.DataRemoved(name=name, digest=removed.previous, jobs=jobs)
