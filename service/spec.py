"""Job specs: what a user submits, as data. A spec names everything that the result depends on.

`resolve` makes a whole spec of what people write: a recipe's name, a YAML or JSON file, or a mapping (which may name a
recipe and change parts of it), with `path=value` overrides on top.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from service import spec_schema, spec_text
from service.errors import UsageError
from service.mistakes import listed
from service.queue.jobs import Resources
from service.spec_errors import choice, explain
from vae_models import bounds
from vae_models.config.train import TrainConfig
from vae_models.measures import SELECTABLE, following
from vae_models.strict import Strict

if TYPE_CHECKING:
    from vae_models.recipes import Recipe

LARGEST = 1 << 16  # bytes of a resolved spec; the largest published search has 2 kB


class RetryPolicy(Strict):
    max_attempts: int = Field(default=3, ge=1, le=100, description="attempts that may fail before the job does")
    backoff_seconds: float = Field(
        default=5.0, ge=0, le=86_400, description="before the 2nd attempt; doubles, at most 300 s"
    )


class JobSpec(Strict):
    """What every kind of job says of itself; `resources` is the gang that starts together or not at all."""

    kind: str = Field(max_length=32)
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    recipe: str | None = Field(
        default=None, max_length=bounds.TEXT
    )  # where the rest came from; kept for people, never read again
    register_as: str = Field(
        min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="registered model"
    )
    priority: int = Field(default=0, ge=-1000, le=1000)
    resources: Resources = Resources()
    retry: RetryPolicy = RetryPolicy()


class TrainSpec(JobSpec):
    """kind: train. One run of the loop on a gang of workers."""

    kind: Literal["train"] = "train"
    train: TrainConfig


def resolve(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), **fields: Any) -> TrainSpec:
    """The whole spec, every default filled in; `resolve(spec.model_dump()) == spec`.

    source:    a recipe's name; a path of a `.yaml`, `.yml` or `.json` file; or a mapping of `TrainSpec`'s fields, where
               `train` may be partial when `recipe` is given
    overrides: `path=value`, the value in YAML; a path is relative to the spec, or to `train` when it starts with a
               field of `TrainConfig`. Their order does not matter, except that the last of two for one path counts.
    fields:    fields of the spec (`name=`, `priority=`, `resources={"workers": 2}`), None meaning not given

    What comes later wins. Setting `kind` to another kind starts from that kind's defaults; setting `steps` clears
    `epochs` and the other way round. Raises `UsageError` with one line for each mistake.
    """
    given, default_name = _read(source)
    problems: list[str] = []
    base = spec_schema.with_kinds(TrainSpec, _from_recipe(given, problems))
    patch = _patch(overrides, base, problems)
    extra = {name: _plain(value) for name, value in fields.items() if value is not None}
    whole = _merge(_merge(base, patch), extra)
    spec = _validate(_named(spec_schema.with_kinds(TrainSpec, whole), default_name), problems)
    if spec is not None:
        problems += _misfits(spec)
    if problems or spec is None:
        raise UsageError(listed(problems))
    refuse_large(spec)
    return spec


def lengthened(spec: TrainSpec, epochs: float | None, steps: int | None) -> TrainSpec:
    """With more epochs, or steps, in all. UsageError where a longer run would be another one, or neither is given."""
    if (epochs is None) == (steps is None):
        raise UsageError("give one of epochs and steps: how long the run shall have been in all")
    from vae_models.config.longer import refusal
    from vae_models.measures import STORED

    train = {**spec.train.model_dump(mode="json"), "epochs": epochs, "steps": steps}
    try:
        longer = spec.model_copy(update={"train": TrainConfig.model_validate(train, context=STORED)})
    except ValidationError as error:
        raise UsageError(listed(explain(error, TrainConfig))) from None
    if (reason := refusal(spec.train, longer.train)) is not None:
        raise UsageError(f"it cannot go on from its last checkpoint: {reason}")
    return longer


def refuse_large(spec: JobSpec) -> None:
    """Jobs are kept for ever and listed by the thousand, each with its whole spec. Raises UsageError."""
    if (size := len(spec.model_dump_json())) > LARGEST:
        raise UsageError(f"the spec has {size:,} bytes with every default filled in; at most {LARGEST:,} are taken")


def fields() -> list[spec_schema.SpecField]:
    """Every path that `--set` takes, with its type, default and meaning: for the reference and the command line."""
    named = {"name": "the recipe's or the file's", "register_as": "the name, - for /"}
    lines = [line for line in spec_schema.list_fields(TrainSpec) if line.path not in ("kind", "recipe")]
    return [dataclasses.replace(line, default=named.get(line.path, line.default)) for line in lines]


# --- reading --------------------------------------------------------------------------------------------------------


def _read(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """What was given, as a mapping, and the name that it suggests."""
    if isinstance(source, Mapping):
        spec_text.refuse_depth(source)
        return {str(name): _plain(value) for name, value in source.items()}, None
    path = Path(source)
    if isinstance(source, Path) or path.suffix in spec_text.SUFFIXES:
        given = spec_text.read_file(path)
        if "stages" in given:
            raise UsageError(
                f"{path} is a study of many runs: vaesvc submit {path} queues it, vaesvc study run {path} runs it here"
            )
        return given, re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")
    return {"recipe": source}, None


def _from_recipe(given: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """`given` with its recipe's configuration under its own `train`.

    A spec that is complete already needs no recipe: it may come from a version that knows other ones.
    """
    name, train = given.get("recipe"), given.get("train", {})
    if not isinstance(name, str) or not isinstance(train, Mapping):
        return dict(given)
    recipes = _recipes()
    if name in recipes:
        base = {"recipe": name, "train": recipes[name].build().model_dump(mode="json")}
        return dict(_merge(base, given))
    if not _complete(train):
        near = spec_schema.nearest(name, list(recipes))
        hint = f"; did you mean {near}?" if near else ""
        if name.startswith("searches/"):
            hint = f"; a search of many runs: vaesvc submit {name} queues it, vaesvc study run {name} runs it here."
        problems.append(
            f"recipe: there is no recipe {spec_schema.show(name)}{hint or '.'} All {len(recipes)}: vaesvc recipes. "
            f"A spec file ends in {', '.join(spec_text.SUFFIXES)}."
        )
    return dict(given)


def _recipes() -> Mapping[str, Recipe]:
    from vae_models.recipes import catalogue

    return catalogue()


def _complete(train: Mapping[str, Any]) -> bool:
    try:
        return bool(TrainConfig.model_validate(train).model_dump(mode="json") == _plain(train))
    except ValidationError:
        return False


def _plain(value: Any) -> Any:
    """Models, mappings and tuples as dicts and lists; of a model only what was set."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


