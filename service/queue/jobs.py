"""Jobs, attempts and their states: the records that the store returns and the API sends.

    QUEUED ──admit──▶ STARTING ──claim──▶ RUNNING ──finish──▶ SUCCEEDED
      ▲                  │                   │  └───────────▶ FAILED
      └──── retry budget, after a backoff ───┘
      ▲                  │                   │
      └─ preempt: it makes room, at no cost ─┘
    any state that is not final ──cancel──▶ CANCELLING ──▶ CANCELLED      (QUEUED and HELD go to CANCELLED at once)
    QUEUED ◀──release── HELD ◀──hold── QUEUED      (HELD waits outside the line: `service.queue.order` says for what)
    FAILED, CANCELLED ──retry──▶ QUEUED   (the next attempt goes on from the last committed checkpoint)
    SUCCEEDED, FAILED, CANCELLED ──extend──▶ QUEUED   (more to do: what was done before is not done again)

An attempt is fenced by its number (1, 2, ...): what an older one says is refused with `FencedError`. The whole
machine is the table `TRANSITIONS`; what is not in it cannot happen.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from service.errors import ConflictError
from service.queue.roles import SCOPES, Role, Scope


class JobState(StrEnum):
    HELD = "HELD"
    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return self in FINAL


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Trigger(StrEnum):
    """What can happen to a job. The table below says what it leads to."""

    HOLD = "hold"  # it shall not start yet: it leaves the line
    RELEASE = "release"  # nothing keeps it outside any more: it enters the line, at its old place
    ADMIT = "admit"  # its gang fits: an attempt is made
    REFUSE = "refuse"  # no cluster that was ever seen could hold its gang
    CLAIM = "claim"  # a runner took the attempt
    SUCCEED = "succeed"  # the attempt reached the end
    FAIL = "fail"  # the attempt is over, and so is the retry budget (or the failure is not worth a retry)
    REQUEUE = "requeue"  # the attempt is over, another one may follow
    RESIZE = "resize"  # the same, to go on with more or fewer workers
    PREEMPT = "preempt"  # the attempt made room for another job, or left its node, and is over: another one follows
    CANCEL = "cancel"  # somebody asked
    STOP = "stop"  # the cancelled attempt is over
    RETRY = "retry"  # somebody asked for another go
    EXTEND = "extend"  # somebody gave it more to do


def _transitions() -> dict[tuple[JobState, Trigger], JobState]:
    s, t = JobState, Trigger
    table = {
        (s.QUEUED, t.ADMIT): s.STARTING,
        (s.QUEUED, t.REFUSE): s.FAILED,
        (s.QUEUED, t.CANCEL): s.CANCELLED,
        (s.QUEUED, t.HOLD): s.HELD,
        (s.HELD, t.RELEASE): s.QUEUED,
        (s.HELD, t.REFUSE): s.FAILED,
        (s.HELD, t.CANCEL): s.CANCELLED,
        (s.STARTING, t.CLAIM): s.RUNNING,
        (s.RUNNING, t.SUCCEED): s.SUCCEEDED,
        (s.FAILED, t.RETRY): s.QUEUED,
        (s.CANCELLED, t.RETRY): s.QUEUED,
    }
    for running in (s.STARTING, s.RUNNING):
        table[running, t.FAIL] = s.FAILED
        table[running, t.REQUEUE] = s.QUEUED
        table[running, t.RESIZE] = s.QUEUED
        table[running, t.PREEMPT] = s.QUEUED
        table[running, t.CANCEL] = s.CANCELLING
    for final in FINAL:
        table[final, t.EXTEND] = s.QUEUED
    for going in (s.HELD, s.QUEUED, s.STARTING, s.RUNNING):  # the attempt that runs is followed by another one
        table[going, t.EXTEND] = going
    # Cancel wins: once it was asked for, every way out leads to CANCELLED, a success that comes too late included.
    for over in (t.SUCCEED, t.FAIL, t.REQUEUE, t.RESIZE, t.PREEMPT, t.STOP):
        table[s.CANCELLING, over] = s.CANCELLED
    # Asking twice is harmless.
    table[s.CANCELLING, t.CANCEL] = s.CANCELLING
    table[s.CANCELLED, t.CANCEL] = s.CANCELLED
    return table


TRANSITIONS: Mapping[tuple[JobState, Trigger], JobState] = MappingProxyType(_transitions())


def next_state(state: JobState, trigger: Trigger) -> JobState:
    """Return where `trigger` leads from `state`. Raises ConflictError that names the states in which it is allowed."""
    following = TRANSITIONS.get((state, trigger))
    if following is None:
        allowed = ", ".join(sorted(source for source, what in TRANSITIONS if what is trigger))
        raise ConflictError(f"cannot {trigger} a job that is {state}; allowed when it is {allowed}")
    return following


class AttemptState(StrEnum):
    STARTING = "STARTING"  # admitted; a Ray job is or will be submitted for it
    RUNNING = "RUNNING"  # claimed by a runner that holds the lease
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"  # the runner said so
    LOST = "LOST"  # the lease ended, or Ray lost it before a runner claimed it
    CANCELLED = "CANCELLED"
    REQUEUED = "REQUEUED"  # it was asked to give way: the job goes on in another one, at no cost

    @property
    def open(self) -> bool:
        return self in (AttemptState.STARTING, AttemptState.RUNNING)


MAIN_LABEL = "main"  # the label of the token that `vaesvc token add NAME` makes
MAX_ATTEMPT = 2**31 - 1  # attempts of a job: what the database's column holds


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(Record):
    """A gang: `workers` equal bundles that start together or not at all, plus the driver's own share.

    An elastic gang, written `workers: {min: 2, max: 4}`, starts with as many of `workers` as there is room for, at
    least `min_workers`.
    """

    workers: int = Field(default=1, ge=1, le=4096)
    min_workers: int | None = Field(
        default=None, ge=1, le=4096, description="start with so many where there is no room for all; none: all or none"
    )
    cpus_per_worker: float = Field(default=1.0, gt=0, le=10_000, description="CPU cores")
    gpus_per_worker: float = Field(default=0.0, ge=0, le=1_000, description="GPUs")
    memory_per_worker: int = Field(default=0, ge=0, le=2**50, description="bytes; 0 leaves it to the cluster")

    @model_validator(mode="before")
    @classmethod
    def _range(cls, given: Any) -> Any:
        """Take `workers: {min: 2, max: 4}` for `workers: 4, min_workers: 2`."""
        if not isinstance(given, (dict, Mapping)) or not isinstance(given.get("workers"), (dict, Mapping)):
            return given
        span = given["workers"]
        if set(span) != {"min", "max"}:
            raise ValueError("workers: a number, or a range with both its ends: {min: 2, max: 4}")
        if given.get("min_workers") is not None:
            raise ValueError("min_workers: `workers` names it already, as `min`")
        return {**given, "workers": span["max"], "min_workers": span["min"]}

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers: {self.min_workers} is more than the {self.workers} workers of the gang")
        return self

    @property
    def fewest(self) -> int:
        """Return how many workers it takes to start."""
        return self.workers if self.min_workers is None else self.min_workers

    def sized(self, workers: int) -> Resources:
        """Return the gang of so many of these workers: itself, where it is one of so many."""
        if self.min_workers is None and workers == self.workers:
            return self
        return self.model_copy(update={"workers": workers, "min_workers": None})

    def __hash__(self) -> int:  # plans look kinds of gangs up all the time, and pydantic's own are slow
        return hash(_AMOUNTS(self))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Resources) and _AMOUNTS(self) == _AMOUNTS(other))

    def total(self) -> dict[str, float]:
        """Return what the gang takes from the cluster, in Ray's resource names (memory in bytes)."""
        asked = {"CPU": self.cpus_per_worker, "GPU": self.gpus_per_worker, "memory": float(self.memory_per_worker)}
        return {name: self.workers * amount for name, amount in asked.items() if amount > 0}

    def bundle(self) -> dict[str, float]:
        """Return one worker's share, in Ray's resource names (memory in bytes)."""
        return {name: amount / self.workers for name, amount in self.total().items()}


