"""Jobs that come after others: what they wait for, and when it is met or can never be.

A dependency is on a job that was there before, and none is added later: so there are no cycles. It is met, once and for
all, when that job has ended as it was wanted to; what can no longer be met ends the job that waits, with the reason.
Ended jobs are looked at again at each of the dispatcher's looks: whoever is killed in between misses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from service.queue.jobs import FINAL, JobState, Record
from service.queue.rows import Clocked, unknown_job
from service.queue.schema import after, jobs

ENDED = {
    "succeeded": frozenset({JobState.SUCCEEDED}),
    "failed": frozenset({JobState.FAILED, JobState.CANCELLED}),
    "ended": FINAL,
}
_WORDS = {"succeeded": "has succeeded", "failed": "has failed or was cancelled", "ended": "has ended"}
_FINAL = [state.value for state in FINAL]


class Before(Record):
    """A job that another one comes after. wanted: a key of `ENDED`."""

    job_id: str
    state: JobState
    wanted: str

    @property
    def met(self) -> bool:
        return self.state in ENDED[self.wanted]

    @property
    def never(self) -> str | None:
        """Return why it can never be met; None while it is met, or may be."""
        if self.met or not self.state.final:
            return None
        return f"job {self.job_id} is {self.state}, and this one was to start after it {_WORDS[self.wanted]}"

    @property
    def text(self) -> str:
        return f"starts after job {self.job_id} {_WORDS[self.wanted]}"


def names(written: Sequence[str]) -> list[tuple[str, str]]:
    """Return the jobs of a spec's `after`, each with what is wanted of it."""
    return [(job_id, wanted or "succeeded") for job_id, _, wanted in (each.partition(":") for each in written)]


def read(work: Clocked, written: Sequence[str]) -> list[Before]:
    """Return the jobs of a spec's `after`, as they are now. Raises NotFoundError for one that is not there."""
    wanted = names(written)
    if not wanted:
        return []
    query = sa.select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_([job_id for job_id, _ in wanted]))
    states = {row["id"]: row["state"] for row in work.rows(query)}
    if missing := [job_id for job_id, _ in wanted if job_id not in states]:
        raise unknown_job(missing[0])
    return [Before(job_id=job_id, state=JobState(states[job_id]), wanted=each) for job_id, each in wanted]


def note(work: Clocked, job_id: str, before: Sequence[Before]) -> None:
    """Note what a new job comes after."""
    if before:
        rows = [
            {"job_id": job_id, "before_id": each.job_id, "wanted": each.wanted,
             "met_at": work.now if each.met else None}
            for each in before
        ]  # fmt: skip
        work.connection.execute(sa.insert(after), rows)


def waits(work: Clocked, job_id: str) -> list[str]:
    """Return what the job still waits for, a sentence each."""
    return [each.text for each in _unmet(work, job_id)]


def decided(work: Clocked) -> list[str]:
    """Return the jobs that wait for one that has ended, oldest first."""
    before = jobs.alias()
    query = (
        sa.select(after.c.job_id)
        .join(jobs, jobs.c.id == after.c.job_id)
        .join(before, before.c.id == after.c.before_id)
        .where(after.c.met_at.is_(None), jobs.c.state == JobState.HELD.value, before.c.state.in_(_FINAL))
    )
    return sorted(set(work.connection.scalars(query)))


def meet(work: Clocked, job_id: str) -> str | None:
    """Note which of the job's dependencies are met by now; return why one of them can never be, where that is so."""
    unmet = _unmet(work, job_id)
    if never := [each.never for each in unmet if each.never is not None]:
        return "; ".join(never)
    for each in unmet:
        if each.met:
            which = (after.c.job_id == job_id, after.c.before_id == each.job_id)
            work.connection.execute(sa.update(after).where(*which).values(met_at=work.now))
    return None


def _unmet(work: Clocked, job_id: str) -> list[Before]:
    query = (
        sa.select(after.c.before_id, jobs.c.state, after.c.wanted)
        .join(jobs, jobs.c.id == after.c.before_id)
        .where(after.c.job_id == job_id, after.c.met_at.is_(None))
        .order_by(after.c.before_id)
    )
    return [
        Before(job_id=row["before_id"], state=JobState(row["state"]), wanted=row["wanted"]) for row in work.rows(query)
    ]
