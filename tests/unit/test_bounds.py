"""Nothing that a specification may say is without a bound, and no mistake costs much."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service import kinds
from service.errors import UsageError
from service.kinds.study.spec import StudySpec
from service.kinds.train.spec import TrainSpec, resolve
from tests.catalogue import LIKELIHOODS
from tuning.space import InvalidAssignment, with_values
from vae_models.config import size
from vae_models.config.train import TrainConfig
from vae_models.recipes import catalogue

OPEN = {  # what may hold anything: how much of it there can be is bounded by a request's size and depth
    "Values.values[]": "the values of a path are of that path's type, and checked against it when trials are made",
}


def _leaves(schema: dict[str, Any], definitions: dict[str, Any], at: str, seen: frozenset[str]) -> Iterator[Any]:
    """(path, schema) of everything below that is no object of ours, each definition once on a path."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            yield from _leaves(definitions[name], definitions, name, seen | {name})
        return
    for key in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(key, ()):
            yield from _leaves(part, definitions, at, seen)
    for name, part in schema.get("properties", {}).items():
        yield from _leaves(part, definitions, f"{at}.{name}", seen)
    if isinstance(schema.get("additionalProperties"), dict):
        yield f"{at}{{}}", schema
        yield from _leaves(schema["additionalProperties"], definitions, f"{at}{{}}", seen)
    for part in (*schema.get("prefixItems", ()), *([schema["items"]] if "items" in schema else ())):
        yield from _leaves(part, definitions, f"{at}[]", seen)
    if not {"$ref", "anyOf", "oneOf", "allOf", "properties"} & schema.keys():
        yield at, schema


def _missing(schema: dict[str, Any]) -> list[str]:
    """The keywords that a leaf lacks."""
    if "const" in schema or "enum" in schema or schema.get("type") in ("boolean", "null"):
        return []
    above, below = ({"maximum", "exclusiveMaximum"}, {"minimum", "exclusiveMinimum"})
    wanted: dict[str, list[set[str]]] = {
        "integer": [above, below],
        "number": [above, below],
        "array": [{"maxItems"}],
        "string": [{"maxLength"}],
        "object": [{"maxProperties"}] if "additionalProperties" in schema else [],
    }
    kinds = wanted.get(str(schema.get("type")))
    if kinds is None:
        return ["a type"]
    return [" or ".join(sorted(names)) for names in kinds if not names & schema.keys()]


@pytest.mark.parametrize("model", [TrainSpec, StudySpec, TrainConfig])
def test_fault_05_every_number_list_and_text_of_a_spec_is_bounded(model: Any) -> None:
    schema = model.model_json_schema()
    leaves = list(_leaves(schema, schema.get("$defs", {}), model.__name__, frozenset()))
    assert len(leaves) > 80
    unbounded = {path: missing for path, leaf in leaves if (missing := _missing(leaf)) and path not in OPEN}
    assert unbounded == {}


RECIPE = "digits/beta-vae-mlp"


def _refusal(given: Mapping[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        kinds.resolve(given)
    return str(caught.value)


def _study(space: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"base": RECIPE, "stages": [{"name": "s", "space": space, **more}]}


def _interval(points: int | None = None) -> dict[str, Any]:
    return {"kind": "log-uniform", "low": 1e-4, "high": 1e-1, "points": points}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("steps", 10**18),
        ("epochs", 1e18),
        ("batch_size", 10**9),
        ("model.latent", 10**9),
        ("model.backbone.hidden", [16] * 10**4),
        ("model.backbone.hidden", [10**9]),
        ("evaluation.batch_size", 10**9),
        ("evaluation.betas", [1.0] * 10**4),
        ("checkpoint.keep_best", 10**9),
        ("optimizer.lr", 1e300),
        ("optimizer.betas", [0.9, 1e18]),
    ],
)
def test_fault_05_absurd_but_valid_numbers_are_refused(path: str, value: Any) -> None:
    base = resolve(RECIPE).train
    with pytest.raises(InvalidAssignment, match=path):
        with_values(base, {path: value})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.backbone.hidden": [65_536, 65_536]}, "weights, more than the 2,000,000,000"),
        ({"model.prior": {"kind": "vhp", "hidden": [65_536] * 3}}, "weights, more than"),
        ({"epochs": 1e6, "batch_size": 1}, "are 1,297,000,000 steps, more than the 1,000,000,000"),
        (
            {"data.name": "mnist", "objective": {"kind": "iwae", "samples": 100_000}, "batch_size": 10_000},
            "numbers in a step, more than",
        ),
    ],
)
def test_fault_05_what_multiplies_is_bounded_as_a_product(changes: Mapping[str, Any], words: str) -> None:
    with pytest.raises(InvalidAssignment, match=words):
        with_values(resolve(RECIPE).train, changes)


