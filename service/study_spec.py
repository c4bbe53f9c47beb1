"""Study specs: many configurations as one job. `resolve_job` reads what people write, of either kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from service import spec, spec_schema, spec_text
from service.errors import UsageError
from service.mistakes import listed
from service.spec import JobSpec, TrainSpec
from service.spec_errors import explain
from tuning.space import Values, with_values
from tuning.study import NoPruning, OptunaSearch, RandomSearch, StudyConfig, trials
from vae_models.config.train import TrainConfig
from vae_models.measures import STORED, following

LONGEST_SECONDS = 10 * 366 * 86_400.0  # ten years
SEARCHES = "searches/"  # what a published search's name begins with


class StudySpec(JobSpec):
    """kind: study. A search; `resources.workers` packs of its trials are trained at a time, each in one process.

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
        description="above 1: every trial is trained by a Ray Train group of so many of `resources.workers`",
    )  # fmt: skip

    @model_validator(mode="after")
    def _groups_are_possible(self) -> StudySpec:
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
        pruned = [stage.name for stage in self.study.stages if not isinstance(stage.pruning, NoPruning)]
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


def parse(data: Mapping[str, Any]) -> TrainSpec | StudySpec:
    """A spec that was resolved before, as the queue keeps it."""
    if data.get("kind") == "study":
        return StudySpec.model_validate(data, context=STORED)
    return TrainSpec.model_validate(data, context=STORED)


