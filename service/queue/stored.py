"""What lies in the bucket for somebody, in bytes, as SQL knows it: of what a quota of storage counts.

    checkpoints   that are kept, of the jobs that somebody owns; what retention or policy gave up does not count
    models        registered versions of these jobs: all files
    data          sets that somebody brought first: from the first word of an upload until the files are removed

Trials' checkpoints, logs, pictures and packages of own code are not counted: SQL does not know their sizes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

import sqlalchemy as sa

from service.data.records import SetState
from service.quantities import size
from service.queue.jobs import Record
from service.queue.rows import Clocked
from service.queue.schema import checkpoints, data_sets, jobs, model_versions

KINDS = ("checkpoints", "models", "data")
RARELY = 20.0  # times as long as it took to find out what is stored, until it is found out anew for a plan


class Stored(Record):
    """Bytes, by what they are."""

    checkpoints: int = 0
    models: int = 0
    data: int = 0

    @property
    def total(self) -> int:
        return self.checkpoints + self.models + self.data


def by_owner(work: Clocked, owners: Collection[str] | None = None) -> dict[str, Stored]:
    """Return what is stored of each of these owners, or of all: those of whom nothing is are left out."""
    taken_by: dict[str, dict[str, int]] = {}
    kept = sa.select(jobs.c.owner, checkpoints.c.bytes).join(checkpoints, checkpoints.c.job_id == jobs.c.id)
    registered = sa.select(jobs.c.owner, model_versions.c.bytes).join(
        model_versions, model_versions.c.job_id == jobs.c.id
    )
    brought = sa.select(data_sets.c.owner, data_sets.c.bytes).where(data_sets.c.state != SetState.REMOVING.value)
    for kind, query in zip(KINDS, (kept.where(checkpoints.c.given_up_for.is_(None)), registered, brought), strict=True):
        rows = query.subquery()
        summed = sa.select(rows.c.owner, sa.func.sum(rows.c.bytes)).group_by(rows.c.owner)
        if owners is not None:
            summed = summed.where(rows.c.owner.in_(sorted(owners)))
        for owner, taken in work.connection.execute(summed):
            taken_by.setdefault(owner, {})[kind] = int(taken or 0)
    return {owner: Stored(**sizes) for owner, sizes in taken_by.items()}


Sizes = Callable[[Clocked, Collection[str]], Mapping[str, Stored]]  # `by_owner`, or `Lately`


class Lately:
    """What is stored, as it was found out a moment ago: of many thousand jobs that takes long, and whoever finds it out
    for a plan holds the admission lock."""

    def __init__(self) -> None:
        self._owners: frozenset[str] = frozenset()
        self._sizes: Mapping[str, Stored] = {}
        self._until = 0.0

    def __call__(self, work: Clocked, owners: Collection[str]) -> Mapping[str, Stored]:
        begin = time.monotonic()
        if begin >= self._until or not self._owners.issuperset(owners):
            self._owners, self._sizes = frozenset(owners), by_owner(work, owners)
            end = time.monotonic()
            self._until = end + RARELY * (end - begin)
        return self._sizes


def together(each: Collection[Stored]) -> Stored:
    """Return the sum."""
    return Stored(**{kind: sum(getattr(stored, kind) for stored in each) for kind in KINDS})


def refusal(whose: str, most: int, stored: Stored, more: int) -> str | None:
    """Return why a submission, or an upload of so many bytes more, goes beyond a quota; None where it does not.

    A submission asks for nothing, and is refused from where the quota is used up.
    """
    if (stored.total + more <= most) if more else (stored.total < most):
        return None
    parts = ", ".join(f"{kind} {size(getattr(stored, kind))}" for kind in KINDS)
    asked = f", and the upload has {size(more)} more" if more else ""
    return (
        f"the quota of {whose} is {size(most)} of storage, and {size(stored.total)} are used ({parts}){asked}. To free "
        "some: `vaesvc data rm NAME` (files go when nothing needs them any more), checkpoints of jobs that are over "
        "by policy (an administrator's `vaesvc gc` and the settings gc_checkpoint_seconds, gc_checkpoint_bytes)"
    )
