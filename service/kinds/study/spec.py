"""The spec of a study, many configurations as one job, and how what people write becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from service import kinds, spec_schema, spec_text
from service.errors import UsageError
from service.kinds.study import KIND
from service.kinds.train.spec import batch_misfits
from service.mistakes import listed
from service.spec_errors import explain
from service.specs import overrides
from service.specs.given import Given, Source
from service.specs.job import JobSpec, refuse_large, with_name
from tuning.space import Values, with_values
from tuning.study import StageConfig, StudyConfig, planned_steps, trials
from vae_models.config.train import TrainConfig
from vae_models.measures import following
from vae_models.open_union import Foreign
from vae_models.parts import PartError

LONGEST_SECONDS = 10 * 366 * 86_400.0  # ten years
SEARCHES = "searches/"  # what a published search's name begins with


class StudySpec(JobSpec):
    """kind: study. A search; `resources.workers` packs of its trials are trained at a time, each in one process
    (of a worker with several GPUs: one for each).

    With `workers_per_trial` above 1 a trial has a group of processes instead of a place in a pack.
    """

    kind: Literal["study"] = "study"
    study: StudyConfig
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_SECONDS,
        description="after so long it ends with what it has found out; counted from its start, or from its extension",
    )
    lanes: int | None = Field(
        default=None, ge=1, le=4096, description="configurations to fuse at a time, 1: in turn; none: measured"
    )
    workers_per_trial: int = Field(
        default=1, ge=1, le=4096,
        description="above 1: every trial is trained by a gang of so many of `resources.workers`",
    )  # fmt: skip
    keep: Literal["winner", "all"] = Field(
        default="winner", description="whose weights are kept: the winner's, or every trial's, to be evaluated"
    )

    @model_validator(mode="after")
    def _groups_are_possible(self) -> StudySpec:
        if self.resources.min_workers is not None:
            raise ValueError("resources.min_workers: a study's gang is all or none: give `workers` one number")
        if self.workers_per_trial == 1:
            return self
        group, workers = self.workers_per_trial, self.resources.workers
        if workers % group:
            raise ValueError(f"workers_per_trial: {group} does not divide resources.workers={workers}")
        if group > self.study.base.batch_size:
            raise ValueError(
                f"workers_per_trial: {group} is more than batch_size={self.study.base.batch_size}, and a worker needs "
                "at least one image of every batch"
            )
        pruned = [stage.name for stage in self.study.stages if not stage.foreign and stage.pruning.prunes]
        if pruned:
            raise ValueError(
                f"workers_per_trial: trials of several workers are not compared while they train; stage {pruned[0]} "
                "should have no pruning"
            )
        if self.lanes not in (None, 1):
            raise ValueError(
                f"workers_per_trial: trials of several workers are not fused; lanes={self.lanes} cannot be"
            )
        return self


def recognises(given: Given) -> bool:
    """Return whether it is a study's: a search's name, or what has `stages` or `study`."""
    if given.called is not None:
        return given.called.startswith(SEARCHES)
    return "stages" in given.fields or "study" in given.fields


def config(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration that a study starts from, of a resolved spec as data."""
    base: Mapping[str, Any] = data["study"]["base"]
    return base


def resolve_given(
    given: Given,
    changes: Sequence[str],
    fields: Mapping[str, Any],
    note: Callable[[str], None],
    spec: object = None,
) -> StudySpec:
    """Return a study's whole spec, every default filled in. Raises UsageError with one line for each mistake.

    given:   a search's name; a file or a mapping with the fields of `StudyConfig` (at the top, or under `study`) and of
             the spec. `base` may be a recipe's name, or a mapping with `recipe` and paths that change it.
    changes: `path=value`: of a stage (rates.repeats=[0,1]), of the spec (resources.workers=2), else of the base
    note:    gets a line about each thing that was made good and is no mistake
    """
    return _resolve(_fields(given), changes, {k: v for k, v in fields.items() if v is not None}, note)


