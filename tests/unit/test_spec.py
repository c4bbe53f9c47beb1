"""What people write becomes a whole spec, or a list of mistakes that says how to mend each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import UsageError
from service.kinds.train import spec
from service.queue.jobs import Resources
from service.spec_text import parse_value
from vae_models.backbones.specs import ConvConfig, MLPConfig
from vae_models.control.specs import ConstantBetaConfig, WarmupBetaConfig
from vae_models.recipes import catalogue

DIGITS, MNIST, TEXT = "digits/beta-vae-mlp", "mnist/beta-vae-cnn", "tinyshakespeare/text-vae"
VIDEO = "moving-digits/svg-tiny"


def _mistakes(source: Any, *overrides: str, **fields: Any) -> list[str]:
    with pytest.raises(UsageError) as refused:
        spec.resolve(source, overrides, **fields)
    return str(refused.value).split("\n")


def _mistake(source: Any, *overrides: str, **fields: Any) -> str:
    (line,) = _mistakes(source, *overrides, **fields)
    return line


# --- sources --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(catalogue()))
def test_every_recipe_resolves_to_itself(name: str) -> None:
    resolved = spec.resolve(name)
    assert resolved.train == catalogue()[name].build()
    assert (resolved.name, resolved.recipe, resolved.register_as) == (name, name, name.replace("/", "-"))
    assert resolved.resources == Resources()
    assert spec.resolve(resolved.model_dump()) == resolved


@pytest.mark.parametrize(
    ("path", "given", "said"),
    [
        (("priority",), True, ["priority: true and false are not numbers"]),
        (("train", "batch_size"), "64", ["train.batch_size: '64' is text"]),
        (("train", "batch_size"), 10**5, ["train.batch_size: 100,000 is more than the 1,297 training data of digits"]),
        (("resources", "workers"), 4000, ["resources.workers: 4,000 is more than train.batch_size"]),
        (
            ("then",),
            [{"kind": "evaluate", "x": "x" * 70_000}],
            ["the spec has 7", "bytes with every default filled in"],
        ),
    ],
)
def test_a_spec_that_is_sent_whole_is_looked_at_as_closely(path: tuple[str, ...], given: Any, said: list[str]) -> None:
    whole: Any = spec.resolve(DIGITS).model_dump(mode="json")
    assert spec.resolve(whole) == spec.resolve(DIGITS)
    place = whole
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = given
    line = _mistake(whole)
    assert all(part in line for part in said), line


def test_a_wrong_name_in_place_of_a_right_one_is_told() -> None:
    whole = spec.resolve(DIGITS).model_dump(mode="json")
    whole["train"]["stepz"] = whole["train"].pop("steps")
    assert "train.stepz: there is no such field" in _mistake(whole)


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_file_may_change_parts_of_a_recipe(tmp_path: Path, suffix: str, as_text: bool) -> None:
    written = {
        "recipe": DIGITS,
        "priority": 3,
        "resources": {"workers": 2},
        "train": {"steps": 20, "optimizer": {"lr": 1e-5}, "beta": {"kind": "warmup", "epochs": 4}},
    }
    path = tmp_path / f"my first{suffix}"
    path.write_text(json.dumps(written) if suffix == ".json" else yaml.safe_dump(written))
    resolved, recipe = spec.resolve(str(path) if as_text else path), catalogue()[DIGITS].build()
    assert resolved.name == DIGITS
    assert (resolved.priority, resolved.resources.workers) == (3, 2)
    assert (resolved.train.steps, resolved.train.epochs) == (20, None)
    assert resolved.train.optimizer == recipe.optimizer.model_copy(update={"lr": 1e-5})
    assert resolved.train.beta == WarmupBetaConfig(epochs=4)
    assert resolved.train.model == recipe.model


def test_a_file_needs_no_recipe_and_gives_its_name(tmp_path: Path) -> None:
    path = tmp_path / "my first.yaml"
    path.write_text("train:\n  data: {name: mnist}\n  beta: {value: 1e-3}\n  steps: 10\n")
    resolved = spec.resolve(path)
    assert (resolved.name, resolved.register_as, resolved.recipe) == ("my-first", "my-first", None)
    assert resolved.train.beta == ConstantBetaConfig(value=1e-3)


def test_a_mapping_without_a_name_is_named_after_its_data_and_model() -> None:
    resolved = spec.resolve({"train": {"data": {"name": "mnist"}, "model": {"kind": "vae"}, "steps": 1}})
    assert (resolved.name, resolved.register_as) == ("mnist/vae", "mnist-vae")


def test_fields_given_as_arguments_win_and_none_is_not_given() -> None:
    resolved = spec.resolve(
        {"recipe": DIGITS, "name": "a", "priority": 1, "resources": {"workers": 2, "cpus_per_worker": 0.5}},
        ["priority=2"],
        priority=3,
        name=None,
        register_as="m",
        resources=Resources(workers=4),
        train={"steps": 7},
    )
    assert (resolved.name, resolved.priority, resolved.register_as, resolved.train.steps) == ("a", 3, "m", 7)
    assert resolved.resources == Resources(workers=4, cpus_per_worker=0.5)


def test_a_resolved_spec_outlives_its_recipe() -> None:
    """The server may not know a recipe that the client knew; a whole spec does not need it."""
    dumped = spec.resolve(DIGITS).model_dump(mode="json") | {"recipe": "gone/for-good"}
    assert spec.resolve(dumped).train == spec.resolve(DIGITS).train
    del dumped["train"]["optimizer"]
    assert "no recipe gone/for-good" in _mistake(dumped)


# --- overrides ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("optimizer.lr=1e-4", lambda s: s.train.optimizer.lr == 1e-4),
        ("train.optimizer.lr=3E-4", lambda s: s.train.optimizer.lr == 3e-4),
        ("optimizer.lr = .5", lambda s: s.train.optimizer.lr == 0.5),
        ("model.backbone.hidden=[8, 4]", lambda s: s.train.model.backbone.hidden == (8, 4)),
        ("model.backbone.hidden=[]", lambda s: s.train.model.backbone.hidden == ()),
        ("optimizer.clip_norm=null", lambda s: s.train.optimizer.clip_norm is None),
        ("optimizer.clip_norm=none", lambda s: s.train.optimizer.clip_norm is None),
        ("data.binarize=none", lambda s: s.train.data.binarize == "none"),
        ("evaluation.pictures=false", lambda s: s.train.evaluation.pictures is False),
        ("resources.workers=3", lambda s: s.resources.workers == 3),
        (
            "resources={workers: 2, cpus_per_worker: 2}",
            lambda s: s.resources == Resources(workers=2, cpus_per_worker=2),
        ),
        ("seed=007", lambda s: s.train.seed == 7),
        ("batch_size=1e2", lambda s: s.train.batch_size == 100),
        ("name=on", lambda s: s.name == s.register_as == "on"),
        ("name=2026-01-01", lambda s: s.name == "2026-01-01"),
        ("name=1e5", lambda s: s.name == "1e5"),
        ("name='quoted'", lambda s: s.name == "quoted"),
        ("name=a/b", lambda s: s.register_as == "a-b"),
        ("model.likelihood={kind: gaussian, sigma: 0.1}", lambda s: s.train.model.likelihood.sigma == 0.1),
    ],
)
def test_an_override_sets_one_value(override: str, read: Any) -> None:
    resolved = spec.resolve(DIGITS, [override])
    assert read(resolved)
    assert spec.resolve(resolved.model_dump(mode="json")) == resolved


@pytest.mark.parametrize("flip", [False, True])
def test_another_kind_starts_from_its_own_defaults_in_any_order(flip: bool) -> None:
    overrides = ["beta.kind=warmup", "beta.epochs=5", "model.backbone.kind=mlp", "model.backbone.activation=tanh"]
    resolved = spec.resolve(MNIST, overrides[::-1] if flip else overrides)
    assert resolved.train.beta == WarmupBetaConfig(epochs=5)
    assert resolved.train.model.backbone == MLPConfig(activation="tanh")


def test_the_same_kind_again_keeps_what_was_set() -> None:
    resolved = spec.resolve(DIGITS, ["model.backbone.kind=mlp"])
    assert resolved.train.model.backbone == catalogue()[DIGITS].build().model.backbone


def test_a_union_in_a_file_without_kind_is_the_default_one_and_can_be_switched() -> None:
    written = {"train": {"data": {"name": "mnist"}, "steps": 1, "model": {"backbone": {"hidden": [3]}}}}
    assert spec.resolve(written).train.model.backbone == MLPConfig(hidden=(3,))
    assert spec.resolve(written, ["model.backbone.kind=conv"]).train.model.backbone == ConvConfig()


def test_one_budget_clears_the_other() -> None:
    by_steps = spec.resolve(DIGITS, ["steps=9"])
    assert (by_steps.train.steps, by_steps.train.epochs) == (9, None)
    by_epochs = spec.resolve(by_steps.model_dump(), ["epochs=2"])
    assert (by_epochs.train.steps, by_epochs.train.epochs) == (None, 2)
    assert "exactly one of epochs and steps" in _mistake(DIGITS, "steps=9", "epochs=2")
    assert "exactly one of epochs and steps" in _mistake(DIGITS, "epochs=null")


def test_of_two_values_for_one_path_the_last_counts() -> None:
    assert spec.resolve(DIGITS, ["seed=1", "train.seed=2"]).train.seed == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-1.5E+3", -1500.0),
        ("1.", 1.0),
        ("12", 12),
        ("0x10", "0x10"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("", None),
        ("2026-11-21", "2026-11-21"),
        ("[1, 2e0, a]", [1, 2.0, "a"]),
        ("{a: 1e1}", {"a": 10.0}),
        ("'1'", "1"),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_is_read_back_as_python_writes_it(number: float) -> None:
    assert parse_value(repr(number)) == number
    assert isinstance(parse_value(repr(number)), float)


# --- the round trip -------------------------------------------------------------------------------------------------

_small = st.floats(1e-6, 1e6)
_OVERRIDES = {
    "optimizer.lr": _small,
    "optimizer.clip_norm": st.one_of(st.none(), _small),
    "optimizer.betas": st.lists(st.floats(0, 0.9999), min_size=2, max_size=2),
    "beta": st.one_of(
        st.builds(lambda v: {"kind": "constant", "value": v}, _small),
        st.builds(lambda v, e: {"kind": "warmup", "value": v, "epochs": e}, _small, _small),
    ),
    "schedule.kind": st.sampled_from(["constant", "cosine"]),
    "model.latent": st.integers(1, 100),
    "model.backbone": st.builds(lambda h: {"kind": "mlp", "hidden": h}, st.lists(st.integers(1, 9), max_size=3)),
    "model.likelihood.kind": st.sampled_from(["bernoulli", "gaussian"]),
    "data.binarize": st.sampled_from(["none", "threshold", "dynamic"]),
    "batch_size": st.integers(4, 1000),
    "seed": st.integers(0, 2**63 - 1),
    "steps": st.integers(1, 10**9),
    "evaluation.limit": st.one_of(st.none(), st.integers(1, 10**6)),
    "checkpoint.metric": st.sampled_from(["val/elbo", "val/rate", "val/squared_error"]),
    "resources.workers": st.integers(1, 4),
    "resources.memory_per_worker": st.integers(0, 2**50),
    "retry": st.builds(lambda n: {"max_attempts": n}, st.integers(1, 100)),
    "priority": st.integers(-1000, 1000),
    "name": st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._/-]{0,30}\Z"),
    "register_as": st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,30}\Z"),
}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([name for name in catalogue() if "/beta-vae-" in name and "resnet" not in name]),
    st.fixed_dictionaries({}, optional={path: value.map(json.dumps) for path, value in _OVERRIDES.items()}),
)
def test_resolving_a_resolved_spec_changes_nothing(recipe: str, overrides: dict[str, str]) -> None:
    resolved = spec.resolve(recipe, [f"{path}={text}" for path, text in overrides.items()])
    assert spec.resolve(resolved.model_dump()) == resolved
    assert spec.resolve(json.loads(resolved.model_dump_json())) == resolved
    assert spec.resolve(yaml_again(resolved.model_dump(mode="json"))) == resolved
    for path in ("seed", "batch_size", "steps"):
        if path in overrides:
            assert getattr(resolved.train, path) == json.loads(overrides[path])


def yaml_again(value: Any) -> Any:
    """Through the text that a dry run prints."""
    return parse_value(yaml.safe_dump(value, sort_keys=False))


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lrr=1", ["train.optimizer.lrr", "no such field", "lr, betas", "did you mean lr?"]),
        ("optimizer.learning_rate=1", ["train.optimizer.learning_rate", "did you mean lr?"]),
        ("lr=1", ["lr: ", "no such path", "did you mean optimizer.lr?"]),
        ("optimiser.lr=1", ["optimiser.lr: ", "did you mean optimizer.lr?"]),
        ("workers=2", ["did you mean resources.workers?"]),
        ("resources.worker=2", ["resources.worker: ", "did you mean workers?"]),
        ("optimizer.lr=-1", ["train.optimizer.lr: -1", "greater than 0"]),
        ("optimizer.lr=fast", ["train.optimizer.lr: fast", "valid number"]),
        ("optimizer.lr=.nan", ["train.optimizer.lr: NaN", "finite"]),
        ("optimizer.lr=.inf", ["train.optimizer.lr: Infinity", "finite"]),
        ("steps=1.5", ["train.steps: 1.5", "integer"]),
        ("batch_size=true", ["train.batch_size: ", "not numbers"]),
        ("resources.cpus_per_worker=.inf", ["resources.cpus_per_worker: Infinity", "less than or equal to 10000"]),
        ("resources.gpus_per_worker=.nan", ["resources.gpus_per_worker: NaN", "less than or equal to 1000"]),
        ("resources.workers=0", ["resources.workers: 0", "greater than or equal to 1"]),
        (
            "data.name=minst",
            ["train.data.name: there is no data set 'minst'", "mean mnist?", "digits, pendulum"],
        ),
        ("dtype=float16", ["train.dtype: float16", "float32, float64", "did you mean float"]),
        ("model.backbone.kind=cov", ["train.model.backbone.kind: cov", "mlp, conv", "did you mean conv?"]),
        ("beta.epochs=3", ["train.beta.epochs", "epochs belongs to train.beta.kind=warmup"]),
        ("model=3", ["train.model: 3", "a mapping with: kind, latent, backbone"]),
        ("model.backbone.hidden=8", ["train.model.backbone.hidden: 8", "valid tuple"]),
        ("model.backbone.hidden=[8, 0]", ["train.model.backbone.hidden.1: 0", "greater than or equal to 1"]),
        ("model.backbone.hidden=[8", ["model.backbone.hidden: [8 is not a value", "expected ',' or ']'"]),
        ("model.backbone={kind: mlp, kind: conv}", ["kind is given twice"]),
        ("checkpoint.metric=val/elob", ["train.checkpoint.metric: val/elob", "did you mean val/elbo?"]),
        ("name=", ["name: ", "at least 1 character"]),
        ("name=a b", ["name: a b", "pattern"]),
        ("priority=1001", ["priority: 1001", "less than or equal to 1000"]),
        ("recipe=mnist/beta-vae-cnn", ["recipe: ", "cannot be overridden"]),
        ("kind=study", ["kind: study", "allowed: train"]),
        ("steps", ["steps: ", "path=value"]),
        ("=3", ["(nothing): there is no such path"]),
        ("optimizer..lr=3", ["optimizer..lr: there is no such path"]),
    ],
)
def test_a_mistake_names_the_path_the_value_what_is_allowed_and_the_nearest(override: str, said: list[str]) -> None:
    line = _mistake(DIGITS, override)
    for words in said:
        assert words in line


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("mnist/beta-vae-cn", ["no recipe mnist/beta-vae-cn", "did you mean mnist/beta-vae-cnn?", "vaesvc recipes"]),
        ("nothing-like-it", ["no recipe nothing-like-it", "vaesvc recipes", ".yaml"]),
        ({"recipe": "digits/beta-vae"}, ["did you mean digits/beta-vae-mlp?"]),
        ({}, ["train: is missing"]),
        ({"train": {"steps": 3}}, ["train.data: is missing"]),
        ({"train": 3}, ["train: 3", "a mapping with: data, model"]),
        ({"recipe": DIGITS, "optimizer": {"lr": 1}}, ["optimizer: ", "did you mean train.optimizer?"]),
        ({"recipe": DIGITS, "train": {"lr": 1}}, ["train.lr: ", "did you mean optimizer.lr?"]),
        ({"recipe": 3, "train": {"data": {"name": "mnist"}, "steps": 1}}, ["recipe: 3", "valid string"]),
    ],
)
def test_a_wrong_source_is_one_line(source: Any, said: list[str]) -> None:
    line = _mistake(source)
    for words in said:
        assert words in line


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", None, "there is no such file"),
        ("a.yaml", "", "not empty"),
        ("a.yaml", "- 1\n", "a spec is a mapping"),
        ("a.yaml", "train: [1\n", "line 2"),
        ("a.yaml", "priority: 1\npriority: 2\n", "line 2, column 1: priority is given twice"),
        ("a.yaml", "1: 2\n", "a name is expected, not 1"),
        ("a.yaml", "train: &a {data: *a}\n", "aliases"),
        ("a.yaml", "train: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("a.yaml", "[" * 5000, "nested too deeply"),
        ("a.yaml", b"\xff\xfe", "not text in UTF-8"),
        ("a.yaml", "#" * (1 << 21), "is no spec"),
        ("a.json", '{"train": ', "not JSON: line 1, column 11"),
        ("a.json", '{"priority": 1, "priority": 2}', "priority is given twice"),
        ("a.json", "[" * 200_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_spec_is_named_with_the_cause(
    tmp_path: Path, name: str, text: str | bytes | None, said: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    line = _mistake(str(path))
    assert str(path) in line
    assert said in line


def test_all_mistakes_are_listed_one_a_line() -> None:
    lines = _mistakes(DIGITS, "lr=1", "optimizer.lr=-1", "data.name=x", "resources.worker=1", "steps")
    assert len(lines) == 5
    starts = ("lr: ", "train.optimizer.lr: ", "train.data.name: ", "resources.worker: ", "steps: ")
    assert all(any(line.startswith(start) for line in lines) for start in starts)


# --- what does not fit together -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.backbone.kind=conv"], "8 x 8 pixels take at most 3, not 4: give fewer channels"),
        (["batch_size=1298"], "train.batch_size: 1,298 is more than the 1,297 training data of digits"),
        (["batch_size=2", "resources.workers=3"], "resources.workers: 3 is more than train.batch_size=2"),
    ],
)
def test_what_cannot_run_together_is_refused_before_the_queue(overrides: list[str], said: str) -> None:
    assert said in _mistake(DIGITS, *overrides)


def test_what_just_fits_is_accepted() -> None:
    assert spec.resolve(DIGITS, ["batch_size=1297", "resources.workers=1297"]).resources.workers == 1297


# --- the reference --------------------------------------------------------------------------------------------------


def needs_company(path: str, when: str) -> bool:
    """Fields whose part goes only with other parts: their path alone makes no spec."""
    parts = ("data.noise", "model.gating", "kind = delta", "log-uniform", "kind = vampprior")
    alone = (
        "kind = ae",
        "kind = wae-mmd",
        "kind = rae",
        "kind = iwae",
        "rewo",
        "geco",
        "kind = ladder",
        "kind = video",
    )
    nets = ("kind = resnet", "kind = infogan", "kind = vhp-", "kind = sigma-vae")
    later = (
        "kind = gmm",
        "kind = second-stage",
        "likelihood.vocabulary",
        "model.frames",
    )  # fitted after training; the data's
    return any(part in path or part in when for part in (*parts, *alone, *later, *nets))


def test_every_path_of_the_reference_can_be_set() -> None:
    """Each field's default, set by its own path under its own kind, is accepted."""
    tried = 0
    for field in spec.fields():
        if field.default in ("required", "none") or " " in field.default.split("[")[0]:
            continue
        if needs_company(field.path, field.when or ""):
            continue
        tried += 1
        kinds = [condition.replace(" = ", "=") for condition in (field.when or "").split(", ") if condition]
        source = MNIST if any(part in (field.when or "") for part in ("conv", "nvae")) else DIGITS
        if "kind = text" in (field.when or ""):
            source = TEXT
        if any(kind in (field.when or "") for kind in ("kind = video", "kind = dcgan", "kind = vgg")):
            source = VIDEO
        if "nvae" in (field.when or ""):
            kinds += ["data.binarize=none"]
        value = field.default if field.path != "train.model.backbone.kind" else "mlp"
        resolved = spec.resolve(source, [*kinds, f"{field.path}={value}"])
        found: Any = resolved.model_dump(mode="json")
        for name in field.path.split("."):
            found = found[name]
        assert found == parse_value(value), field.path
    assert tried > 50


