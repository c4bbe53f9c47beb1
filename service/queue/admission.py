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
from service.queue import expected, giving_way, limits, line, order, scheduling, shares, stored
from service.queue.database import CLOCK
from service.queue.jobs import Attempt, AttemptState, Capacity, Job, JobState, Resources, Trigger, canonical
from service.queue.rows import Clocked, attempt_record, job_record
from service.queue.schema import attempts, cluster, jobs, quotas
from service.queue.schema import limits as limits_table
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
    sa.exists(sa.select(quotas.c.kind)).label("quotas"),
    *(sa.type_coerce(cluster.c[name], sa.Text).label(name) for name in ("nodes", "most")),
    plan_table.c.head,
    *(sa.type_coerce(plan_table.c[name], sa.Text).label(name) for name in ("waiting", "held", "shares", "marks")),
)
_ALWAYS = sa.select(sa.literal_column(str(ROW)).label("id")).subquery()  # a row where no cluster has been seen, too
_BOTH = sa.select(*_COLUMNS).select_from(
    _ALWAYS.outerjoin(cluster, cluster.c.id == _ALWAYS.c.id).outerjoin(plan_table, plan_table.c.id == cluster.c.id)
)
_SEEN = {True: _BOTH, False: _BOTH.add_columns(CLOCK.label("now"))}  # else a statement of its own
_PLAN = sa.select(plan_table).where(plan_table.c.id == ROW)


@lru_cache(maxsize=16)
def _capacity(nodes: str | None) -> Capacity:
    """Return the capacity of these nodes, given as JSON, remembered: every submission and every read asks for it."""
    return Capacity(nodes=json.loads(nodes) if nodes else ())


@lru_cache(maxsize=16)
def _mapping(text: str) -> Mapping[str, Any]:
    """Return what this JSON says, remembered: of the last plan, which is asked for as often, and changes rarely."""
    mapping: Mapping[str, Any] = json.loads(text)
    return mapping


@dataclass(frozen=True, kw_only=True)
class LastPlan:
    """The dispatcher's last plan, as JSON where it is text, and the head of its line."""

    head: str | None
    waiting: str
    held: str
    shares: str
    marks: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of the cluster. `reason`: why nothing at all can start; None when something could. plan: the last
    one, from the same moment."""

    address: str | None = None
    ok: bool = False
    nodes: Capacity = field(default_factory=Capacity)
    seen_at: float | None = None
    most: Capacity | None = None
    settled: bool = False  # `most` has not grown for a while: it can be trusted with a job's life
    reason: str | None = None
    quotas: bool  # somebody is under one
    plan: LastPlan | None = None

    @property
    def marks(self) -> line.Marks:
        return {} if self.plan is None else _mapping(self.plan.marks)

    @property
    def usable(self) -> Capacity:
        return self.nodes if self.ok else Capacity()


def seen(work: Clocked, configured: Capacity | None, settle_seconds: float) -> Seen:
    """Return the last observation of the cluster, and the largest one ever seen or configured."""
    row = work.connection.execute(_SEEN[work.database.sqlite]).mappings().one()
    quotas = bool(row["quotas"])
    if not work.database.sqlite:
        work.set_clock(float(row["now"]))
    if row["seen_at"] is None:
        most = configured if configured and configured.nodes else None
        return Seen(most=most, settled=most is not None, reason="no Ray cluster has been seen yet", quotas=quotas)
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
        quotas=quotas,
        plan=None
        if row["marks"] is None
        else LastPlan(**{name: row[name] for name in ("head", "waiting", "held", "shares", "marks")}),
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
        sa.select(attempts.c.job_id, attempts.c.nodes, jobs.c.owner, line.RESOURCES, *limits.BoundColumns())
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .outerjoin(limits_table, limits_table.c.job_id == attempts.c.job_id)
        .where(attempts.c.state.in_(OPEN))
    )
    return [
        scheduling.Running(
            job_id=row["job_id"],
            resources=line.parsed(row["resources"]).sized(len(row["nodes"])),
            nodes=tuple(row["nodes"]),
            owner=row["owner"],
            until=limits.until(row, work.now),
        )
        for row in work.rows(query)
    ]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What was read of some jobs when they came into the line: their places, and when others are expected to start."""

    places: Mapping[str, int]
    expected: expected.Known


