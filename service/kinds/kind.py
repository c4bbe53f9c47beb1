"""What a kind of job is: how its spec is read, what the queue is told of it, what its attempt does, how it is shown.

    KIND = Kind(kind="count-parameters", spec=CountSpec, run=run)

is a whole one, as `service.kinds.KINDS` takes it from any installed package (entry point `job-kind.NAME` of the group
`vaesvc.parts`) or from a job's own code. Everything but `spec` and `run` has a default, which is in `plain`.

A piece is an object or where it is, "module:name": then it is loaded when it is first asked for. So a list of kinds
costs nothing, and who only lists jobs loads neither torch nor Ray.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import APIRouter

    from service.artifacts import Artifacts
    from service.attempt.assignment import Assignment
    from service.attempt.best import Choice
    from service.kinds.house import House
    from service.queue.jobs import Checkpoint, Job, Record
    from service.queue.policy import Policy
    from service.specs.given import Given
    from service.specs.job import JobSpec
    from service.wire import JobView

    Recognise = Callable[[Given], bool]
    Resolve = Callable[[Given, Sequence[str], Mapping[str, Any], Callable[[str], None], type[JobSpec]], JobSpec]
    Run = Callable[[Assignment, Any], dict[str, Any]]
    Choose = Callable[[Job, Mapping[str, Any], Callable[[], Sequence[Checkpoint]]], Choice | None]
    Follow = Callable[[str, Job, House, Path], None]
    Settle = Callable[[Any, House], JobSpec]
    Trained = Callable[[Job, Artifacts], Mapping[str, Choice]]

T = TypeVar("T")
PLAIN = "service.kinds.plain"


def loaded(piece: T | str) -> T:
    """Return the object that a piece is, or that lies where it says, "module:name"."""
    if not isinstance(piece, str):
        return piece
    module, _, name = piece.partition(":")
    part: T = operator.attrgetter(name)(importlib.import_module(module))
    return part


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command or a group of commands of the command line. app: a Typer application, or one function."""

    help: str
    app: Any


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """A way in which the spec of a job may change after it was submitted.

    request: its fields, a `Record`
    apply:   (spec, request) -> the spec from then on. UsageError where that would be another job.
    over:    only of a job that is over; it goes back into the line. Else a running attempt is followed by another one.
    """

    request: type[Record] | str
    apply: Callable[[Any, Any], JobSpec] | str
    over: bool = False


@dataclass(frozen=True, kw_only=True)
class Next:
    """How jobs of a kind follow one that has succeeded, as `then` of that one's spec asks.

    read:  (the spec that it stands in, what was written) -> what is kept of it, whole. UsageError
    specs: (the job that has succeeded, what was kept, what the service has) -> the specs to submit, not resolved yet;
           asked again, the same in the same order
    """

    read: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] | str
    specs: Callable[[Job, Mapping[str, Any], House], Sequence[Mapping[str, Any]]] | str


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of job.

    spec:       the class of its spec, a `JobSpec` whose `kind` is this one's
    run:        (assignment, spec) -> the job's result, in the attempt's driver, joined to the Ray cluster. `stopped` in
                it: the run was cancelled. Other keys that the service knows: metrics, pictures, notes, timings.
    noun:       what such a job is called in a sentence: "a study"
    local:      the command that does the same without a service
    shows:      the command that shows it best, and in `shown` what that shows
    remarks:    what more its page in MLflow says about it
    recognises: whether what somebody wrote, without a `kind`, means this one
    resolve:    (given, changes, fields, note, spec) -> the whole spec. UsageError with one line for each mistake.
    settle:     (spec, what the service has) -> the spec as it is submitted: what it names is looked up, written down
                exactly, and checked. Beside the service's own answers nothing may be trusted. None: it names nothing
    follows:    how jobs of this kind follow others; None: they do not
    policy:     spec -> what the queue is told
    amendments: by name; who sees them is told by `Policy.amendments`
    choose:     (job, result, checkpoints) -> what is registered as its model; None: nothing
    trained:    (job, artifacts) -> every model that it trained and has noted, by name, where those are several
    config:     a resolved spec, as data -> the `TrainConfig` that it is about, as data; empty: about none
    view:       (job, artifacts) -> tables for people, and the same for programs
    progress:   a progress report -> (label with its unit, value) of everything that it says
    outcome:    a job's result -> lines of text
    follow:     (MLflow's address, job, what the service has, folder): does what is left to be done in MLflow when the
                job is over
    plan:       prints what a job would do and cost, for `submit --dry-run`; None: its spec is printed
    commands:   of the command line, by name
    routes:     adds calls of the API to those of one job: (those that read it, those that change it)
    """

    kind: str
    spec: type[JobSpec] | str
    run: Run | str
    noun: str = ""
    local: str = ""
    shows: str = "vaesvc show {job}"
    shown: str = "state, attempts, checkpoints, result"
    remarks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    recognises: Recognise | str | None = None
    resolve: Resolve | str = f"{PLAIN}:resolve"
    settle: Settle | str | None = None
    follows: Next | None = None
    policy: Callable[[Any], Policy] | str = f"{PLAIN}:policy"
    amendments: Mapping[str, Amendment] = field(default_factory=lambda: MappingProxyType({}))
    choose: Choose | str = f"{PLAIN}:choose"
    trained: Trained | str = f"{PLAIN}:trained"
    config: Callable[[Mapping[str, Any]], Mapping[str, Any]] | str = f"{PLAIN}:config"
    view: Callable[[Job, Artifacts], JobView] | str = f"{PLAIN}:view"
    progress: Callable[[Mapping[str, Any]], list[tuple[str, str]]] | str = f"{PLAIN}:progress"
    outcome: Callable[[Mapping[str, Any]], list[str]] | str = f"{PLAIN}:outcome"
    follow: Follow | str | None = None
    plan: Callable[[Any], None] | str | None = None
    commands: Mapping[str, Command] = field(default_factory=lambda: MappingProxyType({}))
    routes: Callable[[APIRouter, APIRouter], None] | str | None = None

    @property
    def called(self) -> str:
        """Return what such a job is, as a noun with its article."""
        return self.noun or f"a job of kind {self.kind}"

    def read(self, data: Mapping[str, Any]) -> JobSpec:
        """Return a spec that was resolved before, as the queue keeps it."""
        from vae_models.measures import STORED

        spec: JobSpec = loaded(self.spec).model_validate(data, context=STORED)
        return spec


def wrong(part: Any) -> str | None:
    """Return what is wrong with something offered as a kind of job; None for a proper one."""
    if not isinstance(part, Kind):
        return f"{type(part).__name__} is no service.kinds.kind.Kind"
    if not isinstance(part.spec, str):
        from service.specs.job import JobSpec

        if not (isinstance(part.spec, type) and issubclass(part.spec, JobSpec)):
            return "its spec is no class below service.specs.job.JobSpec"
        if part.spec.model_fields["kind"].default != part.kind:
            return f"its spec's `kind` should be {part.kind!r} unless it is given"
    if not isinstance(part.run, str) and not callable(part.run):
        return "its `run` cannot be called"
    return None
