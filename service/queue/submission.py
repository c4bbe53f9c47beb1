"""Into the line: jobs of specs, one or many in the same statements. Called by the store, inside its transactions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service import kinds
from service.errors import ConflictError, ImpossibleError
from service.queue import admission, arrays, audit, data_sets, dependencies, inserting, limits, line, shares
from service.queue.acts import Act
from service.queue.ids import TICKS_PER_SECOND, new_job_id
from service.queue.jobs import JobState, Resources, canonical
from service.queue.policy import Policy
from service.queue.rows import Clocked
from service.queue.schema import Canonical, jobs
from service.specs.job import JobSpec, TimeLimits

_KEYS = sa.select(jobs.c.id, jobs.c.key, jobs.c.name, jobs.c.spec_sha256).where(
    jobs.c.owner == sa.bindparam("of_owner"), jobs.c.key.in_(sa.bindparam("keys", expanding=True))
)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job to be. sha256: digest of its spec. row: of the table, without what the moment decides (id, times) and the
    key; texts: those of its columns that are JSON, as they are kept. sets: digests of the data sets that it needs. act:
    of the audit log, which is written with the job, that it is about."""

    owner: str
    spec: JobSpec
    sha256: str
    row: Mapping[str, Any]
    texts: Mapping[str, Canonical]
    sets: frozenset[str]
    key: str | None
    act: Act | None = None

    @property
    def named(self) -> Key | None:
        """Return what it is the same job by; None: by nothing."""
        return None if self.key is None else (self.owner, self.key)

    @property
    def alone(self) -> bool:
        """Return whether it locks nothing that others hold, but its key and data sets: no job, and no array."""
        return not self.spec.after and self.spec.array is None

    @property
    def plain(self) -> bool:
        """Return whether nothing is written with it but its row, its event and its act."""
        return self.alone and not self.sets and not self.spec.labels and self.spec.limits == TimeLimits()

    @classmethod
    def of(cls, spec: JobSpec, owner: str, key: str | None = None, act: Act | None = None) -> Submission:
        """Return the submission of a spec: what costs time is done here, outside of any transaction."""
        whole = spec.model_dump(mode="json")
        values = {
            "spec": _kept(whole),
            "resources": _of_gang(spec.resources),
            "policy": _of_policy(kinds.policy(spec)),
            "progress": _NOTHING,
            "result": _NOTHING,
        }
        texts = {name: text for name, (_, text) in values.items()}
        sha256 = hashlib.sha256(texts["spec"].encode()).hexdigest()
        row = {name: value for name, (value, _) in values.items()} | {
            "owner": owner,
            "spec_sha256": sha256,
            "name": spec.name,
            "kind": spec.kind,
            "state": JobState.QUEUED.value,
            "reason": None,
            "array": "",
            "priority": spec.priority,
            "attempt": 0,
            "failures": 0,
            "outages": 0,
            "max_attempts": spec.retry.max_attempts,
            "backoff_seconds": spec.retry.backoff_seconds,
            "not_before": 0.0,
            "tracked": False,
            "preemptible": spec.preemptible,
            "lane": line.lane_of(
                spec.priority,
                owner,
                texts["resources"],
                line.least(spec.limits.max_seconds, spec.limits.attempt_seconds),
            ),
        }
        # a spec is long: it is looked through only where it says such a thing at all
        sets = frozenset(data_sets.digests(whole)) if '"digest":"' in texts["spec"] else frozenset()
        return cls(owner=owner, spec=spec, sha256=sha256, row=row, texts=texts, sets=sets, key=key, act=act)


Kept = tuple[Mapping[str, Any], Canonical]  # JSON as it is read, and as it is kept


def _kept(value: Mapping[str, Any]) -> Kept:
    return value, Canonical(canonical(value))


_NOTHING = _kept({})


@lru_cache(maxsize=1000)
def _of_gang(resources: Resources) -> Kept:
    return _kept(resources.model_dump(mode="json"))


@lru_cache(maxsize=1000)
def _of_policy(policy: Policy) -> Kept:
    return _kept(policy.model_dump(mode="json", exclude_defaults=True))


class ApartError(Exception):
    """Several owners' jobs cannot be put into the line in one transaction: quotas are locked one owner at a time."""


Key = tuple[str, str]  # the owner and the key


