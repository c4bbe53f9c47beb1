"""From the line into attempts: what `scheduling.plan` decides, done in SQL, inside the store's transactions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service import wire
from service.errors import ImpossibleError
from service.queue import expected, giving_way, line, order, scheduling, shares
from service.queue.database import CLOCK
from service.queue.jobs import Attempt, AttemptState, Capacity, Job, JobState, Resources, Trigger, canonical
from service.queue.rows import Clocked, attempt_record, job_record
from service.queue.schema import attempts, cluster, jobs
from service.queue.schema import plan as plan_table
from service.queue.sharing import NOBODY
from service.queue.turns import Lane

OPEN = tuple(state.value for state in AttemptState if state.open)
ROW = 1  # the cluster's only row
_COLUMNS = (
    cluster.c.address,
    cluster.c.ok,
    cluster.c.seen_at,
    cluster.c.most_at,
    *(sa.type_coerce(cluster.c[name], sa.Text).label(name) for name in ("nodes", "most")),
)
_SEEN = {
    True: sa.select(*_COLUMNS).where(cluster.c.id == ROW),
    False: sa.select(*_COLUMNS, CLOCK.label("now")).where(cluster.c.id == ROW),  # else a statement of its own
}
_PLAN = sa.select(plan_table).where(plan_table.c.id == ROW)


@lru_cache(maxsize=16)
def _capacity(nodes: str | None) -> Capacity:
    """Return the capacity of these nodes, given as JSON, remembered: every submission and every read asks for it."""
    return Capacity(nodes=json.loads(nodes) if nodes else ())


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of the cluster. `reason`: why nothing at all can start; None when something could."""

    address: str | None = None
    ok: bool = False
    nodes: Capacity = field(default_factory=Capacity)
    seen_at: float | None = None
    most: Capacity | None = None
    settled: bool = False  # `most` has not grown for a while: it can be trusted with a job's life
    reason: str | None = None

    @property
    def usable(self) -> Capacity:
        return self.nodes if self.ok else Capacity()


def seen(work: Clocked, configured: Capacity | None, settle_seconds: float) -> Seen:
    """Return the last observation of the cluster, and the largest one ever seen or configured."""
    row = work.row(_SEEN[work.database.sqlite])
    if row is not None and not work.database.sqlite:
        work.set_clock(float(row["now"]))
    if row is None:
        most = configured if configured and configured.nodes else None
        return Seen(most=most, settled=most is not None, reason="no Ray cluster has been seen yet")
    most = _capacity(row["most"]) if row["most"] else None
    grown_at = row["most_at"] or 0.0
    if configured and configured.nodes:
        most, grown_at = scheduling.largest(most, configured), 0.0
    reason = None
    if not row["ok"]:
        reason = f"the Ray cluster at {row['address'] or 'its address'} does not answer"
    return Seen(
        address=row["address"],
        ok=row["ok"],
        nodes=_capacity(row["nodes"]),
        seen_at=row["seen_at"],
        most=most,
        settled=most is not None and work.now >= grown_at + settle_seconds,
        reason=reason,
    )


def observe(work: Clocked, capacity: Capacity, address: str, ok: bool) -> None:
    """Note what the cluster has. The high-water mark only grows, and only by what was really there."""
    row = work.row(sa.select(cluster).where(cluster.c.id == ROW).with_for_update())
    values = {"address": address, "ok": ok, "seen_at": work.now}
    if ok or row is None:
        values["nodes"] = list(scheduling.ordered(capacity).nodes)
    known = Capacity(nodes=row["most"]) if row is not None and row["most"] else None
    if ok and capacity.nodes:
        most = scheduling.largest(known, capacity)
        if most != known:
            values |= {"most": list(most.nodes), "most_at": work.now}
    if row is None:
        work.connection.execute(sa.insert(cluster).values(id=ROW, **values))
    else:
        work.connection.execute(sa.update(cluster).where(cluster.c.id == ROW).values(values))


