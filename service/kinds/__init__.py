"""The kinds of jobs, by name. Who queues, shows or tracks jobs asks here and names none.

    train/     one run of the training loop on a gang of workers
    study/     a search: many configurations, and which of them won
    evaluate/  what the papers measure about a trained model

A kind that is not installed here may come with the job's own code (`code` in the spec): the fields of every job are
checked, the rest is kept as it is, and only the attempt, which has the code, reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from service.kinds.kind import Kind, loaded, wrong
from vae_models.parts import Seam

if TYPE_CHECKING:
    from service.kinds.house import House
    from service.queue.policy import Policy
    from service.specs.given import Given, Source
    from service.specs.job import JobSpec

OURS = (
    "service.kinds.train:KIND",
    "service.kinds.study:KIND",
    "service.kinds.evaluate:KIND",
)  # the first: what is meant where nothing says another
KINDS: Seam[Kind] = Seam("job-kind", ours=OURS, check=wrong, summary="what a job does")


def named(kind: str) -> Kind:
    """Return the kind of this name; if it is not installed, one of defaults, whose spec is the fields of every job."""
    return KINDS.find(kind) or Kind(kind=kind, spec="service.specs.job:OpenSpec", run="service.kinds.plain:run")


def parse(data: Mapping[str, Any]) -> JobSpec:
    """Return a spec that was resolved before, as the queue keeps it."""
    return named(str(data.get("kind"))).read(data)


def policy(spec: JobSpec) -> Policy:
    """Return what the queue needs to know of a job's kind."""
    return loaded(named(spec.kind).policy)(spec)


def config(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a resolved spec's `TrainConfig`, as data; empty where the job is about none."""
    return loaded(named(str(data.get("kind"))).config)(data)


def _silent(text: str) -> None:
    """Drop the text, for callers who have no reader for it."""


def resolve(
    source: Source, changes: Sequence[str] = (), *, note: Callable[[str], None] = _silent, **fields: Any
) -> JobSpec:
    """Return the whole spec of what somebody wrote, defaults filled in. Raises UsageError, a line for each mistake.

    source:  a name, a file or a mapping; its `kind` says how the rest is read, or what it holds does
    changes: `path=value`
    note:    gets a line about each thing that was made good and is no mistake
    fields:  of the spec, None meaning not given
    """
    from service.code.reference import absent
    from service.specs import given
    from vae_models.open_union import foreign_allowed

    read = given.read(source)
    code = fields.get("code") or read.fields.get("code")
    kind = meant(read, own_code=code is not None)
    with foreign_allowed(absent(code)):
        return _with_next(loaded(kind.resolve)(read, changes, fields, note, loaded(kind.spec)))


def _with_next(spec: JobSpec) -> JobSpec:
    """Return the spec with what follows it read by the kinds of that. Raises UsageError."""
    from service.errors import UsageError

    following = [kind for kind, each in KINDS.all().items() if each.follows is not None]
    kept = []
    for given in spec.then:
        kind = named(str(given.get("kind")))
        if kind.follows is None:
            raise UsageError(f"then: {kind.kind} is not allowed; allowed: {', '.join(following)}")
        kept.append(dict(loaded(kind.follows.read)(spec, given)))
    return spec if kept == list(spec.then) else spec.model_copy(update={"then": tuple(kept)})


def settled(spec: JobSpec, house: House) -> JobSpec:
    """Return the spec as it is submitted: what it names is looked up in the service, and checked.

    Raises UsageError and NotFoundError for what is not there, or not the asker's to see.
    """
    settle = named(spec.kind).settle
    return spec if settle is None else loaded(settle)(spec, house)


def resolve_as(kind: Kind, source: Source, changes: Sequence[str] = (), **fields: Any) -> Any:
    """Do as `resolve`, for one kind of job only. Raises UsageError for another: what it is, and what takes it."""
    from service.errors import UsageError
    from service.specs import given

    other = meant(given.read(source))
    if other is kind:
        return resolve(source, changes, **fields)
    name = "the spec" if isinstance(source, Mapping) else str(source)
    here = f", {other.local} {name} runs it here" if other.local else ""
    raise UsageError(f"{name} is {other.called}, not {kind.called}: vaesvc submit {name} queues it{here}")


def meant(given: Given, *, own_code: bool = False) -> Kind:
    """Return the kind of a written spec. Raises UsageError for one that does not exist, unless the job brings it."""
    from service.errors import UsageError

    name = given.fields.get("kind")
    if isinstance(name, str):
        if own_code or KINDS.find(name) is not None:
            return named(name)
        raise UsageError(f"kind: there is no job-kind {name!r}{KINDS.hint(name)}")
    for kind in KINDS.all().values():
        if kind.recognises is not None and loaded(kind.recognises)(given):
            return kind
    return KINDS.all()[KINDS.kinds()[0]]
