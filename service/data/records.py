"""Data sets of users' own, as the queue keeps them and the API tells of them."""

from __future__ import annotations

from enum import StrEnum

from service.queue.jobs import Record
from vae_models.data.spec import DataSpec

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # of a data set


class SetState(StrEnum):
    UPLOADING = "uploading"
    COMPLETE = "complete"
    REMOVING = "removing"


class StoredSet(Record):
    """A set in the bucket. manifest: data.json's text. bytes, files: of all but data.json."""

    digest: str
    owner: str
    state: SetState
    manifest: str
    facts: DataSpec
    bytes: int
    files: int
    created_at: float
    touched_at: float


class NamedSet(Record):
    """A name, whose it is, and the set that it points to. bytes, files: of the set, but for data.json."""

    name: str
    digest: str
    owner: str
    facts: DataSpec
    bytes: int
    files: int
    created_at: float
    moved_at: float


class Move(Record):
    """A change of a name. digest: where it points from then on; none: it was removed. previous: where it pointed; none:
    nowhere."""

    name: str
    digest: str | None
    previous: str | None
    by: str
    at: float


class Kept(Record):
    """Why a set is kept. Where users see their own alone, names, models and jobs are the caller's.

    names:  that point to it
    models: number of registered models of jobs that were trained on it; last_model: the newest, NAME/VERSION
    jobs:   number of jobs with it that are not over, or that ended so lately that they can be gone on with; last_job:
            the newest
    until:  nothing at all needs it, and from this moment on it is removed, seconds since 1970; none: something does
    """

    names: tuple[str, ...]
    models: int
    last_model: str | None
    jobs: int
    last_job: str | None
    until: float | None


class KeptSet(Record):
    """A complete set in the bucket, with a name or without, and why it is kept. bytes, files: but for data.json."""

    digest: str
    owner: str
    facts: DataSpec
    bytes: int
    files: int
    created_at: float
    kept: Kept