_AMOUNTS = attrgetter("workers", "min_workers", "cpus_per_worker", "gpus_per_worker", "memory_per_worker")


class Capacity(Record):
    """What the cluster has. `nodes` lists each node's total resources, because a bundle must fit on one node."""

    nodes: tuple[dict[str, float], ...] = ()

    @cached_property
    def kinds(self) -> list[tuple[dict[str, float], int]]:
        """Return each kind of node with how many of it there are."""
        return [(dict(kind), count) for kind, count in Counter(tuple(sorted(n.items())) for n in self.nodes).items()]

    def total(self) -> dict[str, float]:
        names = {name for node in self.nodes for name in node}
        return {name: sum(node.get(name, 0.0) for node in self.nodes) for name in sorted(names)}


class Checkpoint(Record):
    """A committed checkpoint. Only rows of this kind are ever resumed from."""

    attempt: int = Field(  # the number of the one that wrote it
        ge=0,
        le=MAX_ATTEMPT,
        validation_alias=AliasChoices("attempt", "number"),  # as version 0.1 wrote it
    )
    step: int = Field(ge=0, le=2**63 - 1)
    uri: str = Field(max_length=1000)  # s3://bucket/prefix/ that holds manifest.json
    manifest_sha256: str = Field(max_length=64)
    bytes: int = Field(ge=0, le=2**63 - 1)
    metrics: dict[str, float] = Field(default_factory=dict)
    best: bool = False
    committed_at: float = 0.0  # seconds since 1970, UTC