def submit(work: Clocked, submissions: Sequence[Submission], known: admission.Seen) -> list[tuple[str, bool]]:
    """Return the jobs' ids, in the same order, and whether they are new: others are those that a key was used for.

    All or none: raises ConflictError for a key that was used for another spec, ImpossibleError for a gang that no
    cluster ever seen could run, NotFoundError for a data set that is not stored, QuotaError for more than the owner
    may. Of several, the error says which. ApartError: for several owners, where there are quotas.
    """
    owners = {submission.owner for submission in submissions}
    if known.quotas and len(owners) > 1:
        raise ApartError
    wanted = _wanted(submissions)
    ids = {} if _told_by_insert(submissions, known) else _of_keys(work, wanted)
    new: dict[int, dict[str, Any]] = {}
    waiting: dict[int, list[dependencies.Before]] = {}
    joined: set[tuple[Any, ...]] = set()
    possible: set[Resources] = set()
    for index, submission in enumerate(submissions):
        key = submission.named
        if key is None or key not in ids:
            if submission.spec.resources not in possible:
                try:
                    admission.refuse_impossible(submission.spec.resources, known)
                except ImpossibleError as error:
                    raise ImpossibleError(f"{_which(index, submissions)}{error}") from None
                possible.add(submission.spec.resources)
            row = _row(work, submission, index)
            waiting[index] = _begin(work, row, submission, joined, _which(index, submissions))
            new[index] = row
            if key is not None:
                ids[key] = row["id"]
    if new and known.quotas:
        specs = [submissions[index].spec for index in new]
        (owner,) = owners
        shares.check(work, owner, [(spec.resources, spec.priority) for spec in specs])
    there = inserting.insert(work, new, submissions) if new else set()
    for index, before in waiting.items():
        if new[index]["id"] in there:
            dependencies.note(work, new[index]["id"], before)
            limits.note(work, new[index]["id"], submissions[index].spec.limits)
    if len(there) < len(new):  # a key was used before
        ids |= _of_keys(work, wanted)
    made = [new[at]["id"] if each.named is None else ids[each.named] for at, each in enumerate(submissions)]
    ended = [(job_id, at in new and job_id in there) for at, job_id in enumerate(made)]
    acts = [(each.act, job_id) for each, (job_id, is_new) in zip(submissions, ended, strict=True) if not is_new]
    if repeated := [act.about([job_id]) for act, job_id in acts if act is not None]:  # new jobs have theirs
        audit.append_all(work, repeated)
    return ended


def submit_at_once(
    work: Clocked, submissions: Sequence[Submission], known: admission.Seen
) -> tuple[list[RowMapping | None], admission.Counted | None]:
    """Put plain jobs of one priority into the line by one statement, and return their rows and places. None: that one
    is not put, as its key was used or more is to be looked at, and `submit` shall see to it."""
    if not _told_by_insert(submissions, known):
        return [None] * len(submissions), None
    new = {index: _row(work, submission, index) for index, submission in enumerate(submissions)}
    counted = inserting.insert_and_count(work, new, submissions, known)
    return [work.job_row(row["id"]) if row["id"] in counted.places else None for row in new.values()], counted


def _told_by_insert(submissions: Sequence[Submission], known: admission.Seen) -> bool:
    """Return whether the insert itself may tell which keys were used: where nothing but that keeps a job out, and what
    is looked at before is not looked at in vain for a job that is there already."""
    if known.quotas or not all(each.alone and not each.sets for each in submissions):
        return False
    try:
        for resources in {each.spec.resources for each in submissions}:
            admission.refuse_impossible(resources, known)
    except ImpossibleError:
        return False
    return True


def _begin(
    work: Clocked, row: dict[str, Any], submission: Submission, joined: set[tuple[Any, ...]], which: str
) -> list[dependencies.Before]:
    """Put the new job's row outside the line where it comes after others or waits for its turn; return the others.

    joined: arrays that earlier ones of these are in. which: one of several it is, for messages.
    """
    before = dependencies.read(work, submission.spec.after)
    never = [each.never for each in before if each.never is not None]
    if never:
        raise ConflictError(f"{which}after: {'; '.join(never)}")
    place = submission.spec.array
    if place is not None:
        row["array"] = place.id
        form = (place.id, place.size, place.at_most)
        if form not in joined:
            arrays.join(work, place, row["owner"], row["id"])
            joined.add(form)
    if waits := [*(each.text for each in before if not each.met), *arrays.limit(place)]:
        row |= {"state": JobState.HELD.value, "reason": "; ".join(waits)}
    return before


def _which(index: int, submissions: Sequence[Submission]) -> str:
    return f"spec {index + 1} of {len(submissions)} ({submissions[index].spec.name}): " if len(submissions) > 1 else ""


def _wanted(submissions: Sequence[Submission]) -> dict[Key, str]:
    """Return the digest of each key's spec. Raises ConflictError where there are two."""
    wanted: dict[Key, str] = {}
    for index, each in enumerate(submissions):
        if each.named is not None and wanted.setdefault(each.named, each.sha256) != each.sha256:
            raise ConflictError(f"{_which(index, submissions)}the key {each.key!r} is another spec's, too, of these")
    return wanted


def _of_keys(work: Clocked, wanted: Mapping[Key, str]) -> dict[Key, str]:
    """Return the jobs of the keys that were used before. wanted: the digest of each key's spec. Raises ConflictError
    for another one."""
    ids = {}
    for owner in sorted({owner for owner, _ in wanted}):
        keys = [key for whose, key in wanted if whose == owner]
        for row in work.connection.execute(_KEYS, {"of_owner": owner, "keys": keys}).mappings():
            if row["spec_sha256"] != wanted[owner, row["key"]]:
                raise ConflictError(
                    f"the key {row['key']!r} was used for another spec, by {row['id']} ({row['name']}): use another "
                    "key, or none"
                )
            ids[owner, row["key"]] = row["id"]
    return ids


def _row(work: Clocked, submission: Submission, index: int) -> dict[str, Any]:
    return {
        **submission.row,
        "id": new_job_id(work.now + index / TICKS_PER_SECOND),  # in the order in which they were given
        "key": submission.key,
        "created_at": work.now,
    }


def rows(work: Clocked, ids: Sequence[str]) -> list[RowMapping]:
    """Return the jobs' rows, in this order: read only of those that are not new."""
    return [work.job_row(job_id) for job_id in ids]
