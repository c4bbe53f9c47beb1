"""A user's calls for what they want to be told: the part of `service.client.Client` that is about it."""

from __future__ import annotations

from pydantic import TypeAdapter

from service import wire
from service.data.calls import Http
from service.queue.notice import Subscription

_all = TypeAdapter(list[Subscription])
_PATH = "/v1/notifications"


class NoticeCalls:
    """Calls about notices. Every one but `try_out` may be repeated."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def all(self) -> list[Subscription]:
        """Return the caller's subscriptions."""
        return self._http.call("GET", _PATH, _all.validate_json)

    def add(self, asked: wire.NoticeRequest, *, job: str | None = None) -> wire.SubscriptionReply:
        """Be told of a job, or of all of one's own. Raises UsageError for an address that cannot be."""
        adapter = wire.SubscriptionReply.model_validate_json
        return self._http.call("POST", _PATH, adapter, body=asked, params={"job": job})

    def remove(self, subscription: str) -> wire.SubscriptionReply:
        """Be told no more. Raises NotFoundError."""
        return self._http.call("DELETE", f"{_PATH}/{subscription}", wire.SubscriptionReply.model_validate_json)

    def try_out(self, subscription: str) -> str:
        """Let a trial message be sent, and return its id. Raises NotFoundError."""
        return self._http.call("POST", f"{_PATH}/{subscription}/try", wire.Trial.model_validate_json).id