def submission_id(job_id: str, number: int) -> str:
    """Return Ray's name for an attempt."""
    return f"{job_id}-{number}"


class Attempt(Record):
    job_id: str
    number: int
    state: AttemptState
    runner_id: str | None = None  # set once, by the runner that claimed it
    submitted_at: float | None = None  # handed to Ray
    started_at: float | None = None  # claimed
    ended_at: float | None = None
    lease_until: float | None = None
    stop_until: float | None = None  # it gives way, and is killed then
    error: str | None = None
    log_uri: str | None = None
    created_at: float = 0.0

    @property
    def submission_id(self) -> str:
        """Return Ray's name for this attempt: submitting it twice is harmless."""
        return submission_id(self.job_id, self.number)


class Job(Record):
    id: str
    name: str
    kind: str
    state: JobState
    priority: int
    owner: str
    spec: dict[str, Any]  # the resolved spec, as data: `service.kinds.parse`
    resources: Resources
    attempt: int = 0  # the number of the newest; 0 before the first
    failures: int = 0  # attempts that count against the retry budget
    outages: int = 0  # attempts lost in a row to the machines, not to the job: they do not count against it
    max_attempts: int = 3
    not_before: float = 0.0  # backoff: not admitted earlier (seconds since 1970)
    position: int | None = None  # in the queue, 1 is next; None when not queued
    reason: str | None = None  # why it waits, or why it failed
    progress: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] = Field(default_factory=dict)
    run_id: str | None = None  # MLflow's run
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    cancel_requested_at: float | None = None  # while CANCELLING, and after it
    array: str | None = None
    expected_start: tuple[float, float] | None = None  # between these (seconds since 1970), four times of five
    states: dict[str, int] = Field(default_factory=dict)  # of its array's jobs, where it stands for them all in a list


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: Any) -> str:
    """Return the value as JSON in its one form: sorted keys, no blanks, no NaN."""
    return _CANONICAL.encode(value)


def spec_sha256(spec: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(spec).encode()).hexdigest()


class Event(Record):
    """One line of the append-only log."""

    id: int
    job_id: str
    attempt: int | None
    at: float
    kind: str  # submitted, admitted, refused, submitted_to_ray, claimed, run_opened, checkpoint, finished, lost,
    #            cancel_requested, cancelled, retried, stop_requested, extended, log,
    #            registered, followed, not_followed, held, released, reprioritized, stop_asked, collected,
    #            preempted, resized, drained;
    #            where the job's state changed, detail has "from" and "to"
    detail: dict[str, Any] = Field(default_factory=dict)


class TokenInfo(Record):
    """A user's token, without the token: only its SHA-256 is kept."""

    name: str  # the user: the owner of what it submits
    created_at: float
    role: Role = Role.USER  # the user's
    label: str = MAIN_LABEL  # which of the user's tokens it is
    scopes: tuple[Scope, ...] | None = None  # none: whatever the role may
    expires_at: float | None = None  # seconds since 1970; none: never
    replaced: bool = False  # by a newer one of this label; it is taken until it expires

    def may(self, scope: Scope) -> bool:
        """Return whether both the user's role and the token's scopes hold `scope`."""
        return scope in SCOPES[self.role] and (self.scopes is None or scope in self.scopes)

    def held(self) -> tuple[Scope, ...]:
        """Return everything that it may."""
        return tuple(scope for scope in Scope if self.may(scope))

    @property
    def admin(self) -> bool:
        return self.may(Scope.ADMIN)

    @property
    def operator(self) -> bool:
        """Return whether it may see everything and change everybody's jobs."""
        return self.may(Scope.OPERATE)