def train_config(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a resolved spec, as data: the configuration that is trained, or the one that a study starts from."""
    found: Mapping[str, Any] = data["study"]["base"] if data.get("kind") == "study" else data["train"]
    return found


def _silent(text: str) -> None:
    """For those who have nobody to tell."""


def resolve_job(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    note: Callable[[str], None] = _silent,
    **fields: Any,
) -> TrainSpec | StudySpec:
    """`spec.resolve`, and the same for studies: a search's name, a file or mapping with `stages` or `study`.

    note: gets a line about each thing that was made good and is no mistake.
    """
    given = _study_in(source)
    if given is None:
        return spec.resolve(source, overrides, **fields)
    return _resolve(given, overrides, {name: value for name, value in fields.items() if value is not None}, note)


def resolve_study(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    note: Callable[[str], None] = _silent,
    **fields: Any,
) -> StudySpec:
    """The whole spec of a study, every default filled in. UsageError has one line for each mistake.

    source:    a search's name; a file or a mapping with the fields of `StudyConfig` (at the top, or under `study`) and
               of the spec. `base` may be a recipe's name, or a mapping with `recipe` and paths that change it.
    overrides: `path=value`: of a stage (rates.repeats=[0,1]), of the spec (resources.workers=2), else of the base
    """
    found = resolve_job(source, overrides, note=note, **fields)
    if not isinstance(found, StudySpec):
        raise UsageError(f"{found.name} is one run, not a study; all searches: vaesvc study list")
    return found


def _study_in(source: str | Path | Mapping[str, Any]) -> dict[str, Any] | None:
    """The spec of a study as it was given, unless the source is something else."""
    if isinstance(source, Mapping):
        spec_text.refuse_depth(source)
        given, name = dict(source), None
    elif isinstance(source, Path) or Path(source).suffix in spec_text.SUFFIXES:
        given, name = spec_text.read_file(Path(source)), Path(source).stem
    elif source.startswith(SEARCHES):
        return {"recipe": source, "study": _published(source), "name": source}
    else:
        return None
    if "stages" in given:
        config = {key: given.pop(key) for key in StudyConfig.model_fields if key in given}
        given["study"] = config
    if given.get("kind") != "study" and "study" not in given:
        return None
    if name is not None:
        given.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-"))
    return given


def _published(name: str) -> dict[str, Any]:
    from tuning.searches import catalogue

    if name in catalogue():
        return catalogue()[name].build().model_dump(mode="json")
    near = spec_schema.nearest(name, list(catalogue()))
    hint = f"; did you mean {near}?" if near else "."
    raise UsageError(f"there is no search {name}{hint} All {len(catalogue())}: vaesvc study list")


def _resolve(
    given: dict[str, Any], overrides: Sequence[str], fields: Mapping[str, Any], note: Callable[[str], None]
) -> StudySpec:
    study = given.get("study")
    if not isinstance(study, Mapping):
        raise UsageError(f"study: {spec_schema.show(study)} is not allowed; it should be a mapping: base and stages")
    try:
        whole = _overridden({**given, "study": _with_base(study)}, overrides)
        for name, value in fields.items():
            whole[name] = {**whole.get(name, {}), **value} if isinstance(value, Mapping) else value
        if truths := list(spec_schema.truths_for_numbers(StudySpec, whole)):
            raise ValueError("\n".join(f"{path}: true and false are not numbers" for path in truths))
        suggested = given.get("recipe") if isinstance(given.get("recipe"), str) else "study"
        found = StudySpec.model_validate(spec.with_name({"kind": "study", **whole}, str(suggested)))
    except ValidationError as error:
        raise UsageError(listed(explain(error, StudySpec))) from None
    except ValueError as error:
        raise UsageError(listed(str(error).splitlines())) from None
    if problems := spec.batch_misfits(found.study.base, "study.base"):
        raise UsageError(listed(problems))
    spec.refuse_large(found)
    for line in _left_out(whole["study"], found.study):
        note(line)
    return found


def _left_out(given: Mapping[str, Any], found: StudyConfig) -> Iterator[str]:
    """A line for each path whose values were the same run more than once."""
    for written, stage in zip(given["stages"], found.stages, strict=True):
        for path, domain in stage.space.items():
            values = written["space"][path]
            values = values.get("values") if isinstance(values, Mapping) else values
            if isinstance(domain, Values) and isinstance(values, list | tuple) and len(values) > len(domain.values):
                kept = ", ".join(spec_schema.show(value) for value in domain.values)
                yield f"stage {stage.name}: {path}: equal values are one run, trained once: {kept}"


def _with_base(study: Mapping[str, Any]) -> dict[str, Any]:
    """In a file `base` may be a recipe's name, or a mapping with `recipe` and paths that change it."""
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


def _overridden(whole: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    study = dict(whole["study"])
    given = study.get("stages")
    stages = (
        [dict(one) if isinstance(one, Mapping) else one for one in given] if isinstance(given, list | tuple) else []
    )
    by_name = {stage.get("name"): stage for stage in stages if isinstance(stage, dict)}
    base: dict[str, Any] = {}
    changes: dict[str, dict[str, Any]] = {}
    for override in overrides:
        written, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"{override}: an override has the form path=value, for example optimizer.clip_norm=10")
        path = written.strip()
        value = spec_text.parse_value(text.strip())
        first, _, rest = path.partition(".")
        if first in by_name and rest:
            changes.setdefault(first, {})[rest] = value
        elif first in StudySpec.model_fields and first not in ("kind", "recipe", "study"):
            _put(whole, path.split("."), value)
        else:
            base[path] = value
    if stages:
        study["stages"] = [_changed(stage, changes) for stage in stages]
    if base:
        study["base"] = with_values(TrainConfig.model_validate(study["base"]), base).model_dump(mode="json")
    return {**whole, "study": study}


def _changed(stage: Any, changes: Mapping[str, Mapping[str, Any]]) -> Any:
    if not isinstance(stage, Mapping) or stage.get("name") not in changes:
        return stage
    change = changes[stage["name"]]
    return following(stage, change) | dict(change)


def _put(whole: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = path
    at = whole
    for name in parents:
        at[name] = dict(at.get(name) or {})
        at = at[name]
    at[last] = value


def drawn_stage(study: StudyConfig, name: str | None) -> tuple[str, int]:
    """Name and number of assignments of the stage of this name that draws at random; of the last such one for None."""
    drawn = {
        stage.name: stage.search.trials
        for stage in study.stages
        if isinstance(stage.search, RandomSearch | OptunaSearch)
    }
    if not drawn or (name is not None and name not in drawn):
        what = f"stage {name}" if name is not None else "this study"
        others = f"; these stages do: {', '.join(drawn)}" if drawn else ": a grid, or a population, is complete"
        raise UsageError(f"{what} does not draw at random, so it cannot be given more trials{others}")
    found = name or list(drawn)[-1]
    return found, drawn[found]


def extended(found: StudySpec, total: int, name: str | None) -> StudySpec:
    """With `total` assignments of `drawn_stage`; as it is where it has as many."""
    name, present = drawn_stage(found.study, name)
    plain = found.model_dump(mode="json")
    stage = next(one for one in plain["study"]["stages"] if one["name"] == name)
    stage["search"]["trials"] = max(total, present)
    try:
        return StudySpec.model_validate(plain)
    except ValidationError as error:
        raise UsageError(listed(explain(error, StudySpec))) from None


def cost(study: StudyConfig) -> dict[str, int]:
    """stage -> optimizer steps of all its trials, none stopped early; later stages as if the first assignment won."""
    from vae_models.data.catalogue import CATALOGUE

    found, base = {}, study.base
    for stage in study.stages:
        every = list(trials(stage, base))
        steps = sum(_steps(t.config, CATALOGUE[t.config.data.name].sizes[0]) for t in every)
        found[stage.name] = round(steps * stage.planned() / len(every))
        base = every[0].config
    return found


def _steps(config: TrainConfig, images: int) -> int:
    return config.steps or round((config.epochs or 0) * images / config.batch_size)