def refuse_impossible(resources: Resources, known: Seen) -> None:
    """Raise ImpossibleError when no cluster that was ever seen could run the gang."""
    reason = scheduling.impossibility(resources, known.most) if known.most is not None else None
    if reason is not None:
        raise ImpossibleError(reason)


def running(work: Clocked) -> list[scheduling.Running]:
    query = (
        sa.select(attempts.c.job_id, attempts.c.nodes, jobs.c.owner, line.RESOURCES)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.state.in_(OPEN))
    )
    return [
        scheduling.Running(
            job_id=row["job_id"],
            resources=line.parsed(row["resources"]).sized(len(row["nodes"])),
            nodes=tuple(row["nodes"]),
            owner=row["owner"],
        )
        for row in work.rows(query)
    ]


def with_places(work: Clocked, rows: Sequence[RowMapping], known: Seen) -> list[Job]:
    """Return the jobs with their place in the line and the reason for waiting, if they are in it.

    The reason is that of their kind of gang in the dispatcher's last plan, and so is when they are expected to start:
    nothing is planned here.
    """
    queued = [row for row in rows if row["state"] == JobState.QUEUED]
    if not queued:
        return [job_record(row) for row in rows]
    last = Waiting.of(work, queued)
    place = line.places(work, queued, last.marks)
    starts = expected.of(work, queued, place) if known.reason is None else {}
    return [
        # a job that was admitted since its row was read is in no line
        job_record(
            row, position=place[row["id"]], reason=_why(row, last, known, work.now), expected=starts.get(row["id"])
        )
        if row["id"] in place
        else job_record(row)
        for row in rows
    ]


def _why(row: RowMapping, last: Waiting, known: Seen, now: float) -> str:
    resources = Resources.model_validate(row["resources"])
    impossible = scheduling.impossibility(resources, known.most) if known.most is not None else None
    return impossible or known.reason or scheduling.reason(last.why(row, resources), row["not_before"], now)


