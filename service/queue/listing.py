"""What jobs are found by: owner, labels, and when they were submitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import Field

from service.queue.ids import first_id
from service.queue.jobs import Job, Record
from service.queue.rows import Clocked
from service.queue.schema import arrays, jobs, labels


class Which(Record):
    """The jobs that are meant: all that every field admits.

    labels:       name -> value, each of which the job has
    array:        of this array
    together:     of each array one, which stands for it
    since, until: submitted at or after, and before; seconds since 1970
    """

    owner: str | None = None
    array: str | None = None
    together: bool = False
    labels: dict[str, str] = Field(default_factory=dict)
    since: float | None = None
    until: float | None = None

    def narrow(self, query: sa.Select[Any]) -> sa.Select[Any]:
        """Return the query for jobs, of these only. Times are looked up in the ids, which sort by them."""
        if self.owner is not None:
            query = query.where(jobs.c.owner == self.owner)
        if self.array is not None:
            query = query.where(jobs.c.array == self.array, jobs.c.array != "")
        if self.together:
            first = sa.select(arrays.c.first_id)
            query = query.where(sa.or_(jobs.c.array == "", jobs.c.id.in_(first)))
        if self.since is not None:
            query = query.where(jobs.c.id >= first_id(self.since))
        if self.until is not None:
            query = query.where(jobs.c.id < first_id(self.until))
        for name, value in sorted(self.labels.items()):
            labelled = sa.select(labels.c.job_id).where(labels.c.name == name, labels.c.value == value)
            query = query.where(jobs.c.id.in_(labelled))
        return query


def counted(work: Clocked, listed: Sequence[Job]) -> list[Job]:
    """Return the jobs; each that is in an array with how many of the array's are in which state."""
    names = {job.array for job in listed if job.array is not None}
    if not names:
        return list(listed)
    query = sa.select(jobs.c.array, jobs.c.state, sa.func.count()).where(jobs.c.array.in_(names), jobs.c.array != "")
    states: dict[str, dict[str, int]] = {}
    for array, state, count in work.connection.execute(query.group_by(jobs.c.array, jobs.c.state)):
        states.setdefault(array, {})[state] = count
    return [job if job.array is None else job.model_copy(update={"states": states[job.array]}) for job in listed]


def label(work: Clocked, of_jobs: Mapping[str, Mapping[str, str]]) -> None:
    """Note the labels of new jobs, by id."""
    rows = [
        {"job_id": job_id, "name": name, "value": value}
        for job_id, given in of_jobs.items()
        for name, value in sorted(given.items())
    ]
    if rows:
        work.connection.execute(sa.insert(labels), rows)
