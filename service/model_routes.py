"""The API's calls for registered models: which there are, their files, and what MLflow shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from service import access, wire
from service.access import User
from service.errors import NotFoundError, UsageError
from service.model_files import BEST, NAME, Reference
from service.queue.jobs import TokenInfo
from service.services import App, Services

_error: dict[str, Any] = {"model": wire.ErrorReply, "description": "an error; `code` names its kind"}
_errors: dict[int | str, dict[str, Any]] = {422: _error, "default": _error}
router = APIRouter(prefix="/v1", tags=["users"], responses=_errors)


@router.get("/models", summary="Registered model versions", dependencies=[access.READS])
def models(services: App, user: User) -> Sequence[wire.ModelVersion]:
    """Return model versions, newest first. A model's `best` is the version with the best value of its metric, of those
    that are signed."""
    versions = _seen(services, user, services.models.versions())
    return sorted(versions, key=lambda one: one.created_at, reverse=True)


def _seen(services: Services, user: TokenInfo, versions: list[wire.ModelVersion]) -> list[wire.ModelVersion]:
    """Return the versions that the user may see: all, or those that its own jobs made."""
    if access.sees_all(services.settings, user):
        return versions
    mine = services.store.owned({version.job_id for version in versions if version.job_id is not None}, user.name)
    return [version for version in versions if version.job_id in mine]


@router.get("/models/mirror", summary="Where MLflow's registry says something else", dependencies=[access.READS])
async def mirror(services: App, user: User) -> wire.Mirror:
    """Return versions under the service's models that the service did not make, and aliases that are not on its
    best."""
    return await services.wait_for(lambda: _mirror(services, user))


def _mirror(services: Services, user: TokenInfo) -> wire.Mirror:
    uri = services.mlflow_uri()
    from service import registry  # mlflow: only when a call needs it

    seen = {version.name for version in _seen(services, user, services.models.versions())}
    known = [version for version in services.models.versions() if version.name in seen]
    return wire.Mirror(differences=tuple(registry.differences(uri, known)))


@router.get("/models/{name}/files", summary="A model version's files", dependencies=[access.READS])
async def model_files(
    name: Annotated[str, Path(pattern=rf"^{NAME}$")],
    services: App,
    user: User,
    version: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    alias: Annotated[str | None, Query(max_length=100, description="`best`, which is the default")] = None,
) -> wire.ModelFiles:
    """Return addresses that can be read without a key for an hour, and what the service signed of them."""
    if version is not None and alias is not None:
        raise UsageError(f"give a version or an alias, not both (version {version!r}, alias {alias!r})")
    if alias not in (None, BEST):
        raise NotFoundError(f"model {name!r} has no alias {alias!r}; there is {BEST!r}, and its versions")
    asked = Reference(name=name, version=version)
    return await services.wait_for(
        lambda: services.models.files(asked, lambda versions: _seen(services, user, versions))
    )