def with_places(work: Clocked, rows: Sequence[RowMapping], known: Seen, counted: Counted | None = None) -> list[Job]:
    """Return the jobs with their place in the line and the reason for waiting, if they are in it. counted: of them.

    The reason is that of their kind of gang in the dispatcher's last plan, and so is when they are expected to start:
    nothing is planned here.
    """
    queued = [row for row in rows if row["state"] == JobState.QUEUED]
    if not queued:
        return [job_record(row) for row in rows]
    last = Waiting.of(work, queued, known.plan)
    place = line.places(work, queued, known.marks) if counted is None else counted.places
    points = None if counted is None else counted.expected
    starts = expected.of(work, queued, place, points) if known.reason is None else {}
    why = _Reasons(last, known, work.now)
    return [
        # a job that was admitted since its row was read is in no line
        job_record(row, position=place[row["id"]], reason=why(row), expected=starts.get(row["id"]))
        if row["id"] in place
        else job_record(row)
        for row in rows
    ]


class _Reasons:
    """Why jobs wait: what is the same for all of a lane is found out once."""

    def __init__(self, last: Waiting, known: Seen, now: float) -> None:
        self._last, self._known, self._now = last, known, now
        self._kinds: dict[str, tuple[str, str | None]] = {}  # gang, as text, and why it is impossible, by lane

    def __call__(self, row: RowMapping) -> str:
        """Return why the job waits."""
        kind = self._kinds.get(row["lane"]) if row["lane"] else None
        if kind is None:
            resources, most = Resources.model_validate(row["resources"]), self._known.most
            impossible = scheduling.impossibility(resources, most) if most is not None else None
            kind = self._kinds[row["lane"]] = _text(resources), impossible
        gang, impossible = kind
        if why := impossible or self._known.reason:
            return why
        return scheduling.reason(self._last.why(row, gang), row["not_before"], self._now)


def _text(resources: Resources) -> str:
    return canonical(resources.model_dump(mode="json"))


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Why jobs wait, as of the dispatcher's last look: of gangs, by their resources; of lanes that a quota holds back;
    of groups that have used more than their share. groups: of the owners whose jobs are asked for. made: of the
    head, when room is made for it."""

    gangs: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, work: Clocked, rows: Sequence[RowMapping], last: LastPlan | None) -> Waiting:
        if last is None:
            return cls()
        over = _mapping(last.shares)
        groups = shares.groups_of(work, {row["owner"] for row in rows}) if over else {}
        heads = [row["id"] for row in rows if row["id"] == last.head]
        made = {head: why for head in heads if (why := giving_way.making_room(work, head)) is not None}
        return cls(gangs=_mapping(last.waiting), held=_mapping(last.held), shares=over, groups=groups, made=made)

    def why(self, row: RowMapping, resources: str) -> str | None:
        """Return why the job waits; None for one that the dispatcher has not looked at. resources: the gang's, as
        canonical JSON."""
        gang = self.made.get(row["id"]) or self.held.get(row["lane"]) or self.gangs.get(resources)
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


def admit(work: Clocked, known: Seen, sizes: stored.Sizes = stored.by_owner) -> list[Attempt]:
    """Start what the plan admits and refuse what it calls impossible. Needs the admission lock. sizes: of what is
    stored."""
    order.look(work)
    line.fill_in(work)
    # the queue first: what leaves a gang for the queue in between is then seen nowhere, which costs one look;
    # what enters one from the queue cannot be in between, because only the holder of the admission lock does that
    lanes = line.lanes(work)
    ended = shares.pending(work)
    unit = "GPU" if (known.most or known.nodes).total().get("GPU") else "CPU"
    rules = shares.sharing(work, ended, unit, {lane.owner for lane in lanes if not lane.begun}, sizes)
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
        row, Trigger.ADMIT, "admitted", detail={"nodes": values["nodes"]}, attempt=number, reason=None, progress={},
        lane=line.begun(row["lane"]),
    )  # fmt: skip
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