@pytest.mark.parametrize("name", sorted(catalogue())[::7])
def test_a_models_size_is_known_without_building_it(name: str) -> None:
    config = catalogue()[name].build()
    with torch.device("meta"):
        model = config.model.build(config.data.facts.shape)
    built = sum(parameter.numel() for parameter in model.parameters())
    estimate = size.weights(config)
    if config.model.kind != "vae":  # a topology that counts its nets itself
        assert estimate == pytest.approx(built, rel=0.02)
        return
    if config.model.backbone.kind == "mlp":
        assert estimate == pytest.approx(built, rel=0.01)
    elif config.model.backbone.kind in ("conv", "resnet", "sigma-vae"):
        assert built / 5 < estimate < 5 * built
    parameters = config.model.likelihood.build(config.data.facts.shape).parameters_per_element()
    assert config.model.likelihood.parameters_per_element() == parameters


@pytest.mark.parametrize("kind", LIKELIHOODS)
def test_a_likelihoods_outputs_are_known_without_building_it(kind: str) -> None:
    config = LIKELIHOODS[kind]
    assert config.parameters_per_element() == config.build((1, 2, 3)).parameters_per_element()


POPULATION = {"kind": "population", "size": 10**4, "generations": 10**4, "epochs": 1}
GRID = {path: _interval(40) for path in ("optimizer.lr", "optimizer.eps", "beta.value", "schedule.warmup_epochs")}


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (_study(GRID), ["2,560,000 trials", "40 of optimizer.lr x 40 of", "fewer points", "at most 10,000"]),
        (_study({"optimizer.lr": _interval(1000), "beta.value": _interval(1000)}), ["1,000,000 trials"]),
        (_study({"optimizer.lr": _interval(10**7)}), ["10000"]),
        (
            _study({"optimizer.lr": _interval()}, search={"kind": "random", "trials": 5000}, repeats=[0, 1, 2]),
            ["15,000 trials (5,000 assignments x 3 seeds)"],
        ),
        (
            _study({"optimizer.lr": _interval()}, search=POPULATION),
            ["100,000,000 trials", "10,000 members x 10,000 generations"],
        ),
        (
            {"base": RECIPE, "stages": [
                {"name": f"s{i}", "space": {"optimizer.lr": _interval()}, "search": {"kind": "random", "trials": 5000}}
                for i in range(20)
            ]},
            ["100,000 trials in all", "s0 5,000"],
        ),
    ],
)  # fmt: skip
def test_fault_05_trials_are_counted_before_they_are_made(study: Mapping[str, Any], words: list[str]) -> None:
    """In the command line and in the API alike: both read specs by `resolve_job`."""
    tracemalloc.start()
    started = time.process_time()
    message = _refusal(study)
    took, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not [word for word in words if word not in message], message
    assert took < 1.0
    assert peak < 20 * 2**20


def test_fault_05_a_grid_of_40_to_the_7th_points_costs_nothing() -> None:
    paths = (
        "optimizer.lr",
        "optimizer.eps",
        "optimizer.weight_decay",
        "evaluation.every_epochs",
        "beta.value",
        "epochs",
    )
    message = _refusal(_study({path: _interval(40) for path in (*paths, "schedule.warmup_epochs")}))
    assert "163,840,000,000 trials" in message


def test_fault_05_ten_mistakes_are_named_and_the_others_counted() -> None:
    message = _refusal({"recipe": RECIPE} | {f"key{number}": 1 for number in range(3000)})
    lines = message.splitlines()
    assert lines[0].startswith("key0: there is no such field")
    assert lines[10] == "... and 2,990 more mistakes"
    assert len(lines) == 11
    assert len(message) < 2000
    assert len(_refusal({"recipe": RECIPE, "x" * 900_000: 1})) < 2000
    trials = _refusal({"base": {"recipe": RECIPE, **{f"optimizer.x{i}": "y" * 9000 for i in range(99)}}, "stages": []})
    assert len(trials) < 20_000


@given(st.recursive(st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=30))  # fmt: skip
def test_fault_05_whatever_is_given_the_answer_is_short(value: Any) -> None:
    assert len(_refusal({"recipe": RECIPE, "train": {"model": value or [0]}})) < 12_000


@pytest.mark.parametrize("depth", [33, 900])
@pytest.mark.parametrize("where", ["train", "study"])
def test_fault_05_deep_nesting_is_refused(depth: int, where: str) -> None:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    assert "nested too deeply: at most 32" in _refusal({"recipe": RECIPE, where: value})


def test_fault_05_a_file_of_aliases_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.yaml"
    bomb.write_text("a: &a [x, x]\nb: &b [*a, *a]\ntrain: [*b, *b]\n")
    with pytest.raises(UsageError, match=r"aliases \(\*name\) are not read"):
        kinds.resolve(bomb)


def test_fault_05_a_spec_is_a_page() -> None:
    many = [{"name": f"s{i}", "space": {"optimizer.lr": [1e-3 + k * 1e-9 for k in range(190)]}} for i in range(49)]
    assert "at most 65,536 are taken" in _refusal({"base": RECIPE, "stages": many})
