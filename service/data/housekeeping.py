"""What nothing needs goes from the bucket, after its grace. May be stopped anywhere, and run by several at a time."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from service import areas
from service.queue.data_needs import JOB_GRACE_SECONDS, UPLOAD_GRACE_SECONDS
from service.queue.data_sets import DataSets

if TYPE_CHECKING:
    from service.artifacts import Artifacts

log = logging.getLogger("vaesvc.housekeeping")


def sweep(
    sets: DataSets, artifacts: Artifacts, grace_seconds: float, job_grace_seconds: float = JOB_GRACE_SECONDS
) -> None:
    """Remove the sets that no name, no job and no model has needed for the grace, and files that belong to no set.

    A set is marked first, so that nobody begins to need it; its files go, then its row: whoever is stopped in between
    leaves the mark, and the next one goes on.
    """
    for digest in sets.unneeded(grace_seconds, job_grace_seconds):
        if sets.begin_removal(digest, grace_seconds, job_grace_seconds):
            files = artifacts.delete_prefix(areas.DataArea(artifacts, digest).uri)
            sets.end_removal(digest)
            log.info("removed the data set %s (%d files): no name, no job and no model needs it", digest, files)
    _sweep_strays(sets, artifacts, max(grace_seconds, UPLOAD_GRACE_SECONDS))


def _sweep_strays(sets: DataSets, artifacts: Artifacts, grace_seconds: float) -> None:
    """Remove files below an unknown digest: sent to a signed address after their set had been removed."""
    root = artifacts.uri(areas.DATA)
    newest: dict[str, float] = {}
    for entry in artifacts.list(root):
        digest = entry.uri.removeprefix(f"{root}/").partition("/")[0]
        newest[digest] = max(newest.get(digest, 0.0), entry.modified_at)
    old = {digest for digest, at in newest.items() if at < time.time() - grace_seconds}
    for digest in sorted(old - sets.known(old)):
        artifacts.delete_prefix(f"{root}/{digest}")
        log.info("removed files of %s, which no data set has", digest)
