"""Packages that nobody needs any more go from the bucket, after a grace."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from service import signing
from service.code.storage import PLACE

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.queue.store import Store

log = logging.getLogger("vaesvc.housekeeping")

YOUNGEST_SECONDS = 3600.0  # one that was just brought belongs to a job that is about to be submitted


def sweep(store: Store, artifacts: Artifacts, grace_seconds: float, now: Callable[[], float] = time.time) -> list[str]:
    """Delete the packages that no job has needed for so long and no registered model needs. Return their digests."""
    gone: list[str] = []
    for digest, _ in unneeded(store, artifacts, grace_seconds, now):
        artifacts.delete_prefix(f"{artifacts.uri(PLACE)}/{digest}")
        log.info("deleted the package %s, which no job and no model needs", digest)
        gone.append(digest)
    return gone


def unneeded(
    store: Store, artifacts: Artifacts, grace_seconds: float, now: Callable[[], float] = time.time
) -> Iterator[tuple[str, int]]:
    """Yield the packages that no job has needed for so long and no registered model needs: digest and bytes.

    A job needs its package until it is over, and may be tried again; a model needs it as long as it is registered.
    """
    of_models: set[str] | None = None
    for item in artifacts.list(artifacts.uri(PLACE)):
        digest = item.uri.split("/")[-2]
        age = now() - item.modified_at
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or age < max(grace_seconds, YOUNGEST_SECONDS):
            continue
        if store.needs_package(digest, now() - grace_seconds):
            continue
        if of_models is None:
            of_models = _of_models(store)
        if digest not in of_models:
            yield digest, item.bytes


def _of_models(store: Store) -> set[str]:
    """Return the packages that signed statements name: read, not verified: what is kept too long does no harm."""
    statements = (signing.payload(row.envelope) for row in store.model_versions())
    codes = (statement.get("code") for statement in statements)
    return {str(code["digest"]) for code in codes if isinstance(code, dict)}