def _text(resources: Resources) -> str:
    return canonical(resources.model_dump(mode="json"))


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Why jobs wait, as of the dispatcher's last look: of gangs, by their resources; of lanes that a quota holds back;
    of groups that have used more than their share. groups: of the owners whose jobs are asked for. made: of the
    head, when room is made for it. marks: places in the line."""

    gangs: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)
    marks: line.Marks = field(default_factory=dict)

    @classmethod
    def of(cls, work: Clocked, rows: Sequence[RowMapping]) -> Waiting:
        last = work.row(_PLAN)
        if last is None:
            return cls()
        groups = shares.groups_of(work, {row["owner"] for row in rows}) if last["shares"] else {}
        heads = [row["id"] for row in rows if row["id"] == last["head"]]
        made = {head: why for head in heads if (why := giving_way.making_room(work, head)) is not None}
        return cls(
            gangs=last["waiting"], held=last["held"], shares=last["shares"], groups=groups, marks=last["marks"],
            made=made,
        )  # fmt: skip

    def why(self, row: RowMapping, resources: Resources) -> str | None:
        """Return why the job waits; None for one that the dispatcher has not looked at."""
        gang = self.made.get(row["id"]) or self.held.get(row["lane"]) or self.gangs.get(_text(resources))
        share = self.shares.get(self.groups.get(row["owner"], "")) if row["lane"] not in self.held else None
        return f"{gang}; {share}" if gang and share else gang


def _keep(work: Clocked, plan: scheduling.Plan, over: Mapping[str, str]) -> None:
    """Keep why jobs wait, for whoever reads one. Nothing is written when it is as it was."""
    values: dict[str, Any] = {
        "waiting": {_text(kind): why for kind, why in plan.waiting.items()},
        "head": plan.head,
        "held": {lane: str(why) for lane, why in plan.held.items()},
        "shares": dict(over),
    }
    row = work.row(_PLAN)
    if row is None or work.now >= row["marked_at"] + line.MARKS_SECONDS:
        marks = line.marks(work)
        if marks or (row is not None and row["marks"]):
            values |= {"marks": marks, "marked_at": work.now}
    if row is None:
        work.connection.execute(sa.insert(plan_table).values(id=ROW, made_at=work.now, **values))
    elif values != {name: row[name] for name in values}:
        work.connection.execute(sa.update(plan_table).where(plan_table.c.id == ROW).values(made_at=work.now, **values))


def head_lane(work: Clocked) -> str | None:
    """Return the lane of the head of the last plan, if it still waits."""
    head = sa.select(plan_table.c.head).where(plan_table.c.id == ROW).scalar_subquery()
    query = sa.select(jobs.c.lane).where(jobs.c.id == head, jobs.c.state == JobState.QUEUED.value)
    return work.connection.scalar(query)


def admit(work: Clocked, known: Seen) -> list[Attempt]:
    """Start what the plan admits and refuse what it calls impossible. Needs the admission lock."""
    order.look(work)
    line.fill_in(work)
    # the queue first: what leaves a gang for the queue in between is then seen nowhere, which costs one look;
    # what enters one from the queue cannot be in between, because only the holder of the admission lock does that
    lanes = line.lanes(work)
    ended = shares.pending(work)
    unit = "GPU" if (known.most or known.nodes).total().get("GPU") else "CPU"
    rules = shares.sharing(work, ended, unit)
    plan = scheduling.plan(
        lanes,
        running(work),
        known.usable,
        work.now,
        most=known.most,
        sharing=rules,
        first=head_lane(work) if rules != NOBODY else None,
    )
    if known.settled:
        for lane in lanes:
            if lane.resources in plan.impossible:
                _refuse(work, lane, plan.impossible[lane.resources])
    admitted = (_admitted(work, admission) for admission in plan.admit)
    made = [attempt for attempt in admitted if attempt is not None]
    _keep(work, plan, rules.over({lane.owner for lane in lanes}))
    shares.charge(work, ended)  # at the end: attempts are locked after all jobs
    return made


def _refuse(work: Clocked, lane: Lane, reason: str) -> None:
    for job_id in line.of_lane(work, lane.name):
        row = work.locked_job(job_id)
        if row["state"] == JobState.QUEUED:
            values = {"reason": reason, "ended_at": work.now, "tracked": False}
            work.move(row, Trigger.REFUSE, "refused", detail={"reason": reason}, **values)


def _admitted(work: Clocked, admission: scheduling.Admission) -> Attempt | None:
    row = work.locked_job(admission.job_id)
    if row["state"] != JobState.QUEUED:  # cancelled since the plan was made
        return None
    number = row["attempt"] + 1
    values = {
        "job_id": row["id"],
        "number": number,
        "state": AttemptState.STARTING.value,
        "nodes": list(admission.nodes),
        "created_at": work.now,
    }
    work.connection.execute(sa.insert(attempts).values(values))
    work.move(
        row, Trigger.ADMIT, "admitted", detail={"nodes": values["nodes"]}, attempt=number, reason=None, progress={}
    )
    attempt = work.attempt_row(row["id"], number)
    assert attempt is not None
    return attempt_record(attempt)


def status(work: Clocked, known: Seen) -> wire.ClusterStatus:
    """Return the cluster as it was last seen, and what the queue takes of it."""
    gangs = running(work)
    used: dict[str, float] = {}
    for gang in gangs:
        for name, amount in gang.resources.total().items():
            used[name] = used.get(name, 0.0) + amount
    count = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.state == JobState.QUEUED.value)
    return wire.ClusterStatus(
        nodes=known.nodes.nodes,
        total=known.nodes.total(),
        used_by_jobs=used,
        queued=work.connection.scalar(count) or 0,
        running=len(gangs),
        ray_address=known.address,
        ray_ok=known.ok,
        seen_at=known.seen_at,
    )
