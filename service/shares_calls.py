"""An administrator's calls for groups and quotas: the part of `service.client.Client` that is about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import pydantic
from pydantic import TypeAdapter

from service.queue.share_records import Bounds, Group, GroupRequest, Kind, Quota

T = TypeVar("T")

_groups = TypeAdapter(list[Group])
_quotas = TypeAdapter(list[Quota])


class Http(Protocol):
    """One API, its token, and the rules for repeating."""

    def call(
        self,
        method: str,
        path: str,
        adapter: Callable[[bytes], T],
        *,
        body: pydantic.BaseModel | None = None,
        params: Mapping[str, Any] | None = None,
        repeatable: bool = True,
    ) -> T: ...


class SharesCalls:
    """Calls about groups and quotas. Removals are not repeated: what is gone is not found the second time."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def mine(self) -> list[Quota]:
        """Return the quotas that the caller is under."""
        return self._http.call("GET", "/v1/quota", _quotas.validate_json)

    def groups(self) -> list[Group]:
        """Return the groups with their usage; last the account of those who are in none."""
        return self._http.call("GET", "/v1/groups", _groups.validate_json)

    def set_group(self, group: str, weight: float) -> list[Group]:
        """Make a group, or give it another weight."""
        body = GroupRequest(weight=weight)
        return self._http.call("PUT", f"/v1/groups/{quote(group)}", _groups.validate_json, body=body)

    def remove_group(self, group: str) -> list[Group]:
        """Remove a group, its quota and its usage. Raises NotFoundError."""
        return self._http.call("DELETE", f"/v1/groups/{quote(group)}", _groups.validate_json, repeatable=False)

    def add_member(self, group: str, user: str) -> list[Group]:
        """Put a user into a group. Raises NotFoundError, ConflictError."""
        return self._http.call("PUT", _member(group, user), _groups.validate_json)

    def remove_member(self, group: str, user: str) -> list[Group]:
        """Take a user out of a group. Raises NotFoundError."""
        return self._http.call("DELETE", _member(group, user), _groups.validate_json, repeatable=False)

    def quotas(self) -> list[Quota]:
        """Return all quotas."""
        return self._http.call("GET", "/v1/quotas", _quotas.validate_json)

    def set_quota(self, kind: Kind, name: str, bounds: Bounds) -> Quota:
        """Make or replace a quota. Raises NotFoundError for a group that is not there."""
        return self._http.call("PUT", _quota(kind, name), Quota.model_validate_json, body=bounds)

    def remove_quota(self, kind: Kind, name: str) -> list[Quota]:
        """Remove a quota. Raises NotFoundError."""
        return self._http.call("DELETE", _quota(kind, name), _quotas.validate_json, repeatable=False)


def _member(group: str, user: str) -> str:
    return f"/v1/groups/{quote(group, safe='')}/members/{quote(user, safe='')}"


def _quota(kind: Kind, name: str) -> str:
    return f"/v1/quotas/{kind}/{quote(name, safe='')}"
