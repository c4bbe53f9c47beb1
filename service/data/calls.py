"""A user's calls for data sets: the part of `service.client.Client` that is about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import pydantic
from pydantic import TypeAdapter

from service import wire
from service.data.records import KeptSet, NamedSet

T = TypeVar("T")

_names = TypeAdapter(list[NamedSet])
_kept = TypeAdapter(list[KeptSet])


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
        read_seconds: float | None = None,
    ) -> T: ...


class DataCalls:
    """A user's calls about data sets. Every one may be repeated: reads change nothing, writes name the digest they are
    about."""

    def __init__(self, http: Http, slow_seconds: float) -> None:
        self._http = http
        self._slow_seconds = slow_seconds  # for calls that wait on the storage

    def missing(self, digest: str, data: str) -> wire.DataMissing:
        """Return where the first files go that are not stored. data: the text of data.json. Raises UsageError."""
        request = wire.DataUpload(digest=digest, data=data)
        adapter = wire.DataMissing.model_validate_json
        return self._http.call("POST", "/v1/data/uploads", adapter, body=request, read_seconds=self._slow_seconds)

    def point(self, name: str, digest: str, data: str | None = None) -> NamedSet:
        """Let the name point to the set, whole by now. Raises ForbiddenError, ConflictError, NotFoundError."""
        request = wire.DataPoint(digest=digest, data=data)
        adapter = NamedSet.model_validate_json
        return self._http.call("PUT", _path(name), adapter, body=request, read_seconds=self._slow_seconds)

    def names(self) -> list[NamedSet]:
        """Return every name that the user sees, by name."""
        return self._http.call("GET", "/v1/data", _names.validate_json)

    def kept(self) -> list[KeptSet]:
        """Return every set that the user sees, with a name or without, oldest first, and why each is kept."""
        return self._http.call("GET", "/v1/data-sets", _kept.validate_json)

    def detail(self, name: str) -> wire.DataDetail:
        """Return all that is known of what the name points to. Raises NotFoundError with the nearest names."""
        return self._http.call("GET", _path(name), wire.DataDetail.model_validate_json)

    def files(self, name: str) -> wire.DataFiles:
        """Return addresses to read the files from for an hour. Raises NotFoundError."""
        adapter = wire.DataFiles.model_validate_json
        return self._http.call("GET", f"{_path(name)}/files", adapter, read_seconds=self._slow_seconds)

    def remove(self, name: str, digest: str) -> wire.DataRemoved:
        """Take the name away, which points to the digest. Raises NotFoundError, ForbiddenError, ConflictError."""
        adapter = wire.DataRemoved.model_validate_json
        return self._http.call("DELETE", _path(name), adapter, params={"digest": digest})


def _path(name: str) -> str:
    return f"/v1/data/{quote(name, safe='')}"
