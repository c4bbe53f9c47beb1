"""--code on the command line, without a service: what is trained with a package, and what is refused before it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.command import RECIPE, vaesvc
from tests.packages import package

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
SHORT = ("--set", "steps=2", "--set", "evaluation.pictures=false", "--set", "evaluation.limit=64")
BROKEN = {  # entry -> (where it is, the file there, why it is refused)
    "beta.gone": ("gone:HalfConfig", "import nowhere_at_all\n", "No module named 'nowhere_at_all'"),
    "beta.wild": ("wild:HalfConfig", "def half(:\n", "SyntaxError: invalid syntax"),
    "beta.none": ("specs:Nothing", None, "has no attribute 'Nothing'"),
    "betta.half": ("specs:HalfConfig", None, "there is no seam 'betta'; did you mean beta?"),
    "beta.third": ("specs:HalfConfig", None, "has the kind 'half': name the entry beta.half"),
    "beta.warmup": (
        "ours:WarmupBetaConfig",
        "from vae_models.control.specs import WarmupBetaConfig\n",
        "there already",
    ),
    "beta.useless": ("useless:Useless", "class Useless:\n    kind = 'useless'\n", "is no BetaSpec"),
}


def test_a_run_with_a_package_goes_on_with_the_same_package_alone(env: dict[str, str], tmp_path: Path) -> None:
    source = package(tmp_path / "source")
    out = tmp_path / "run"
    given = ("run", RECIPE, *SHORT, "--set", "beta.kind=half", "--out", str(out))
    done = vaesvc(env, *given, "--code", str(source))
    assert "Done: 2 steps" in done.stderr
    kept = json.loads((out / "code.json").read_text())
    assert (kept["name"], kept["version"], len(kept["digest"])) == ("my-parts", "1.0", 64)
    assert json.loads((out / "config.json").read_text())["beta"] == {"kind": "half"}
    vaesvc(env, *given, "--code", str(source))
    unknown = vaesvc(env, *given, code=2)
    assert "half is not allowed" in unknown.stderr
    (source / "my_parts" / "more.py").write_text("")
    other = vaesvc(env, *given, "--code", str(source), code=2)
    assert f"was begun with the package my-parts 1.0 (SHA-256 {kept['digest'][:12]}" in other.stderr
    spec = vaesvc(env, "submit", *given[1:-2], "--code", str(source), "--dry-run")
    (tmp_path / "spec.yaml").write_text(spec.stdout)
    without = vaesvc(env, "run", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "other"), code=2)
    assert "the spec needs the package my-parts 1.0" in without.stderr
    assert "give it with --code" in without.stderr
    assert not (tmp_path / "other").exists()


def test_a_run_with_a_package_is_used_by_who_agrees_to_run_it(env: dict[str, str], tmp_path: Path) -> None:
    source, out, made = package(tmp_path / "source"), tmp_path / "run", tmp_path / "samples.npz"
    vaesvc(env, "run", RECIPE, *SHORT, "--set", "beta.kind=half", "--out", str(out), "--code", str(source))
    use = ("sample", str(out), "--count", "2", "--out", str(made))
    refused = vaesvc(env, *use, code=2)
    assert "needs the package my-parts 1.0" in refused.stderr
    assert "--code" in refused.stderr
    assert not made.exists()
    vaesvc(env, *use, "--code", str(source))
    assert made.exists()


def test_a_package_of_which_a_part_cannot_be_registered_is_refused_as_a_whole(
    env: dict[str, str], tmp_path: Path
) -> None:
    entries = {"beta.half": "specs:HalfConfig"} | {entry: value for entry, (value, _, _) in BROKEN.items()}
    files = {f"my_parts/{value.split(':')[0]}.py": text for value, text, _ in BROKEN.values() if text is not None}
    source = package(tmp_path / "source", files=files, entries=entries)
    refused = vaesvc(env, "run", RECIPE, "--code", str(source), "--out", str(tmp_path / "run"), code=2)
    assert "the package my-parts 1.0 cannot be used" in refused.stderr
    said = refused.stderr.split("; ")
    for entry, (_, _, why) in BROKEN.items():
        assert why in refused.stderr, entry
        assert any(entry in each for each in said), entry
    assert "beta.half (" not in refused.stderr  # it is right, and not taken all the same
    assert not (tmp_path / "run").exists()


def test_a_package_whose_dependencies_are_not_there_or_that_is_none_is_refused(
    env: dict[str, str], tmp_path: Path
) -> None:
    needs = package(tmp_path / "needs", dependencies=("nothing-of-this-name>=3",))
    refused = vaesvc(env, "submit", RECIPE, "--code", str(needs), "--dry-run", code=2)
    assert "it needs nothing-of-this-name>=3, which is not installed" in refused.stderr
    none = vaesvc(env, "study", "run", "searches/none", "--code", str(tmp_path / "nowhere"), code=2)
    assert "nowhere is not there; --code takes a folder with a pyproject.toml, or a wheel" in none.stderr


def test_a_reproduction_of_a_package_and_its_folder(env: dict[str, str], tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out"), "--seeds", "1")
    code = ("--code", str(PLUGINS))
    done = vaesvc(env, "reproduce", "lighthouse", "table-1", *out, *code)
    assert "| a narrow likelihood reconstructs better | table 1 |" in done.stdout
    assert r"|  | squared error | \|E[x\|z]\| |" in done.stdout.splitlines()  # a heading's bars are no borders
    cells = json.loads((tmp_path / "out" / "lighthouse-table-1-small" / "result.json").read_text())["cells"]
    assert [len(cell["ours"]) for cell in cells] == [1, 1, 1, 1]
    without = vaesvc(env, "reproduce", "lighthouse", "table-1", *out, code=2)
    assert "there is no paper 'lighthouse'" in without.stderr
    another = vaesvc(env, "reproduce", "mr-vae", "table-1", *out, code=2)
    assert "was begun with the package lighthouse 1.0" in another.stderr


FAULTS = {
    "shape": ("-sum_per_datum(terms, mask)", "-terms"),
    "draws": ("-sum_per_datum(terms, mask)", "-sum_per_datum(terms, mask) + torch.randn(x.shape[0])"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_part_that_breaks_a_promise_is_named_with_the_method(env: dict[str, str], tmp_path: Path, what: str) -> None:
    source = tmp_path / "source"
    shutil.copytree(PLUGINS, source)
    path = source / "lighthouse" / "laplace.py"
    before, after = FAULTS[what]
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    run = ("run", "rings/lighthouse", *SHORT, "--out", str(tmp_path / "run"), "--code", str(source))
    failed = vaesvc(env, *run, code=2)
    assert "likelihood" in failed.stderr
    assert "Laplace" in failed.stderr or "laplace" in failed.stderr
    assert "log_prob" in failed.stderr
