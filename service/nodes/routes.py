"""The API's calls for nodes: everybody sees them, operators drain and resume them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request

from service import access, wire
from service.access import User
from service.auditing import about
from service.queue.jobs import TokenInfo
from service.queue.node_records import NODE, DrainRequest, Node
from service.services import App, Services

_error: dict[str, Any] = {"model": wire.ErrorReply, "description": "an error; `code` names its kind"}
router = APIRouter(prefix="/v1/nodes", tags=["nodes"], responses={422: _error, "default": _error})
Name = Annotated[str, Path(pattern=NODE, description="Ray's id of it, the beginning of one, or its address")]


@router.get("", summary="The cluster's nodes", dependencies=[access.READS])
def nodes(services: App, user: User) -> Sequence[Node]:
    """Return the nodes as the dispatcher saw them last: the head first, those that are gone last. Whose attempts run
    there: everybody's, or, as the service is set, the caller's own."""
    return _seen_by(services, user, services.store.nodes.all())


@router.post("/{node}/drain", summary="Let nothing run on a node", dependencies=[access.OPERATES])
def drain(node: Name, request: DrainRequest, services: App, user: User, call: Request) -> Sequence[Node]:
    """Let nothing start on the node's machine, and what runs there checkpoint and go on elsewhere, at no cost, until it
    is resumed or the maintenance ends. A machine that comes back under another id is drained still. Asking again is
    harmless; another reason or end takes the place of the one before."""
    drained = services.store.nodes.drain(node, by=user.name, because=request.because, until=request.until)
    about(call, drained[0].address)  # by which all acts about the machine are found
    return drained


@router.post("/{node}/resume", summary="Let things run on a node again", dependencies=[access.OPERATES])
def resume(node: Name, services: App, call: Request) -> Sequence[Node]:
    """End the drain of the node's machine; asking again is harmless. A drain of Ray's own is not ended."""
    resumed = services.store.nodes.resume(node)
    about(call, resumed[0].address)
    return resumed


def _seen_by(services: Services, user: TokenInfo, nodes: Sequence[Node]) -> Sequence[Node]:
    if access.sees_all(services.settings, user):
        return nodes
    named = {name for node in nodes for name in (*node.attempts, *node.undecided)}
    own = services.store.owned({_job(name) for name in named}, user.name)
    return [
        node.model_copy(
            update={
                "attempts": tuple(name for name in node.attempts if _job(name) in own),
                "undecided": tuple(name for name in node.undecided if _job(name) in own),
            }
        )
        for node in nodes
    ]


def _job(name: str) -> str:
    """Return the job of an attempt, by the attempt's name in Ray."""
    return name.rpartition("-")[0]
