"""The API's calls for numbers."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from service import access, wire
from service.access import User
from service.queue.used import By, Used

_error: dict[str, Any] = {"model": wire.ErrorReply, "description": "an error; `code` names its kind"}
router = APIRouter(tags=["figures"], responses={422: _error, "default": _error})
KEPT_SECONDS = 5.0  # whoever asks more often gets the same again: it costs a look at every job there ever was
LATEST = 1e11  # seconds since 1970
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_lock = threading.Lock()


@router.get(
    "/metrics",
    summary="The queue in Prometheus' format",
    dependencies=[access.READS],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text"}},
)
def metrics(request: Request) -> Response:
    """Return depth and waits, admissions, attempts, failures by cause, silence, use of the cluster, plans."""
    from service.figures.metrics import text

    state, store = request.app.state, request.app.state.services.store
    with _lock:
        kept = getattr(state, "metrics", None)
        if kept is None or time.monotonic() - kept[0] > KEPT_SECONDS:
            kept = state.metrics = (time.monotonic(), text(store.figures.now(), store.cluster()))
    return Response(kept[1], headers={"content-type": CONTENT_TYPE})


@router.get("/v1/usage", summary="What was used of the cluster", dependencies=[access.READS])
def usage(
    request: Request,
    user: User,
    since: Annotated[float, Query(ge=0, le=LATEST, description="seconds since 1970")],
    until: Annotated[float | None, Query(ge=0, le=LATEST, description="seconds since 1970; left out: now")] = None,
    by: Annotated[By, Query(description="whose: users, their groups, or jobs' labels")] = "user",
) -> Sequence[Used]:
    """Return GPU and CPU seconds that attempts have held, by user, group or label: of all jobs, or, as the service is
    set, the caller's."""
    services = request.app.state.services
    owner = None if access.sees_all(services.settings, user) else user.name
    used: list[Used] = services.store.figures.used(since=since, until=until, owner=owner, by=by)
    return used
