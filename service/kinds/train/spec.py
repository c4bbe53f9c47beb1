"""The spec of one run of the training loop, and how what people write becomes one.

`resolve` makes a whole spec of a recipe's name, a YAML or JSON file, or a mapping (which may name a recipe and change
parts of it), with `path=value` overrides on top.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from service import spec_schema, spec_text
from service.errors import UsageError
from service.mistakes import listed
from service.queue.jobs import canonical
from service.spec_errors import choice, explain
from service.specs import given, overrides
from service.specs.given import Given, Source, plain
from service.specs.job import JobSpec, refuse_large, with_name
from service.specs.overrides import Rule, merge
from service.specs.trained import TrainedModel
from vae_models.config.train import TrainConfig
from vae_models.data.config import renamed
from vae_models.measures import STORED, evaluated, following
from vae_models.parts import PartError
from vae_models.strict import Strict

if TYPE_CHECKING:
    pass


class StartFrom(Strict):
    """The weights that a run begins with. of: NAME@best, NAME/3, a job's id, JOB/STAGE/NUMBER of a study's trial, or a
    checkpoint's address, as somebody wrote it; the service writes down in `model` what that meant at submission."""

    of: str = Field(min_length=1, max_length=1000)
    model: TrainedModel | None = None


class TrainSpec(JobSpec):
    """kind: train. One run of the loop on a gang of workers."""

    kind: Literal["train"] = "train"
    train: TrainConfig
    start_from: StartFrom | None = Field(
        default=None, description="a trained model whose weights it begins with: --from"
    )


def resolve(source: Source, changes: Sequence[str] = (), **fields: Any) -> TrainSpec:
    """Return the whole spec, every default filled in; `resolve(spec.model_dump()) == spec`.

    source:  a recipe's name; a path of a `.yaml`, `.yml` or `.json` file; or a mapping of `TrainSpec`'s fields, where
             `train` may be partial when `recipe` is given
    changes: `path=value`, the value in YAML; a path is relative to the spec, or to `train` when it starts with a
             field of `TrainConfig`. Their order does not matter, except that the last of two for one path counts.
    fields:  fields of the spec (`name=`, `priority=`, `resources={"workers": 2}`), None meaning not given

    What comes later wins. Setting `kind` to another kind starts from that kind's defaults; setting `steps` clears
    `epochs` and the other way round. Raises `UsageError` with one line for each mistake.
    """
    return resolve_given(given.read(source), changes, fields)


def resolve_given(
    given: Given,
    changes: Sequence[str],
    fields: Mapping[str, Any],
    note: Callable[[str], None] | None = None,
    spec: type[TrainSpec] = TrainSpec,
) -> TrainSpec:
    """Do as `resolve`, with a source that was read already. note: not needed."""
    problems: list[str] = []
    extra = {name: plain(value) for name, value in fields.items() if value is not None}
    if not changes and not extra and (sent := _sent_whole(given.fields)) is not None:
        return _checked(sent[0], problems, at_most=sent[1])
    base = spec_schema.with_kinds(TrainSpec, _from_recipe(given.fields, problems))
    patch = _patch(changes, base, problems)
    laid = merge(merge(base, patch, _RULES), extra, _RULES)
    return _checked(_validate(_named(spec_schema.with_kinds(TrainSpec, laid), given.name), problems), problems)


def _sent_whole(fields: Mapping[str, Any]) -> tuple[TrainSpec, int] | None:
    """Return the spec of fields that are all there, each as a resolved spec has it, and a bound of its bytes.

    None where something is left to be filled in, or is wrong. Most that the service is sent are whole: whoever sent
    them has resolved them.
    """
    train = fields.get("train")
    if len(fields) != len(TrainSpec.model_fields) or not isinstance(train, dict):
        return None
    if len(train) != len(TrainConfig.model_fields):
        return None
    try:
        spec = TrainSpec.model_validate(fields)
        text = canonical(spec.model_dump(mode="json"))
        return (spec, len(text)) if text == canonical(fields) else None  # as text: true is not 1
    except ValueError:
        return None