def test_every_leaf_of_a_spec_is_in_the_reference() -> None:
    known = {field.path for field in spec.fields()} | {
        "kind",
        "recipe",
        "code",
        "array",
        "start_from",
        "train.model.gating",
    }  # which may be none
    for name in catalogue():
        assert set(_leaves(spec.resolve(name).model_dump())) <= known


def _leaves(value: Any, at: str = "") -> list[str]:
    if not isinstance(value, dict) or at == "train.data.facts":  # which are given whole
        return [at]
    return [leaf for name, part in value.items() for leaf in _leaves(part, f"{at}.{name}" if at else name)]


def test_the_reference_says_type_default_and_kind() -> None:
    by_path = {(field.path, field.when): field for field in spec.fields()}
    lr = by_path["train.optimizer.lr", "train.optimizer.kind = adam"]
    assert (lr.type, lr.default, lr.description) == ("float", "0.001", "peak learning rate")
    assert by_path["train.beta.kind", None].type.startswith("constant | warmup | held | cyclic | log-uniform | rewo")
    assert by_path["train.beta.epochs", "train.beta.kind = warmup"].default == "10.0"
    assert by_path["train.evaluation.limit", None].type == "int | none"
    assert by_path["train.data.name", None].type.startswith("digits | pendulum | mnist | ")
    assert by_path["train.data.facts", None].default == "of the set"
    of_mlps = "train.model.kind = vae, train.model.backbone.kind = mlp"
    assert by_path["train.model.backbone.hidden", of_mlps].type == "[int, ...]"


def test_resolving_loads_neither_torch_nor_numpy() -> None:
    program = (
        f"import sys; from service.kinds.train import spec; spec.resolve({MNIST!r}, ['steps=3']);"
        "print([name for name in ('torch', 'numpy', 'ray', 'mlflow', 'boto3', 'sqlalchemy') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == "[]\n"
