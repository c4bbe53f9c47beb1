"""Packages of a user's own with the names of ours: the command passes over them; what it cannot pass over is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service import __version__
from service.attempt.runner import DRIVER
from service.dispatch.dispatcher import ENTRY_POINT
from tests.command import RECIPE, anew

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("service", "tuning", "vae_models", "vaesvc")
WAYS = ("package", "folder", "module")
THEIRS = "raise SystemError('this is not the package of vaesvc')\n"


def theirs(folder: Path, way: str, names: tuple[str, ...] = NAMES) -> Path:
    """A folder with modules of these names that fail when they are imported; as folders they have nothing in them."""
    for name in names:
        if way == "module":
            (folder / f"{name}.py").write_text(THEIRS)
        else:
            (folder / name).mkdir()
        if way == "package":
            (folder / name / "__init__.py").write_text(THEIRS)
    return folder


@pytest.mark.parametrize(
    ("way", "python_path"),
    [("package", "absolute"), ("folder", "relative"), ("module", "current"), ("package", "after another")],
)
def test_fault_13a_packages_of_the_users_own_do_not_shadow_the_command(
    way: str, python_path: str, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = theirs(tmp_path, way)
    monkeypatch.chdir(folder)
    there = {"absolute": str(folder), "relative": ".", "current": "", "after another": f"/none{os.pathsep}{folder}"}
    env = env | {"PYTHONPATH": there[python_path] or os.pathsep}
    assert anew(env, "--version").stdout == f"vaesvc {__version__}\n"
    assert RECIPE in anew(env, "recipes", "digits").stdout
    (folder / "spec.yaml").write_text(f"recipe: {RECIPE}\ntrain: {{steps: 7}}\n")  # the current folder is still that
    spec = yaml.safe_load(anew(env, "submit", "spec.yaml", "--dry-run").stdout)
    assert spec["train"]["steps"] == 7
    assert anew(env, "token", "list", "--json").stdout == "[]\n"


def test_fault_13a_a_run_beside_packages_of_the_users_own(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(theirs(tmp_path, "package"))
    env = env | {"PYTHONPATH": str(tmp_path)}
    tiny = ("--set", "steps=4", "--set", "model.backbone.hidden=[4]")
    assert json.loads(anew(env, "run", RECIPE, *tiny, "--json").stdout)["steps"] == 4
    assert (tmp_path / "runs" / "digits-beta-vae-mlp" / "metrics.jsonl").exists()


STARTED = """
import _vaesvc, json, os, subprocess
_vaesvc.isolate()
from service.stack.part import environment, python
code = "import json, service, tuning, sys; print(json.dumps([service.__file__, tuning.__file__, sys.path]))"
print(subprocess.run(python("-c", code), env=environment(), capture_output=True, text=True, check=True).stdout)
"""


@pytest.mark.parametrize("way", WAYS)
def test_fault_13a_what_the_command_starts_does_not_see_them_either(
    way: str, env: dict[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    theirs(tmp_path, way)
    path = os.pathsep.join((str(tmp_path), str(other)))
    done = subprocess.run(
        [sys.executable, "-c", STARTED],
        env=env | {"PYTHONPATH": path}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    service, tuning, seen = json.loads(done.stdout)
    assert Path(service).parents[1] == Path(tuning).parents[1] == ROOT
    assert str(other) in seen  # a folder without such names stays
    assert str(tmp_path) not in seen


def test_fault_13a_an_attempt_is_started_past_the_folder_that_ray_was_started_in(
    env: dict[str, str], tmp_path: Path
) -> None:
    theirs(tmp_path, "package")
    driver = [*DRIVER, "not-a-pid"]
    for command in ([sys.executable, *ENTRY_POINT.split()[1:]], driver):
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, input="")
        assert "SystemError" not in done.stderr + done.stdout
    assert "VAESVC_API_URL" in subprocess.run(
        [sys.executable, *ENTRY_POINT.split()[1:]], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
    ).stdout  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["tuning", "vae_models", "service"])
def test_fault_13a_where_it_cannot_be_avoided_what_shadows_is_named(
    name: str, way: str, env: dict[str, str], tmp_path: Path
) -> None:
    theirs(tmp_path, way, (name,))
    code = "import vaesvc; vaesvc.load('name')" if name == "service" else "import service.kinds"
    if name == "service" and way != "folder":
        (tmp_path / ("service.py" if way == "module" else "service/__init__.py")).write_text("")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env | {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {tmp_path / name}")
    assert f"stands in front of vaesvc's own package {name}" in last
    assert "PYTHONPATH" in last