def _checked(resolved: TrainSpec | None, problems: list[str], *, at_most: int | None = None) -> TrainSpec:
    """Return the spec, if there is one and all is well with it. Raises UsageError with a line for each problem."""
    if resolved is not None:
        problems += _misfits(resolved)
    if problems or resolved is None:
        raise UsageError(listed(problems))
    refuse_large(resolved, at_most)
    return resolved


def config(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration that is trained, of a resolved spec as data."""
    train: Mapping[str, Any] = data["train"]
    return train


def lengthened(spec: TrainSpec, epochs: float | None, steps: int | None) -> TrainSpec:
    """Return the spec with more epochs, or steps, in all. Raises UsageError if that is another run, or neither is
    given."""
    if (epochs is None) == (steps is None):
        raise UsageError("give one of epochs and steps: how long the run shall have been in all")
    from vae_models.config.longer import refusal

    train = {**spec.train.model_dump(mode="json"), "epochs": epochs, "steps": steps}
    try:
        longer = spec.model_copy(update={"train": TrainConfig.model_validate(train, context=STORED)})
    except ValidationError as error:
        raise UsageError(listed(explain(error, TrainConfig))) from None
    if (reason := refusal(spec.train, longer.train)) is not None:
        raise UsageError(f"it cannot go on from its last checkpoint: {reason}")
    return longer


def fields() -> list[spec_schema.SpecField]:
    """Return every path that `--set` takes, with type, default and meaning: for the reference and the command line."""
    named = {"name": "the recipe's or the file's", "register_as": "the name, - for /"}
    aside = ("kind", "recipe", "code")  # the last is --code's
    lines = [line for line in spec_schema.list_fields(TrainSpec) if line.path.partition(".")[0] not in aside]
    return [dataclasses.replace(line, default=named.get(line.path, line.default)) for line in lines]


# --- reading --------------------------------------------------------------------------------------------------------


def _from_recipe(given: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return `given` with its recipe's configuration under its own `train`.

    A spec that is complete already needs no recipe: it may come from a version that knows other ones.
    """
    name, train = given.get("recipe"), given.get("train", {})
    if not isinstance(name, str) or not isinstance(train, Mapping):
        return dict(given)
    from vae_models.recipes import RECIPES

    recipes = RECIPES.all()
    if name in recipes:
        base = {"recipe": name, "train": _built(name)}
        return dict(merge(base, given, _RULES))
    if not _complete(train):
        near = spec_schema.nearest(name, list(recipes))
        hint = f"; did you mean {near}?" if near else ""
        problems.append(
            f"recipe: there is no recipe {spec_schema.show(name)}{hint or '.'} All {len(recipes)}: vaesvc recipes. "
            f"A spec file ends in {', '.join(spec_text.SUFFIXES)}{RECIPES.not_loaded()}."
        )
    return dict(given)


def _built(name: str) -> dict[str, Any]:
    """Return a recipe's configuration, as data. Raises UsageError where an installed package's recipe cannot make
    it."""
    from vae_models.recipes import RECIPES

    try:
        return RECIPES.made(name, lambda recipe: recipe.build()).model_dump(mode="json")
    except PartError as error:
        raise UsageError(str(error)) from None


def _complete(train: Mapping[str, Any]) -> bool:
    try:
        return bool(TrainConfig.model_validate(train).model_dump(mode="json") == plain(train))
    except ValidationError:
        return False


# --- overrides ------------------------------------------------------------------------------------------------------


def _patch(changes: Sequence[str], base: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return the overrides as one nested mapping: gathered first, so `beta.epochs=5` may come before
    `beta.kind=warmup`."""
    patch: dict[str, Any] = {}
    for override in overrides.split(changes, problems):
        path = _full_path(override.written, problems)
        if not path:
            continue
        try:
            value = overrides.value(TrainSpec, path, override.text, base)
        except ValueError as error:
            problems.append(overrides.not_a_value(override, error))
            continue
        overrides.put(patch, path, value)
    return patch


def _full_path(written: str, problems: list[str]) -> list[str]:
    path = written.split(".")
    if path[0] in TrainConfig.model_fields:
        path = ["train", *path]
    if path == ["recipe"]:
        problems.append("recipe: cannot be overridden; name the recipe in place of the spec's source")
        return []
    if path[0] in TrainSpec.model_fields and all(path):
        return path
    known = [line.path.removeprefix("train.") for line in fields()]
    near = spec_schema.nearest(written, known) or spec_schema.nearest(path[-1], known)
    roots = [name for name in (*TrainSpec.model_fields, *TrainConfig.model_fields) if name != "recipe"]
    hint = f"; did you mean {near}?" if near else ""
    problems.append(f"{written or '(nothing)'}: there is no such path; it starts with one of: {', '.join(roots)}{hint}")
    return []


def _one_budget(base: Mapping[str, Any], patch: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the base without epochs where the patch sets steps, and the other way round."""
    for budget, other in (("steps", "epochs"), ("epochs", "steps")):
        if patch.get(budget) is not None and other not in patch:
            base = {**base, other: None}
    return base


_RULES: Mapping[str, Rule] = MappingProxyType({"checkpoint": following, "data": renamed, "train": _one_budget})


# --- checking -------------------------------------------------------------------------------------------------------


def _named(whole: dict[str, Any], default: str | None) -> dict[str, Any]:
    """Return the spec with a name (of the recipe, the file, or the data and the model) and the registered model's name
    made of it."""
    train = whole.get("train")
    data, model = (train.get(part) if isinstance(train, Mapping) else None for part in ("data", "model"))
    described = "/".join(
        str(part[key]) for part, key in ((data, "name"), (model, "kind")) if isinstance(part, Mapping) and key in part
    )
    recipe = whole.get("recipe")
    return with_name(whole, recipe if isinstance(recipe, str) else default or described or "unnamed")


def _validate(whole: Mapping[str, Any], problems: list[str]) -> TrainSpec | None:
    truths = list(spec_schema.truths_for_numbers(TrainSpec, whole))
    problems += [f"{path}: true and false are not numbers" for path in truths]
    try:
        spec = TrainSpec.model_validate(whole)
    except ValidationError as error:
        # without its recipe `train` is missing too: one mistake, one line
        known = any(line.startswith("recipe:") for line in problems)
        problems += [line for line in explain(error, TrainSpec) if not (known and "is missing" in line)]
        return None
    return spec if not problems else None


def _misfits(spec: TrainSpec) -> list[str]:
    """Return where fields contradict each other: cheap to know now, dear to learn when the job's turn has come."""
    train, resources = spec.train, spec.resources
    problems = batch_misfits(train, "train")
    if resources.workers > train.batch_size:
        problems.append(
            f"resources.workers: {resources.workers:,} is more than train.batch_size={train.batch_size:,}, "
            "and a worker needs at least one image of every batch"
        )
    if train.compile != "off" and resources.workers > 1:
        problems.append(
            f"train.compile: {train.compile} is of one worker, and resources.workers is {resources.workers:,}: set "
            "one of them to its default"
        )
    selectable = evaluated(bound=True, more=train.evaluation.measures)
    if train.checkpoint.metric not in selectable:
        problems.append(choice("train.checkpoint.metric", train.checkpoint.metric, list(selectable)))
    return problems


def batch_misfits(train: TrainConfig, at: str) -> list[str]:
    """Return the problem of a batch larger than the data. at: where in the spec `train` stands."""
    size = train.data.facts.sizes[0]
    if train.batch_size <= size:
        return []
    return [f"{at}.batch_size: {train.batch_size:,} is more than the {size:,} training data of {train.data.name}"]
