"""Data sets in the service, for the commands on them: sent, listed, looked at, removed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cli import connect, output

if TYPE_CHECKING:
    from service import wire
    from service.client import Client
    from service.data.records import NamedSet
    from vae_models.data.stored import StoredSet

HEADER = ("name", "digest", "shape", "support", "train/val/test [data]", "size", "owner", "age [h:mm:ss]")


def configured() -> bool:
    """Return whether the settings name a service."""
    from service import settings

    return settings.load().api_url is not None


def check(name: str) -> None:
    """Refuse before anything is decoded what the service would refuse in the end: a published name, or another's.

    Raises UsageError, ForbiddenError.
    """
    from service.data import names
    from service.errors import ForbiddenError

    names.check_free(name)
    with connect.client() as client:
        me = client.identity()
        theirs = [named.owner for named in client.data.names() if named.name == name and named.owner != me.owner]
    if theirs and me.role != "admin":
        raise ForbiddenError(
            f"the data set's name {name} is {theirs[0]}'s, and you are {me.owner}: choose another name"
        )


def send(made: StoredSet, name: str, cache_dir: Path) -> NamedSet:
    """Send a set to the service and let `name` point to it; its copy here may be evicted from then on."""
    from service.data.upload import upload
    from vae_models.data import own
    from vae_models.data.progress import StderrProgress

    with connect.client() as client:
        named = upload(made.folder, name, client, StderrProgress())
    mark = own.folder(cache_dir) / ".fetched" / made.digest  # as if it had been fetched: it can be
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return named


def names(*, json: bool) -> None:
    """Print the names that the user sees."""
    with connect.client() as client:
        pointers = client.data.names()
    if json:
        output.as_json(pointers)
        return
    output.table(HEADER, [_row(named) for named in pointers])


def _row(named: NamedSet) -> tuple[str, ...]:
    facts = named.facts
    return (
        named.name,
        named.digest[:12],
        "x".join(map(str, facts.shape)),
        facts.support,
        "/".join(f"{size:,}" for size in facts.sizes),
        output.size(named.bytes),
        named.owner,
        output.since(named.moved_at),
    )


def look(name: str, cache_dir: Path, scratch: Path) -> tuple[wire.DataDetail, StoredSet | None]:
    """Return what is known of a name, and data to draw: of the set in the cache, else a few from the bucket.

    Of tokens alone there are none. Raises NotFoundError with the nearest names.
    """
    with connect.client() as client:
        detail = client.data.detail(name)
        return detail, _here(detail.data.digest, cache_dir) or _few(client, name, scratch)


def _here(digest: str, cache_dir: Path) -> StoredSet | None:
    from vae_models.data import own, stored
    from vae_models.data.errors import DataError

    try:
        return stored.read(own.folder(cache_dir) / digest, digest=digest)
    except DataError:
        return None


def _few(client: Client, name: str, scratch: Path) -> StoredSet:
    from service.data.sample import sample

    return sample(client.data.files(name), Path(tempfile.mkdtemp(dir=scratch)))


def remove(name: str, *, json: bool) -> None:
    """Take a name away, and say that jobs hold the digest and run all the same."""
    with connect.client() as client:
        detail = client.data.detail(name)
        removed = client.data.remove(name, detail.data.digest)
    if json:
        output.as_json(removed)
        return
    output.note(f"Removed the name {name}, which pointed to {removed.digest[:12]}.")
    if removed.jobs:
        shown = ", ".join(removed.jobs[:5]) + (f" and {len(removed.jobs) - 5} more" if len(removed.jobs) > 5 else "")
        output.note(
            f"Jobs that are not over hold its digest and run all the same: {shown}. Cancel them if that is wrong."
        )
    output.note("Its files go when no name, no job of the last weeks and no registered model needs them any more.")


def next_commands(name: str, facts: Any) -> str:
    """Return what to do with a set that has been added."""
    recipe = "celeba/sigma-vae-optimal" if facts.image else "RECIPE"
    return f"Train on it: vaesvc submit {recipe} --data {name}"
