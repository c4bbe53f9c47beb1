"""Parts of installed packages are like our own; a broken one is named, and nothing else is the worse for it.

The packages are real ones: a folder with a module and its metadata on the path, as an installer leaves them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.command import anew, vaesvc
from vae_models import parts
from vae_models.likelihoods.specs import LIKELIHOODS, LikelihoodSpec
from vae_models.strict import Strict

GOOD = '''
from typing import ClassVar, Literal

from tuning.searches import Search
from tuning.space import Values
from tuning.study import StageConfig, StudyConfig
from vae_models.config.train import TrainConfig
from vae_models.likelihoods.specs import LikelihoodSpec
from vae_models.priors.specs import PriorSpec
from vae_models.recipes import Recipe


class LaplaceConfig(LikelihoodSpec):
    """A Laplace density of unit scale."""

    measure: ClassVar = "density"
    supports: ClassVar = frozenset({"bytes", "unit"})
    kind: Literal["laplace"] = "laplace"
    sharpness: float = 1.0

    def build(self, data_shape):
        from vae_models.likelihoods.bernoulli import Bernoulli
        return Bernoulli()


class WideConfig(PriorSpec):
    """N(0, 4 I)."""

    trained: ClassVar = False
    kind: Literal["wide"] = "wide"

    def build(self, data_shape, latent):
        from vae_models.priors.standard_normal import StandardNormal
        return StandardNormal(latent=latent)


def config():
    likelihood = {"kind": "laplace", "sharpness": 2.0}
    return TrainConfig.model_validate({"data": {"name": "digits"}, "epochs": 1, "model": {"likelihood": likelihood}})


def study():
    rates = StageConfig(name="rates", space={"optimizer.lr": Values(values=(1e-3, 1e-4))})
    return StudyConfig(base=config(), stages=(rates,))


SAID = {"paper": "friends", "section": "1", "summary": "Laplace"}
def failing():
    raise KeyError("no such table")


RECIPES = (
    Recipe(name="digits/laplace-vae", data="digits", build=config, **SAID),
    Recipe(name="digits/failing", data="digits", build=failing, **SAID),
)
SEARCHES = (Search(name="searches/digits/laplace-vae", build=study, **SAID),)
'''
BAD = """
from typing import ClassVar, Literal

from pydantic import BaseModel

from vae_models.likelihoods.specs import LikelihoodSpec


class Double(LikelihoodSpec):
    measure: ClassVar = "density"
    supports: ClassVar = frozenset({"bytes"})
    kind: Literal["gaussian"] = "gaussian"
    def build(self, data_shape): ...


class Half(LikelihoodSpec):
    measure: ClassVar = "density"
    supports: ClassVar = frozenset({"bytes"})
    kind: Literal["half"] = "half"


class Silent(LikelihoodSpec):
    kind: Literal["silent"] = "silent"
    def build(self, data_shape): ...


class Nameless(LikelihoodSpec):
    measure: ClassVar = "density"
    supports: ClassVar = frozenset({"bytes"})
    def build(self, data_shape): ...


class Any(LikelihoodSpec):
    measure: ClassVar = "density"
    supports: ClassVar = frozenset({"bytes"})
    kind: str = "any"
    def build(self, data_shape): ...


class Loose(BaseModel):
    kind: Literal["loose"] = "loose"


class Fine(LikelihoodSpec):
    measure: ClassVar = "density"
    supports: ClassVar = frozenset({"bytes"})
    kind: Literal["fine"] = "fine"
    def build(self, data_shape): ...


class Alias(Fine):
    kind: Literal["alias"] = "alias"


