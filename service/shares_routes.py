"""The API's calls for groups and quotas: an administrator's, and of everybody what they are under themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path

from service import access, wire
from service.access import User
from service.queue.share_records import NAME, OWNER, Bounds, Group, GroupRequest, Kind, Quota
from service.services import App

_error: dict[str, Any] = {"model": wire.ErrorReply, "description": "an error; `code` names its kind"}
_errors: dict[int | str, dict[str, Any]] = {422: _error, "default": _error}
administrators = APIRouter(prefix="/v1", tags=["shares"], dependencies=[access.ADMINISTERS], responses=_errors)
users = APIRouter(prefix="/v1", tags=["shares"], dependencies=[access.READS], responses=_errors)

GroupName = Annotated[str, Path(pattern=NAME, description="the group's name")]
UserName = Annotated[str, Path(pattern=NAME, description="a token's name")]
Owner = Annotated[str, Path(pattern=OWNER, description="a user or a group; user *: whoever has none of their own")]


@users.get("/quota", summary="The caller's quotas")
def quota(services: App, user: User) -> Sequence[Quota]:
    """Return the quotas that the caller is under: their own first, then their group's."""
    return services.store.shares.of_user(user.name)


@administrators.get("/groups", summary="Groups, their weights and what they used")
def groups(services: App) -> Sequence[Group]:
    """Return the groups, by name; last the account of those who are in none, whose name is empty."""
    return services.store.shares.groups()


@administrators.put("/groups/{group}", summary="Make a group, or give it another weight")
def set_group(group: GroupName, request: GroupRequest, services: App) -> Sequence[Group]:
    services.store.shares.set_group(group, request.weight)
    return services.store.shares.groups()


@administrators.delete("/groups/{group}", summary="Remove a group")
def remove_group(group: GroupName, services: App) -> Sequence[Group]:
    """Remove the group with its quota and its usage. Its users are in none from now on."""
    services.store.shares.remove_group(group)
    return services.store.shares.groups()


@administrators.put("/groups/{group}/members/{user}", summary="Put a user into a group")
def add_member(group: GroupName, user: UserName, services: App) -> Sequence[Group]:
    """Put the user into the group; of another one they must have been taken out before. Idempotent."""
    services.store.shares.add_member(group, user)
    return services.store.shares.groups()


@administrators.delete("/groups/{group}/members/{user}", summary="Take a user out of a group")
def remove_member(group: GroupName, user: UserName, services: App) -> Sequence[Group]:
    services.store.shares.remove_member(group, user)
    return services.store.shares.groups()


@administrators.get("/quotas", summary="All quotas")
def quotas(services: App) -> Sequence[Quota]:
    return services.store.shares.quotas()


@administrators.put("/quotas/{kind}/{name}", summary="Make or replace a quota")
def set_quota(kind: Kind, name: Owner, request: Bounds, services: App) -> Quota:
    """Replace the quota: what it does not name has no limit. What runs goes on; what waits, waits for it."""
    return services.store.shares.set_quota(kind, name, request)


@administrators.delete("/quotas/{kind}/{name}", summary="Remove a quota")
def remove_quota(kind: Kind, name: Owner, services: App) -> Sequence[Quota]:
    services.store.shares.remove_quota(kind, name)
    return services.store.shares.quotas()