def _fields(given: Given) -> dict[str, Any]:
    """Return the spec's fields, with the study's own under `study`."""
    if given.called is not None:
        return {"recipe": given.called, "study": _published(given.called), "name": given.called}
    fields = dict(given.fields)
    if "stages" in fields:
        fields["study"] = {key: fields.pop(key) for key in StudyConfig.model_fields if key in fields}
    if given.name is not None:
        fields.setdefault("name", given.name)
    return fields


def _published(name: str) -> dict[str, Any]:
    from tuning import searches

    published = searches.SEARCHES
    if name in published.all():
        try:
            return published.made(name, lambda search: search.build()).model_dump(mode="json")
        except PartError as error:
            raise UsageError(str(error)) from None
    near = spec_schema.nearest(name, list(published.all()))
    hint = f"; did you mean {near}?" if near else "."
    every = f"All {len(published.all())}: vaesvc searches{published.not_loaded()}"
    raise UsageError(f"there is no search {name}{hint} {every}")


def _resolve(
    given: dict[str, Any], changes: Sequence[str], fields: Mapping[str, Any], note: Callable[[str], None]
) -> StudySpec:
    study = given.get("study")
    if not isinstance(study, Mapping):
        raise UsageError(f"study: {spec_schema.show(study)} is not allowed; it should be a mapping: base and stages")
    try:
        whole = _overridden({**given, "study": _with_base(study)}, changes)
        for name, value in fields.items():
            whole[name] = {**whole.get(name, {}), **value} if isinstance(value, Mapping) else value
        if truths := list(spec_schema.truths_for_numbers(StudySpec, whole)):
            raise ValueError("\n".join(f"{path}: true and false are not numbers" for path in truths))
        suggested = given.get("recipe") if isinstance(given.get("recipe"), str) else "study"
        spec = StudySpec.model_validate(with_name({"kind": "study", **whole}, str(suggested)))
    except ValidationError as error:
        raise UsageError(listed(explain(error, StudySpec))) from None
    except ValueError as error:
        raise UsageError(listed(str(error).splitlines())) from None
    if problems := batch_misfits(spec.study.base, "study.base"):
        raise UsageError(listed(problems))
    refuse_large(spec)
    for line in _left_out(whole["study"], spec.study):
        note(line)
    return spec


def _left_out(given: Mapping[str, Any], study: StudyConfig) -> Iterator[str]:
    """Yield a line for each path whose values were the same run more than once."""
    for written, stage in zip(given["stages"], study.stages, strict=True):
        for path, domain in stage.space.items():
            values = written["space"][path]
            values = values.get("values") if isinstance(values, Mapping) else values
            if isinstance(domain, Values) and isinstance(values, list | tuple) and len(values) > len(domain.values):
                kept = ", ".join(spec_schema.show(value) for value in domain.values)
                yield f"stage {stage.name}: {path}: equal values are one run, trained once: {kept}"