SEVERAL = (Fine, Half)
"""
REASONS = {
    "likelihood.gaussian": "is there already: vae_models.likelihoods.specs:OURS of vaesvc",
    "likelihood.half": "Half has no build, which LikelihoodSpec leaves to its parts",
    "likelihood.silent": "Silent does not declare measure, supports",
    "likelihood.nameless": "has no `kind`",
    "likelihood.any": "Any.kind is not fixed: write kind: Literal['any'] = 'any'",
    "likelihood.loose": "is no LikelihoodSpec: derive it from vae_models.likelihoods.specs.LikelihoodSpec",
    "likelihood.other": "has the kind 'alias': name the entry likelihood.alias",
    "likelihood.absent": "AttributeError: module 'bad_parts' has no attribute 'Absent'",
    "likelihood.gone": "ModuleNotFoundError: No module named 'bad_gone'",
    "likelihood.wild": "ZeroDivisionError: division by zero",
    "likelihood": "Half has no build",
    "recipe": "is no Recipe",
    "prior.half": "is no PriorSpec",
}
VALUES = {
    "likelihood.gaussian": "Double",
    "likelihood.other": "Alias",
    "likelihood": "SEVERAL",
    "recipe": "SEVERAL",
    "prior.half": "Half",
}


def install(folder: Path, name: str, version: str, source: str, entries: dict[str, str]) -> None:
    (folder / f"{name}_parts.py").write_text(source)
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{entry} = {value if ':' in value else f'{name}_parts:{value}'}" for entry, value in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[vaesvc.parts]", *lines, ""]))


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With two packages on the path: `good` 1.2, all of whose parts are taken, and `bad` 0.1, none of whose are."""
    folder = tmp_path_factory.mktemp("site")
    good = {
        "likelihood.laplace": "LaplaceConfig",
        "prior.wide": "WideConfig",
        "recipe": "RECIPES",
        "search": "SEARCHES",
    }
    install(folder, "good", "1.2", GOOD, good)
    bad = {entry: VALUES.get(entry, entry.partition(".")[2].title()) for entry in REASONS}
    (folder / "bad_wild.py").write_text("1 / 0\n")
    install(folder, "bad", "0.1", BAD, bad | {"likelihood.gone": "bad_gone:Part", "likelihood.wild": "bad_wild:Part"})
    return {**os.environ, "PYTHONPATH": str(folder)}


