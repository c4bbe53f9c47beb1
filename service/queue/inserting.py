"""New jobs as rows, and what is written beside each: its event, its act in the audit log, its labels.

PostgreSQL takes all of the jobs with their events and acts in one statement, which one round trip brings there: their
rows as one JSON text, which costs less to make than so many parameters. SQLite, where a statement is a call in this
process, takes each table's rows in a statement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.queue import admission, audit, data_sets, expected, line, listing
from service.queue.jobs import canonical
from service.queue.rows import Clocked
from service.queue.schema import audit as audit_table
from service.queue.schema import events, jobs

if TYPE_CHECKING:
    from service.queue.submission import Submission

_INSERT = sqlite.insert(jobs).on_conflict_do_nothing(index_elements=["owner", "key"])
_THERE = sa.select(jobs.c.id).where(jobs.c.id.in_(sa.bindparam("ids", expanding=True)))
_LOG = sa.insert(events).inline()  # nobody asks for their numbers
_EVENT = ("job_id", "at", "kind", "detail")
_ACT = tuple(column.name for column in audit_table.c if column.name != "id")
_LATER = frozenset({"run_id", "started_at", "ended_at", "cancel_requested_at"})  # what a new job has none of
_JOB = tuple(column.name for column in jobs.c if column.name not in _LATER)


def _columns(table: sa.Table, names: Sequence[str], prefix: str = "") -> list[sa.ColumnClause[Any]]:
    return [sa.column(f"{prefix}{name}", table.c[name].type) for name in names]


def _whole() -> sa.Select[Any]:
    """Return the statement of jobs with their events and acts: of none of them where the job's key was used."""
    columns = [*_columns(jobs, _JOB), *_columns(events, _EVENT, "event_"), *_columns(audit_table, _ACT, "act_")]
    text = sa.cast(sa.bindparam("rows", type_=sa.Text), postgresql.JSON)
    rows = sa.func.json_to_recordset(text).table_valued(*columns).render_derived(name="rows", with_types=True)
    given = sa.select(rows).cte("given")
    job = postgresql.insert(jobs).from_select(_JOB, sa.select(*(given.c[name] for name in _JOB)))
    new = job.on_conflict_do_nothing(index_elements=["owner", "key"]).returning(jobs.c.id).cte("new")

    def beside(table: sa.Table, names: Sequence[str], prefix: str) -> sa.CTE:
        written = sa.select(*(given.c[f"{prefix}{name}"] for name in names)).join(new, new.c.id == given.c.id)
        first = given.c[f"{prefix}{names[0]}"]
        return sa.insert(table).from_select(names, written.where(first.is_not(None))).cte(f"{prefix}written")

    return sa.select(new.c.id).add_cte(beside(events, _EVENT, "event_"), beside(audit_table, _ACT, "act_"))


_WHOLE = _whole()
_COUNTED = _WHOLE.add_columns(line.AHEAD, expected.KNOWN)  # of the moment before


def insert(work: Clocked, new: Mapping[int, dict[str, Any]], submissions: Sequence[Submission]) -> set[str]:
    """Insert the rows of new jobs, by their place among the submissions, with their events and acts, and return the ids
    of those that are there: not of those whose key another job has, for which nothing is written."""
    at_once = _by_table if work.database.sqlite else _in_one
    there = at_once(work, [(row, submissions[index]) for index, row in _ordered(new)])
    if wanted := frozenset().union(*(submissions[index].sets for index in new)):
        data_sets.lock(work, wanted)
    for index, row in new.items():
        if row["id"] in there:
            work.know(row)
            if submissions[index].sets:
                data_sets.need(work, row["id"], submissions[index].sets)
    listing.label(work, {row["id"]: submissions[index].spec.labels for index, row in new.items() if row["id"] in there})
    return there


def insert_and_count(
    work: Clocked, new: Mapping[int, dict[str, Any]], submissions: Sequence[Submission], known: admission.Seen
) -> admission.Counted:
    """Insert the rows of new jobs of one priority, which have nothing beside them but their events and acts, by one
    statement, which counts their places, too. Those that have none are not there: another job has their key."""
    ids = [row["id"] for row in new.values()]
    ahead, before = line.bounds_ahead(next(iter(new.values()))["priority"], ids[0], known.marks)
    rows = _as_text(work, [(row, submissions[index]) for index, row in _ordered(new)])
    bounds = ahead | expected.bounds(work, new.values())
    found = work.connection.execute(_COUNTED, {"rows": rows, **bounds}).all()
    for row in new.values():
        work.know(row)
    there = {job_id for job_id, _, _ in found}
    in_line = [job_id for job_id in ids if job_id in there]
    first, text = (found[0][1], found[0][2]) if found else (0, None)
    places = {job_id: before + first + place for place, job_id in enumerate(in_line, start=1)}
    return admission.Counted(places=places, expected=json.loads(text) if text else {})


def _ordered(new: Mapping[int, dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Return them by owner and key, so that two callers with the same keys wait for each other in one direction
    only."""
    return sorted(new.items(), key=lambda each: (each[1]["owner"], each[1]["key"] or ""))


def _in_one(work: Clocked, new: Sequence[tuple[dict[str, Any], Submission]]) -> set[str]:
    return set(work.connection.scalars(_WHOLE, {"rows": _as_text(work, new)}))


def _as_text(work: Clocked, new: Sequence[tuple[dict[str, Any], Submission]]) -> str:
    rows = []
    for row, submission in new:
        whole = {**row, **submission.texts, **_prefixed("event_", _event(work, row))}
        if submission.act is not None:
            whole |= _prefixed("act_", audit.row(work, submission.act.about([row["id"]])))
        rows.append(whole)
    return json.dumps(rows)


def _prefixed(prefix: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with its names prefixed, and JSON as it is kept."""
    return {f"{prefix}{name}": canonical(value) if name == "detail" else value for name, value in row.items()}


def _by_table(work: Clocked, new: Sequence[tuple[dict[str, Any], Submission]]) -> set[str]:
    rows = [{**row, **submission.texts} for row, submission in new]
    if len(rows) == 1:
        there = set(work.connection.scalars(_INSERT.returning(jobs.c.id), rows[0]))
    else:
        work.connection.execute(_INSERT, rows)
        there = {row["id"] for row in rows if row["key"] is None}
        if keyed := [row["id"] for row in rows if row["key"] is not None]:
            there |= set(work.connection.scalars(_THERE, {"ids": keyed}))
    made = [(row, submission.act) for row, submission in new if row["id"] in there]
    if log := [_event(work, row) for row, _ in made]:
        work.connection.execute(_LOG, log if len(log) > 1 else log[0])
    if written := [act.about([row["id"]]) for row, act in made if act is not None]:
        audit.append_all(work, written)
    return there


def _event(work: Clocked, row: Mapping[str, Any]) -> dict[str, Any]:
    detail = {"owner": row["owner"], "name": row["name"], "to": row["state"]}
    return {"job_id": row["id"], "at": work.now, "kind": "submitted", "detail": detail}
