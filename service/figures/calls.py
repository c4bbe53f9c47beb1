"""The calls for numbers: the part of `service.client.Client` that is about them."""

from __future__ import annotations

from pydantic import TypeAdapter

from service.data.calls import Http
from service.queue.used import By, Used

_used = TypeAdapter(list[Used])


class FigureCalls:
    def __init__(self, http: Http) -> None:
        self._http = http

    def usage(self, *, since: float, until: float | None = None, by: By = "user") -> list[Used]:
        """Return what was used of the cluster between two moments (seconds since 1970; until: now), by user, group or
        label."""
        params = {"since": since, "until": until, "by": by}
        return self._http.call("GET", "/v1/usage", _used.validate_json, params=params)
