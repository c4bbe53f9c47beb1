"""A user's calls about nodes: the part of `service.client.Client` that is about them. Every one may be repeated."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import TypeAdapter

from service.data.calls import Http
from service.queue.node_records import DrainRequest, Node

_nodes = TypeAdapter(list[Node])


class NodeCalls:
    """Nodes are named by Ray's id, the beginning of one, or an address.

    Changes raise NotFoundError, ConflictError for a beginning of several ids, ForbiddenError for whoever is no
    operator.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    def all(self) -> list[Node]:
        """Return the cluster's nodes as the dispatcher saw them last."""
        return self._http.call("GET", "/v1/nodes", _nodes.validate_json)

    def drain(self, node: str, *, because: str = "", until: float | None = None) -> list[Node]:
        """Let nothing run on the node's machine until it is resumed, or until then (seconds since 1970); return its
        nodes. Raises UsageError for a moment that has passed."""
        body = DrainRequest(because=because, until=until)
        return self._http.call("POST", f"/v1/nodes/{quote(node, safe='')}/drain", _nodes.validate_json, body=body)

    def resume(self, node: str) -> list[Node]:
        """Let things run on the node's machine again; return its nodes."""
        return self._http.call("POST", f"/v1/nodes/{quote(node, safe='')}/resume", _nodes.validate_json)
