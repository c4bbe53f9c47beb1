"""Room that is made: looked at by the dispatcher after each plan, and written down as what attempts are asked to do.

Everything is found out anew from SQL at each look, under the admission lock: a dispatcher that was killed after it had
asked some goes on with the others, and several that look ask nobody twice. An attempt that was asked counts as gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service.queue import admission, giving_way, line, shares
from service.queue.database import Database
from service.queue.elasticity import growing, shrinking
from service.queue.giving_way import Way
from service.queue.jobs import JobState
from service.queue.preemption import Holding, victims
from service.queue.rows import Clocked
from service.queue.schema import attempts, jobs, plan

LOOK_SECONDS = 5.0  # between two looks at who could grow: it is in no hurry
RESIZE_SECONDS = 60.0  # in which a gang that grows may checkpoint


class Room:
    """What the dispatcher looks at. Several may look at once.

    seen: what is known of the cluster. grace: seconds in which an attempt that is preempted may checkpoint; none:
    nobody is preempted. grow: seconds after which idle room is given to elastic gangs that have less than they may
    have; none: never.
    """

    def __init__(
        self, database: Database, seen: Callable[[Clocked], admission.Seen], grace: float | None, grow: float | None
    ) -> None:
        self._database = database
        self._seen = seen
        self._grace = grace
        self._grow = grow
        self._next = 0.0  # when it is looked who could grow
        self._idle: tuple[str, float] | None = None  # who could grow, and since when; losing it only prolongs the wait

    def look(self) -> list[str]:
        """Ask attempts to give way to the head of the last plan, where that helps it, or elastic ones to go on with
        more workers, where nobody waits; return a sentence for each."""
        with self._database.read() as connection:
            work = Clocked(self._database, connection)
            waits = _waits(work)
            if not waits and time.monotonic() < self._next:
                return []
            grows = None if waits else self._grows(work)
        self._next = time.monotonic() + min(LOOK_SECONDS, self._grow or 0.0)
        if self._grace is not None and waits:
            self._idle = None
            with self._database.write() as connection:
                self._database.lock_admission(connection)
                return self._preempt(Clocked(self._database, connection), self._grace)
        if grows is None or self._grow is None:
            self._idle = None
            return []
        if self._idle is None or self._idle[0] != grows:
            self._idle = (grows, time.monotonic())
        if time.monotonic() < self._idle[1] + self._grow:
            return []
        self._idle = None
        with self._database.write() as connection:
            self._database.lock_admission(connection)
            work = Clocked(self._database, connection)
            return [] if _waits(work) or self._grows(work) != grows else self._enlarge(work, grows)

    def _grows(self, work: Clocked) -> str | None:
        """Return the job whose elastic gang could have more workers on what is free."""
        known = self._seen(work).usable
        if self._grow is None or not known.nodes:
            return None
        gangs = [gang for gang, _ in _holding(work)]
        if all(gang.job is None for gang in gangs):
            return None
        return growing(gangs, known, shares.sharing(work, (), "GPU"))

    def _enlarge(self, work: Clocked, job_id: str) -> list[str]:
        number = work.job_row(job_id)["attempt"]
        why = "goes on with more workers: there has been room for them for a while"
        asked = giving_way.ask(work, job_id, number, why, way=Way.RESIZED, grace=RESIZE_SECONDS)
        return [f"{job_id}-{number} {why}"] if asked else []

    def _preempt(self, work: Clocked, grace: float) -> list[str]:
        head, known = _head(work), self._seen(work)
        if head is None or not known.usable.nodes:
            return []
        gangs = {gang.job_id: (gang, number) for gang, number in _holding(work)}
        resources, held = line.parsed(head["resources"]), [gang for gang, _ in gangs.values()]
        way, smaller = Way.RESIZED, " and goes on with fewer workers"
        chosen = shrinking(resources, head["priority"], held, known.usable)
        if not chosen:
            way, smaller = Way.PREEMPTED, ""
            chosen = victims(resources, head["priority"], held, known.usable)
        why = f"makes room for {head['id']}, of priority {head['priority']}{smaller}"
        said = []
        for job_id in sorted(chosen):  # in one order, as whoever locks several jobs
            number = gangs[job_id][1]
            if giving_way.ask(work, job_id, number, why, way=way, grace=grace, to=head["id"]):
                said.append(f"{job_id}-{number} {why}")
        return said


def _head(work: Clocked) -> RowMapping | None:
    """Return the head of the last plan, if it still waits, and for nothing but room."""
    columns = (jobs.c.id, jobs.c.priority, line.RESOURCES)
    waits = (jobs.c.state == JobState.QUEUED.value, jobs.c.not_before <= work.now)
    return work.row(sa.select(*columns).join(plan, plan.c.head == jobs.c.id).where(plan.c.id == admission.ROW, *waits))


def _waits(work: Clocked) -> bool:
    """Return whether the last plan has a head that waits."""
    waits = (plan.c.id == admission.ROW, jobs.c.state == JobState.QUEUED.value)
    return work.row(sa.select(jobs.c.id).join(plan, plan.c.head == jobs.c.id).where(*waits)) is not None


def _holding(work: Clocked) -> list[tuple[Holding, int]]:
    """Return what holds gangs, with the numbers of the attempts."""
    columns = (
        attempts.c.job_id, attempts.c.number, attempts.c.nodes, attempts.c.created_at, attempts.c.stop_reason,
        jobs.c.owner, jobs.c.priority, jobs.c.preemptible, jobs.c.state, line.RESOURCES,
    )  # fmt: skip
    query = sa.select(*columns).join(jobs, jobs.c.id == attempts.c.job_id).where(attempts.c.state.in_(admission.OPEN))
    return [
        (
            Holding(
                job_id=row["job_id"],
                resources=job.sized(len(row["nodes"])),
                nodes=tuple(row["nodes"]),
                job=job if job.min_workers is not None else None,
                owner=row["owner"],
                priority=row["priority"],
                since=row["created_at"],
                preemptible=row["preemptible"],
                leaving=row["stop_reason"] is not None or row["state"] == JobState.CANCELLING,
            ),
            row["number"],
        )
        for row in work.rows(query)
        for job in (line.parsed(row["resources"]),)
    ]
