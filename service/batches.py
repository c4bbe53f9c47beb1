"""Specs as they come with a call, read and checked: one, or many, some at a time and equal ones once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from service import access
from service.errors import VaesvcError
from service.order import routes as order

if TYPE_CHECKING:
    from service import wire
    from service.queue.jobs import TokenInfo
    from service.services import Services
    from service.specs.job import JobSpec

TOGETHER = 25  # specs that are read in one go: others wait for their turn as long as for one that is large


def read(given: Mapping[str, Any], services: Services, user: TokenInfo) -> JobSpec:
    """Return the resolved spec, of which the user may make a job."""
    spec = services.resolved(given, user)
    access.may_submit(spec, user, services.store.shares)
    order.check(spec, services, user)
    return spec


async def resolved(
    requests: Sequence[wire.SubmitRequest],
    services: Services,
    user: TokenInfo,
    check: Callable[[JobSpec], Awaitable[None]],
) -> list[tuple[JobSpec, str | None]]:
    """Return the resolved specs, of which the user may make jobs, each with its key. An error says which of them it is
    about. check: what else is checked of each."""
    specs: list[JobSpec] = []
    known: dict[str, JobSpec] = {}  # by their text
    for start in range(0, len(requests), TOGETHER):
        some = requests[start : start + TOGETHER]
        several = await services.read_specs(partial(_read_several, some, start, len(requests), known, services, user))
        for index, spec in enumerate(several, start=start + 1):
            with _of_several(index, len(requests)):
                await check(spec)
        specs += several
    return list(zip(specs, (request.key for request in requests), strict=True))


def _read_several(
    requests: Sequence[wire.SubmitRequest],
    start: int,
    count: int,
    known: dict[str, JobSpec],
    services: Services,
    user: TokenInfo,
) -> list[JobSpec]:
    """Return the specs of some of `count` requests, from index `start` on. known: those read before, to be added to."""
    specs = []
    for index, request in enumerate(requests, start=start + 1):
        text = json.dumps(request.spec, sort_keys=True)
        if text not in known:
            with _of_several(index, count):
                known[text] = read(request.spec, services, user)
        specs.append(known[text])
    return specs


@contextmanager
def _of_several(index: int, count: int) -> Iterator[None]:
    """Say in an error which of the specs it is about."""
    try:
        yield
    except VaesvcError as error:
        raise type(error)(f"spec {index} of {count}: {error}") from error
