"""Data sets in the service, for the commands on them: sent, listed, looked at, removed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import quantities
from service.cli import connect, output

if TYPE_CHECKING:
    from service import wire
    from service.client import Client
    from service.data.records import Kept, KeptSet, NamedSet
    from vae_models.data.stored import StoredSet

HEADER = ("name", "digest", "shape", "support", "train/val/test [data]", "size", "owner", "age [h:mm:ss]", "kept for")


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
    """Print the names that the user sees, then the sets that are kept without one, and why each is."""
    with connect.client() as client:
        pointers, stored = client.data.names(), client.data.kept()
    reasons = {each.digest: each.kept for each in stored}
    without_name = [each for each in stored if each.digest not in {named.digest for named in pointers}]
    if json:
        plain = [{**each.model_dump(mode="json"), "kept": reasons.get(each.digest)} for each in pointers]
        output.as_json([*plain, *({"name": None, **each.model_dump(mode="json")} for each in without_name)])
        return
    rows = [(each.name, *_columns(each, each.moved_at), why(reasons.get(each.digest), each.name)) for each in pointers]
    output.table(HEADER, [*rows, *(("-", *_columns(each, each.created_at), why(each.kept)) for each in without_name)])


def _columns(each: NamedSet | KeptSet, since: float) -> tuple[str, ...]:
    facts = each.facts
    return (
        each.digest[:12],
        "x".join(map(str, facts.shape)),
        facts.support,
        "/".join(f"{size:,}" for size in facts.sizes),
        quantities.size(each.bytes),
        each.owner,
        output.since(since),
    )


def why(kept: Kept | None, name: str | None = None) -> str:
    """Return why a set is kept, for example `the name, 2 models (photos-vae/2), 3 jobs (01K...)`.

    name: the one that is talked of. A model or job in parentheses is the newest.
    """
    if kept is None:  # a set that came between the two answers
        return "the name"
    if kept.until is not None:
        return f"nothing needs it: goes after {output.moment(kept.until)}"
    others = [f"the name {each}" for each in kept.names if each != name]
    parts = [*(["the name"] if name is not None else []), *others]
    parts += _counted(kept.models, "model", kept.last_model) + _counted(kept.jobs, "job", kept.last_job)
    return ", ".join(parts) or "another user's name, model or job"


def _counted(number: int, noun: str, newest: str | None) -> list[str]:
    return [f"{number:,} {noun}{'' if number == 1 else 's'} ({newest})"] if number else []


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
