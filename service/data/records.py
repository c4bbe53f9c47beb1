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
