"""How jobs come into the store: those of callers who wait for each other, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import RowMapping

from service.queue import admission, audit, notices
from service.queue.acts import Act
from service.queue.gathering import Gathering, outcomes
from service.queue.jobs import Job
from service.queue.notice import Target
from service.queue.opened import Opened
from service.queue.rows import Clocked
from service.queue.submission import ApartError, Submission, rows, submit, submit_at_once
from service.queue.together import not_read
from service.specs.job import JobSpec

Written = tuple[Sequence[RowMapping], admission.Seen]  # rows of jobs, and what was known of the cluster


class Submitting(Opened):
    """The part of the store by which jobs come in."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._gathering = Gathering(self._put_several)

    def submit(
        self,
        spec: JobSpec,
        *,
        owner: str,
        key: str | None = None,
        after: str | None = None,
        notify: Sequence[Target] = (),
        act: Act | None = None,
    ) -> Job:
        """Put a job into the line. The same owner, key and spec again: the same job, in whatever state it is.

        after: the job that this one follows, which is told so, once. notify: where to tell of it what. act: what the
        audit log says of the call, written in the same transaction, about this job. Raises ConflictError when the key
        was used for another spec, ImpossibleError when no cluster that was ever seen could run it, QuotaError when it
        is more than the owner may.
        """
        submission = Submission.of(spec, owner, key, act)
        if after is None and not notify and submission.alone:
            return self._gathering.run(submission)

        def put(work: Clocked) -> Written:
            known = self._seen(work)
            ((job_id, new),) = submit(work, [submission], known)
            if new and after is not None:
                work.record(after, "followed", job=job_id, what=spec.kind)
            for target in notify:
                notices.subscribe(work, owner, job_id, target)
            return [work.job_row(job_id)], known

        return self._together.run_then(put, _placed)[0]

    def submit_all(
        self, specs: Sequence[tuple[JobSpec, str | None]], *, owner: str, act: Act | None = None
    ) -> list[Job]:
        """Put many jobs, each with its key or none, into the line, in this order: all of them or none.

        act: what the audit log says of the call, written in the same transaction, about all of them. Raises what
        `submit` raises; the error says which spec it is about.
        """
        once: dict[int, Submission] = {}  # by the spec itself: several jobs may be of one
        for spec, _ in specs:
            if id(spec) not in once:
                once[id(spec)] = Submission.of(spec, owner)
        return self._put([replace(once[id(spec)], key=key) for spec, key in specs], act)

    def _put(self, submissions: Sequence[Submission], of_all: Act | None = None) -> list[Job]:
        """Put jobs into the line, all of them or none, and return them with their places. of_all: the act of a call
        that has all of them."""

        def put(work: Clocked) -> Written:
            known = self._seen(work)
            ids = [job_id for job_id, _ in submit(work, submissions, known)]
            if of_all is not None:
                audit.append(work, of_all.about(ids))
            return rows(work, ids), known

        return self._together.run_then(put, _placed)

    def _put_several(self, submissions: Sequence[Submission]) -> list[Job | Exception]:
        """Put the jobs of several callers into the line."""
        alike = len({submission.spec.priority for submission in submissions}) == 1
        if self._database.sqlite or not alike or not all(submission.plain for submission in submissions):
            return self._put_together(submissions)
        put: list[Job | Exception | None] = [*self._put_at_once(submissions)]
        if rest := [at for at, job in enumerate(put) if job is None]:
            for at, outcome in zip(rest, outcomes(self._put_together, [submissions[at] for at in rest]), strict=True):
                put[at] = outcome
        return [job for job in put if job is not None]

    def _put_at_once(self, submissions: Sequence[Submission]) -> list[Job | None]:
        """Put plain jobs into the line in one statement, and so without BEGIN and COMMIT. None: that one is not put."""
        with self._database.at_once() as connection:
            work = Clocked(self._database, connection)
            known = self._seen(work)
            put, counted = submit_at_once(work, submissions, known)
            there = [row for row in put if row is not None]
            try:
                placed = iter(admission.with_places(work, there, known, counted))
            except Exception as error:
                raise not_read(error) from error
            return [None if row is None else next(placed) for row in put]

    def _put_together(self, submissions: Sequence[Submission]) -> list[Job | Exception]:
        """Put jobs into the line in a transaction; those of each owner by themselves, where there are quotas."""
        try:
            return [*self._put(submissions)]
        except ApartError:
            ended: dict[int, Job | Exception] = {}
            for owner in sorted({submission.owner for submission in submissions}):
                theirs = [at for at, submission in enumerate(submissions) if submission.owner == owner]
                ended |= zip(theirs, outcomes(self._put, [submissions[at] for at in theirs]), strict=True)
            return [ended[at] for at in range(len(submissions))]


def _placed(work: Clocked, written: Written) -> list[Job]:
    """Return the jobs with their places, counted while no lock is held."""
    return admission.with_places(work, *written)
