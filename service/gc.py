"""What goes from the bucket by policy: one place that says what, why, and how large; `vaesvc gc` and the dispatcher ask
it.

    logs          of attempts                        gc_log_seconds, gc_log_bytes
    checkpoints   of runs and of studies' trials     gc_checkpoint_seconds, gc_checkpoint_bytes
    pictures      and what else a job left           gc_job_seconds
    data sets     of users' own                      data_grace_seconds, data_job_grace_seconds (`service.data`)
    packages      of users' own code                 code_grace_seconds (`service.code`)

Ages are counted from a job's end; of what is too large in all, that of the jobs that ended first goes first. Nothing
goes of a job that is not over, or whose end has not been followed up; nor weights that a registered model was made of,
or that the spec of a job which is not over names. A registered model has files of its own, which never go. Jobs stay in
SQL with all that happened to them: the log of events is never shortened.

It may be stopped anywhere and run by several at once: weights are given up in SQL before they are deleted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from service import areas, signing
from service.code import housekeeping as packages
from service.data.housekeeping import sweep
from service.queue.collected import Ended
from service.queue.jobs import Record

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.queue.store import Store
    from service.settings import Settings

log = logging.getLogger("vaesvc.housekeeping")

What = Literal["log", "checkpoints", "pictures", "data set", "package"]
ROOTS: Mapping[What, tuple[str, ...]] = {
    "log": ("logs",), "checkpoints": ("checkpoints", "studies"), "pictures": ("pictures",),
}  # fmt: skip


class Item(Record):
    """Something that goes. name: a job's id, a digest. bytes: of all its files; ended_at: seconds since 1970."""

    what: What
    name: str
    files: int
    bytes: int
    ended_at: float | None = None
    why: str


@dataclass(frozen=True, kw_only=True)
class Policy:
    """seconds: by kind, after a job's end; bytes: by kind, in all. What is not in them stays."""

    seconds: Mapping[What, float] = field(default_factory=dict)
    bytes: Mapping[What, int] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Return the policy of the settings."""
        seconds: dict[What, float | None] = {
            "log": settings.gc_log_seconds, "checkpoints": settings.gc_checkpoint_seconds,
            "pictures": settings.gc_job_seconds,
        }  # fmt: skip
        sizes: dict[What, int | None] = {"log": settings.gc_log_bytes, "checkpoints": settings.gc_checkpoint_bytes}
        return cls(
            seconds={what: value for what, value in seconds.items() if value is not None},
            bytes={what: value for what, value in sizes.items() if value is not None},
        )

    @property
    def kinds(self) -> list[What]:
        """Return the kinds of things of which something may go."""
        return [what for what in ROOTS if what in self.seconds or what in self.bytes]


@dataclass(frozen=True, kw_only=True)
class _Left:
    """What a job left of one kind."""

    job: Ended
    files: int
    bytes: int


def planned(store: Store, artifacts: Artifacts, policy: Policy, now: float | None = None) -> Iterator[Item]:
    """Yield what jobs left behind and goes by the policy, each kind's oldest first."""
    at = time.time() if now is None else now
    wanted = store.collected.wanted() | _of_models(store) if "checkpoints" in policy.kinds else set()
    for what in policy.kinds:
        left, others = _left(store, artifacts, what, wanted)
        yield from _chosen(what, left, others, policy, at)


def _left(store: Store, artifacts: Artifacts, what: What, wanted: set[str]) -> tuple[list[_Left], int]:
    """Return what ended jobs left of a kind, the first to end first, and the bytes of all that has to stay."""
    files: dict[str, int] = {}
    sizes: dict[str, int] = {}
    kept: set[str] = set()
    for root in ROOTS[what]:
        place = artifacts.uri(root)
        for entry in artifacts.list(place):
            job_id = entry.uri.removeprefix(f"{place}/").partition("/")[0]
            files[job_id] = files.get(job_id, 0) + 1
            sizes[job_id] = sizes.get(job_id, 0) + entry.bytes
        kept |= {uri.removeprefix(f"{place}/").partition("/")[0] for uri in wanted if uri.startswith(f"{place}/")}
    ended = store.collected.ended(files)
    gone = [
        _Left(job=ended[job_id], files=files[job_id], bytes=sizes[job_id])
        for job_id in files
        if job_id in ended and job_id not in kept
    ]
    gone.sort(key=lambda each: (each.job.ended_at, each.job.job_id))
    return gone, sum(sizes.values()) - sum(each.bytes for each in gone)


def _chosen(what: What, left: Sequence[_Left], others: int, policy: Policy, now: float) -> Iterator[Item]:
    """Yield those that are too old, and of the rest the oldest while all together are too large."""
    total = others + sum(each.bytes for each in left)
    for each in left:
        age = now - each.job.ended_at
        why = None
        if what in policy.seconds and age > policy.seconds[what]:
            why = f"the job ended {age / 86_400:.1f} days ago; kept {policy.seconds[what] / 86_400:g}"
        elif what in policy.bytes and total > policy.bytes[what]:
            why = f"{total / 2**20:,.1f} MiB in all; kept {policy.bytes[what] / 2**20:,.1f}"
        if why is not None:
            total -= each.bytes
            yield Item(
                what=what, name=each.job.job_id, files=each.files, bytes=each.bytes, ended_at=each.job.ended_at, why=why
            )


def _of_models(store: Store) -> set[str]:
    """Return the checkpoints that signed statements name: read, not verified; what is kept too long does no harm."""
    statements = (signing.payload(row.envelope) for row in store.model_versions())
    return {str(each["checkpoint"]).rstrip("/") for each in statements if each.get("checkpoint")}


def collect(store: Store, artifacts: Artifacts, items: Iterable[Item]) -> list[Item]:
    """Remove what jobs left; return what went. A job that is in the line again meanwhile keeps what it has."""
    gone = []
    for item in items:
        if store.collected.give_up(item.name, item.what, item.bytes, weights=item.what == "checkpoints"):
            for root in ROOTS[item.what]:
                artifacts.delete_prefix(areas.Area(artifacts, root, item.name).uri)
            log.info("removed %s of job %s (%d bytes): %s", item.what, item.name, item.bytes, item.why)
            gone.append(item)
    return gone


def unneeded(store: Store, artifacts: Artifacts, settings: Settings) -> Iterator[Item]:
    """Yield the data sets and packages of users' own that nothing needs."""
    for digest in store.data.unneeded(settings.data_grace_seconds, settings.data_job_grace_seconds):
        stored = store.data.stored(digest)
        if stored is not None:
            yield Item(
                what="data set", name=digest, files=stored.files, bytes=stored.bytes,
                why="no name, no job and no model needs it",
            )  # fmt: skip
    for digest, size in packages.unneeded(store, artifacts, settings.code_grace_seconds):
        yield Item(what="package", name=digest, files=1, bytes=size, why="no job and no model needs it")


def turn(store: Store, artifacts: Artifacts, settings: Settings, *, note: Callable[[Item], None] | None = None) -> None:
    """Do all of it once. note: gets each thing that goes."""
    if note is not None:
        for item in unneeded(store, artifacts, settings):
            note(item)
    sweep(store.data, artifacts, settings.data_grace_seconds, settings.data_job_grace_seconds)
    packages.sweep(store, artifacts, settings.code_grace_seconds)
    for item in collect(store, artifacts, list(planned(store, artifacts, Policy.of(settings)))):
        if note is not None:
            note(item)