def python(env: dict[str, str], code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_parts_of_an_installed_package_are_listed_with_ours(env: dict[str, str]) -> None:
    seams = json.loads(vaesvc(env, "parts", "--json").stdout)
    likelihoods = {part["kind"]: part for part in seams["likelihood"]["parts"]}
    assert likelihoods["laplace"] == {
        "kind": "laplace",
        "summary": "A Laplace density of unit scale.",
        "package": "good 1.2",
        "value": "good_parts:LaplaceConfig",
        "declares": {
            "fusible": [],
            "measure": "density",
            "levels": None,
            "supports": ["bytes", "unit"],
            "masks": False,
        },
    }
    assert likelihoods["bernoulli"]["package"] == "vaesvc"
    assert "digits/laplace-vae" in vaesvc(env, "recipes", "laplace").stdout
    assert "searches/digits/laplace-vae" in vaesvc(env, "searches", "laplace").stdout


ASK = """
import json
from service import kinds
from service.errors import UsageError

def resolved(name, *changes):
    try:
        return kinds.resolve(name, changes).model_dump(mode="json")
    except UsageError as error:
        return str(error)

print(json.dumps([resolved(*question) for question in QUESTIONS]))
"""


def test_they_are_submitted_by_name_and_path(env: dict[str, str]) -> None:
    questions = (
        ("digits/laplace-vae", "model.likelihood.sharpness=3"),
        ("searches/digits/laplace-vae",),
        ("digits/beta-vae-mlp", "model.prior.kind=wide"),
        ("digits/beta-vae-mlp", "model.likelihood.kind=laplce"),
        ("digits/laplace-vae", "model.likelihood.sharpnes=1"),
        ("digits/laplace-vae", "data.binarize=threshold"),
        ("digits/beta-vae-mlp", "model.likelihood.kind=gone"),
        ("digits/failing",),
    )
    recipe, search, prior, kind, field, data, broken, failing = python(env, ASK.replace("QUESTIONS", repr(questions)))
    assert recipe["train"]["model"]["likelihood"] == {"kind": "laplace", "sharpness": 3.0}
    assert search["study"]["base"]["model"]["likelihood"]["kind"] == "laplace"
    assert prior["train"]["model"]["prior"] == {"kind": "wide"}
    assert "did you mean laplace?" in kind
    assert "did you mean sharpness?" in field
    assert "model.likelihood laplace takes x that is the levels k/255" in data
    assert "No module named 'bad_gone'" in broken
    assert failing == "the recipe digits/failing (good_parts:RECIPES, of good 1.2) fails: KeyError: 'no such table'"
    assert "kind: laplace" in vaesvc(env, "submit", "digits/laplace-vae", "--dry-run").stdout


def test_a_broken_part_is_named_with_its_package_and_nothing_of_it_is_taken(env: dict[str, str]) -> None:
    seams = json.loads(vaesvc(env, "parts", "--json").stdout)
    broken = {each["entry"]: each for seam in seams.values() for each in seam["broken"]}
    assert broken.keys() == REASONS.keys()
    for entry, reason in REASONS.items():
        assert reason in broken[entry]["reason"], broken[entry]
        assert broken[entry]["package"] == "bad 0.1"
    assert not {"fine", "half", "alias"} & {part["kind"] for part in seams["likelihood"]["parts"]}
    text = vaesvc(env, "parts", "likelihood").stdout
    assert "not loaded: likelihood.gone (bad_gone:Part, of bad 0.1): ModuleNotFoundError" in text
    assert "Usage: vaesvc" in vaesvc(env, "--help").stdout


def test_who_writes_only_our_parts_imports_no_strangers(env: dict[str, str]) -> None:
    loaded = python(
        env,
        "import json, sys; from vae_models.recipes import catalogue; from vae_models.recipes.basic import RECIPES;"
        "RECIPES[0].build(); first = 'good_parts' in sys.modules; catalogue();"
        "print(json.dumps([first, 'good_parts' in sys.modules]))",
    )
    assert loaded == [False, True]


def test_the_json_schema_has_them(env: dict[str, str]) -> None:
    ask = "from vae_models.config.train import TrainConfig; print(json.dumps(TrainConfig.model_json_schema()))"
    schema = python(env, f"import json; {ask}")["$defs"]["ModelConfig"]["properties"]
    for seam, kind, ours in (("likelihood", "laplace", 7), ("prior", "wide", 3)):
        assert len(schema[seam]["oneOf"]) == ours + 1
        assert schema[seam]["oneOf"][-1]["properties"]["kind"]["const"] == kind
        assert len(schema[seam]["discriminator"]["mapping"]) == ours


def test_the_page_of_parts_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "parts.md"
    now = anew(dict(os.environ), "parts", "--markdown").stdout  # in the order in which they are imported
    assert page.read_text() == now, "vaesvc parts --markdown > docs/parts.md"


def test_an_unknown_part_says_what_there_is() -> None:
    with pytest.raises(parts.UnknownPart, match=r"no likelihood 'gausian'; did you mean gaussian\? There are: bern"):
        LIKELIHOODS.get("gausian")


def test_two_parts_of_one_kind_in_our_own_code_stop_everything() -> None:
    seam = parts.Seam[type[Strict]]("twice", [f"{__name__}:One", f"{__name__}:Two"])
    with pytest.raises(parts.PartError, match="twice 'one' is there already"):
        seam.all()


class One(Strict):
    kind: Literal["one"] = "one"


class Two(Strict):
    kind: Literal["one"] = "one"


def test_parts_within_a_specification_are_found_wherever_they_are() -> None:
    from vae_models.recipes import catalogue

    config = catalogue()["digits/beta-vae-mlp"].build()
    assert [path for path, _ in parts.found_in(config, LikelihoodSpec, "train")] == ["train.model.likelihood"]