# --- overrides ------------------------------------------------------------------------------------------------------


def _patch(overrides: Sequence[str], base: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """The overrides as one nested mapping: gathered first, so `beta.epochs=5` may come before `beta.kind=warmup`."""
    patch: dict[str, Any] = {}
    for override in overrides:
        written, equals, text = override.partition("=")
        path = _full_path(written.strip(), problems) if equals else []
        if not equals:
            problems.append(f"{override}: an override has the form path=value, for example optimizer.lr=3e-4")
        if not path:
            continue
        try:
            value = _value(path, text.strip(), base)
        except ValueError as error:
            problems.append(f"{written.strip()}: {spec_schema.show(text)} is not a value: {error}")
            continue
        at = patch
        for name in path[:-1]:
            if not isinstance(at.get(name), dict):
                at[name] = {}
            at = at[name]
        at[path[-1]] = _merge(at.get(path[-1]), value)
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


def _value(path: Sequence[str], text: str, base: Mapping[str, Any]) -> Any:
    """YAML, except that a field of text takes the text as it stands, and `none` is null where null is allowed."""
    field = spec_schema.field_at(TrainSpec, path, base)
    annotation = field.annotation if field is not None else None
    if spec_schema.accepts(annotation, str) and text[:1] not in ("'", '"'):
        return text
    if text.lower() == "none" and spec_schema.accepts(annotation, None):
        return None
    return spec_text.parse_value(text)


def _merge(base: Any, patch: Any, *, at: str = "") -> Any:
    """`patch` over `base`, mapping by mapping; another `kind` leaves nothing of the old one."""
    if not isinstance(base, Mapping) or not isinstance(patch, Mapping):
        return patch
    if "kind" in patch and "kind" in base and patch["kind"] != base["kind"]:
        base = {}
    if at == "checkpoint":
        base = following(base, patch)
    merged = {**base, **{name: _merge(base.get(name), part, at=name) for name, part in patch.items()}}
    if at == "train":
        for budget, other in (("steps", "epochs"), ("epochs", "steps")):
            if patch.get(budget) is not None and other not in patch:
                merged[other] = None
    return merged


# --- checking -------------------------------------------------------------------------------------------------------


def _named(whole: dict[str, Any], default: str | None) -> dict[str, Any]:
    """With a name (of the recipe, the file, or the data and the model) and the registered model's name made of it."""
    train = whole.get("train")
    data, model = (train.get(part) if isinstance(train, Mapping) else None for part in ("data", "model"))
    described = "/".join(
        str(part[key]) for part, key in ((data, "name"), (model, "kind")) if isinstance(part, Mapping) and key in part
    )
    recipe = whole.get("recipe")
    return with_name(whole, recipe if isinstance(recipe, str) else default or described or "unnamed")


def with_name(whole: Mapping[str, Any], suggested: str) -> dict[str, Any]:
    """With `suggested` for a name unless it has one, and a registered model's name made of it."""
    name = suggested if whole.get("name") is None else whole["name"]
    # always a valid one, so that a wrong name is one mistake and not two
    model_name = re.sub(r"[^A-Za-z0-9._-]", "-", str(name)).lstrip("._-")[:100] or "unnamed"
    register_as = whole.get("register_as")
    return {**whole, "name": name, "register_as": model_name if register_as is None else register_as}


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
    """Each field is right, but not together: cheap to know now, dear to learn when the job's turn has come."""
    train, resources = spec.train, spec.resources
    found = batch_misfits(train, "train")
    if resources.workers > train.batch_size:
        found.append(
            f"resources.workers: {resources.workers:,} is more than train.batch_size={train.batch_size:,}, "
            "and a worker needs at least one image of every batch"
        )
    if train.checkpoint.metric not in SELECTABLE:
        found.append(choice("train.checkpoint.metric", train.checkpoint.metric, list(SELECTABLE)))
    return found


def batch_misfits(train: TrainConfig, at: str) -> list[str]:
    """at: where in the spec `train` stands."""
    from vae_models.data.catalogue import CATALOGUE

    size = CATALOGUE[train.data.name].sizes[0]
    if train.batch_size <= size:
        return []
    return [f"{at}.batch_size: {train.batch_size:,} is more than the {size:,} training images of {train.data.name}"]