def _with_base(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return the study with its `base` whole: a file may give a recipe's name, or `recipe` and paths that change it."""
    from vae_models.recipes import catalogue

    base = study.get("base")
    name = base if isinstance(base, str) else base.get("recipe") if isinstance(base, Mapping) else None
    if name is None:
        return dict(study)
    if name not in catalogue():
        near = spec_schema.nearest(str(name), list(catalogue()))
        hint = f"; did you mean {near}?" if near else "."
        raise UsageError(f"base: there is no recipe {name}{hint} All {len(catalogue())}: vaesvc recipes")
    changes = {path: value for path, value in base.items() if path != "recipe"} if isinstance(base, Mapping) else {}
    return {**study, "base": with_values(catalogue()[str(name)].build(), changes).model_dump(mode="json")}


def _overridden(whole: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    study, problems = dict(whole["study"]), list[str]()
    given = study.get("stages")
    listed_stages = given if isinstance(given, list | tuple) else ()
    stages = [dict(stage) if isinstance(stage, Mapping) else stage for stage in listed_stages]
    names = [stage.get("name") for stage in stages if isinstance(stage, dict)]
    base: dict[str, Any] = {}
    of_stages: dict[str, dict[str, Any]] = {}
    for override in overrides.split(changes, problems, example="optimizer.clip_norm=10"):
        first, *rest = override.path
        try:
            if first in names and rest:
                of_stages.setdefault(first, {})[".".join(rest)] = spec_text.parse_value(override.text)
            elif first in StudySpec.model_fields and first not in ("kind", "recipe", "study"):
                overrides.put(whole, override.path, overrides.value(StudySpec, override.path, override.text, whole))
            else:
                base[override.written] = overrides.value(
                    TrainConfig, override.path, override.text, study.get("base", {})
                )
        except ValueError as error:
            problems.append(overrides.not_a_value(override, error))
    if problems:
        raise UsageError(listed(problems))
    if stages:
        study["stages"] = [_changed(stage, of_stages) for stage in stages]
    if base:
        study["base"] = with_values(TrainConfig.model_validate(study.get("base")), base).model_dump(mode="json")
    return {**whole, "study": study}


def _changed(stage: Any, changes: Mapping[str, Mapping[str, Any]]) -> Any:
    if not isinstance(stage, Mapping) or stage.get("name") not in changes:
        return stage
    change = changes[stage["name"]]
    return following(stage, change) | dict(change)


def resolve_study(source: Source, changes: Sequence[str] = (), **fields: Any) -> StudySpec:
    """Do as `service.kinds.resolve`, for a study. Raises UsageError for another kind of job."""
    spec: StudySpec = kinds.resolve_as(KIND, source, changes, **fields)
    return spec


def drawn_stage(study: StudyConfig, name: str | None) -> tuple[str, int]:
    """Return name and number of assignments of the stage that draws at random: of this name, or the last such one for
    None.

    Of a stage that a searcher of the job's own code draws, which this process lacks, `trials` is believed where the
    stage is named: whoever asks has that code and has looked, and so does the attempt before it trains.
    """
    known = [stage for stage in study.stages if not isinstance(stage.search, Foreign)]
    drawn = {stage.name: stage.search.planned(stage.space) for stage in known if stage.search.more}
    drawn |= {stage.name: number for stage in study.stages if stage.name == name and (number := _foreign_trials(stage))}
    if not drawn or (name is not None and name not in drawn):
        what = f"stage {name}" if name is not None else "this study"
        others = f"; these stages do: {', '.join(drawn)}" if drawn else ": a grid, or a population, is complete"
        raise UsageError(f"{what} does not draw at random, so it cannot be given more trials{others}")
    chosen = name or list(drawn)[-1]
    return chosen, drawn[chosen]


def _foreign_trials(stage: StageConfig) -> int:
    """Return the `trials` of a search that is foreign here; 0 of any other, and where it has none."""
    trials = getattr(stage.search, "trials", None) if isinstance(stage.search, Foreign) else None
    return trials if isinstance(trials, int) and not isinstance(trials, bool) else 0


def needs_code(study: StudyConfig, name: str | None) -> bool:
    """Return whether a searcher that is foreign here draws the stage of this name; for None, any stage."""
    return any(isinstance(stage.search, Foreign) for stage in study.stages if name in (None, stage.name))


def extended(begun: StudySpec, total: int, name: str | None) -> StudySpec:
    """Return the spec with `total` assignments of `drawn_stage`; as it is where it has as many."""
    name, present = drawn_stage(begun.study, name)
    plain = begun.model_dump(mode="json")
    stage = next(each for each in plain["study"]["stages"] if each["name"] == name)
    stage["search"]["trials"] = max(total, present)
    try:
        return StudySpec.model_validate(plain)
    except ValidationError as error:
        raise UsageError(listed(explain(error, StudySpec))) from None


def cost(study: StudyConfig) -> dict[str, int]:
    """Return stage -> optimizer steps of all its trials, none stopped early; later stages as if the first assignment
    won."""
    by_stage, base = {}, study.base
    for stage in study.stages:
        every = list(trials(stage, base))
        steps = sum(planned_steps(t.config) for t in every)
        by_stage[stage.name] = round(steps * stage.planned() / len(every))
        base = every[0].config
    return by_stage
