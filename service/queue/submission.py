"""Into the line: jobs of specs, one or many in the same statements. Called by the store, inside its transactions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import RowMapping

from service import kinds
from service.errors import ConflictError, ImpossibleError
from service.queue import admission, arrays, data_sets, dependencies, limits, line, listing, shares
from service.queue.ids import TICKS_PER_SECOND, new_job_id
from service.queue.jobs import JobState, canonical
from service.queue.rows import Clocked
from service.queue.schema import Canonical, events, jobs
from service.specs.job import JobSpec

_INSERTS = {
    is_sqlite: insert(jobs).on_conflict_do_nothing(index_elements=["owner", "key"])
    for is_sqlite, insert in ((True, sqlite.insert), (False, postgresql.insert))
}
_LOG = sa.insert(events)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job to be. data: the spec as it is kept, text: in JSON; sha256: its digest; resources: of the gang, as they are
    kept; sets: digests of the data sets that it needs."""

    spec: JobSpec
    data: Mapping[str, Any]
    text: Canonical
    sha256: str
    resources: Mapping[str, Any]
    policy: Mapping[str, Any]
    sets: frozenset[str]
    key: str | None

    @classmethod
    def of(cls, spec: JobSpec, key: str | None = None) -> Submission:
        """Return the submission of a spec: what costs time is done here, outside of any transaction."""
        data = spec.model_dump(mode="json")
        text = Canonical(canonical(data))
        return cls(
            spec=spec,
            data=data,
            text=text,
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            resources=spec.resources.model_dump(mode="json"),
            policy=kinds.policy(spec).model_dump(mode="json", exclude_defaults=True),
            # a spec is long: it is looked through only where it says such a thing at all
            sets=frozenset(data_sets.digests(data)) if '"digest":"' in text else frozenset(),
            key=key,
        )


def submit(
    work: Clocked, submissions: Sequence[Submission], owner: str, known: admission.Seen
) -> list[tuple[str, bool]]:
    """Return the jobs' ids, in the same order, and whether they are new: others are those that a key was used for.

    All or none: raises ConflictError for a key that was used for another spec, ImpossibleError for a gang that no
    cluster ever seen could run, NotFoundError for a data set that is not stored, QuotaError for more than the owner
    may. Of several, the error says which.
    """
    ids = _of_keys(work, submissions, owner)
    new: dict[int, dict[str, Any]] = {}
    waiting: dict[int, list[dependencies.Before]] = {}
    joined: set[tuple[Any, ...]] = set()
    for index, submission in enumerate(submissions):
        if submission.key is None or submission.key not in ids:
            try:
                admission.refuse_impossible(submission.spec.resources, known)
            except ImpossibleError as error:
                raise ImpossibleError(f"{_which(index, submissions)}{error}") from None
            row = _row(work, submission, owner, index)
            waiting[index] = _begin(work, row, submission, joined, _which(index, submissions))
            new[index] = row
            if submission.key is not None:
                ids[submission.key] = row["id"]
    if new:
        specs = [submissions[index].spec for index in new]
        shares.check(work, owner, [(spec.resources, spec.priority) for spec in specs])
    there = _insert(work, new, submissions, owner) if new else set()
    for index, before in waiting.items():
        if new[index]["id"] in there:
            dependencies.note(work, new[index]["id"], before)
            limits.note(work, new[index]["id"], submissions[index].spec.limits)
    if len(there) < len(new):  # another caller used a key in the meantime, and has committed
        ids |= _of_keys(work, submissions, owner)
    made = [new[at]["id"] if each.key is None else ids[each.key] for at, each in enumerate(submissions)]
    return [(job_id, at in new and job_id in there) for at, job_id in enumerate(made)]


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


def _of_keys(work: Clocked, submissions: Sequence[Submission], owner: str) -> dict[str, str]:
    """Return the jobs of the keys that were used before. Raises ConflictError for another spec, also among these."""
    wanted: dict[str, str] = {}
    for index, each in enumerate(submissions):
        if each.key is not None and wanted.setdefault(each.key, each.sha256) != each.sha256:
            raise ConflictError(f"{_which(index, submissions)}the key {each.key!r} is another spec's, too, of these")
    if not wanted:
        return {}
    columns = (jobs.c.id, jobs.c.key, jobs.c.name, jobs.c.spec_sha256)
    ids = {}
    for row in work.rows(sa.select(*columns).where(jobs.c.owner == owner, jobs.c.key.in_(wanted))):
        if row["spec_sha256"] != wanted[row["key"]]:
            raise ConflictError(
                f"the key {row['key']!r} was used for another spec, by {row['id']} ({row['name']}): use another key, "
                "or none"
            )
        ids[row["key"]] = row["id"]
    return ids


def _row(work: Clocked, submission: Submission, owner: str, index: int) -> dict[str, Any]:
    spec = submission.spec
    return {
        "id": new_job_id(work.now + index / TICKS_PER_SECOND),  # in the order in which they were given
        "owner": owner,
        "key": submission.key,
        "spec_sha256": submission.sha256,
        "name": spec.name,
        "kind": spec.kind,
        "state": JobState.QUEUED.value,
        "reason": None,
        "array": "",
        "priority": spec.priority,
        "spec": submission.text,
        "resources": submission.resources,
        "policy": submission.policy,
        "attempt": 0,
        "failures": 0,
        "outages": 0,
        "max_attempts": spec.retry.max_attempts,
        "backoff_seconds": spec.retry.backoff_seconds,
        "not_before": 0.0,
        "progress": {},
        "result": {},
        "tracked": False,
        "created_at": work.now,
        "preemptible": spec.preemptible,
        "lane": line.lane_of(spec.priority, owner, canonical(submission.resources)),
    }


def _insert(
    work: Clocked, new: Mapping[int, dict[str, Any]], submissions: Sequence[Submission], owner: str
) -> set[str]:
    """Insert the rows, each with its event, and return the ids of those that are there: not of those whose key another
    caller used in the meantime."""
    statement = _INSERTS[work.database.sqlite]
    # by key, so that two callers with the same keys wait for each other in one direction only; sets likewise
    rows = sorted(new.values(), key=lambda row: row["key"] or "")
    work.connection.execute(statement, rows if len(rows) > 1 else rows[0])
    # not by rowcount: PostgreSQL's driver does not tell it for an insert that did nothing
    there = {row["id"] for row in rows if row["key"] is None}
    if keyed := [row["id"] for row in rows if row["key"] is not None]:
        there |= set(work.connection.scalars(sa.select(jobs.c.id).where(jobs.c.id.in_(keyed))))
    data_sets.lock(work, frozenset().union(*(submissions[index].sets for index in new)))
    log = []
    for index, row in new.items():
        if row["id"] in there:
            work.know({**row, "spec": submissions[index].data})
            data_sets.need(work, row["id"], submissions[index].sets)
            detail = {"owner": owner, "name": row["name"], "to": row["state"]}
            log.append({"job_id": row["id"], "attempt": None, "at": work.now, "kind": "submitted", "detail": detail})
    if log:
        work.connection.execute(_LOG, log if len(log) > 1 else log[0])
    listing.label(work, {row["id"]: submissions[index].spec.labels for index, row in new.items() if row["id"] in there})
    return there


def rows(work: Clocked, ids: Sequence[str]) -> list[RowMapping]:
    """Return the jobs' rows, in this order: read only of those that are not new."""
    return [work.job_row(job_id) for job_id in ids]
