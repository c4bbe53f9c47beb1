"""The pins, the scripts around them and the deployment files agree with each other and with what is installed."""

from __future__ import annotations

import os
import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for path in (*(ROOT / "deploy").glob("*.sh"), ROOT / ".ci" / "run"))


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


def test_a_pin_is_a_name_and_a_public_version() -> None:
    for name, version in pins().items():
        assert Version(version).local is None, f"{name}: a build label would tie it to one index"
    assert (pins()["torch"], pins()["ray"], pins()["mlflow"]) == ("2.13.0", "2.60.0", "3.17.2")


def test_every_requirement_is_pinned_to_what_it_allows() -> None:
    """Of vaesvc itself with its extras, and of everything that these pull in."""
    pinned = pins()
    wanted, seen = [("vaesvc", ("local", "test"))], set()
    while wanted:
        name, extras = wanted.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for line in metadata.requires(name) or ():
            need = Requirement(line)
            if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                continue
            key = canonicalize_name(need.name)
            assert key in pinned, f"{name} needs {need}, which constraints.txt does not pin"
            assert need.specifier.contains(pinned[key], prereleases=True), f"{name} needs {need}, pinned: {pinned[key]}"
            wanted.append((key, tuple(sorted(need.extras))))


@pytest.mark.skipif("CI" not in os.environ, reason="an environment may be upgraded by hand; in CI it is the pinned one")
def test_the_environment_is_the_pinned_one() -> None:
    for name, version in pins().items():
        assert Version(metadata.version(name)).public == version, name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_executable_and_parse(script: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True, timeout=10)


def environment(folder: Path, python: str | None) -> subprocess.CompletedProcess[str]:
    """`deploy/environment.sh` where the Python named is the script given."""
    commands = folder / "bin"
    commands.mkdir()
    for name in ("bash", "dirname", "env"):
        os.symlink(f"/usr/bin/{name}", commands / name)
    if python is not None:
        (commands / "python3").write_text(f"#!/bin/bash\n{python}\n")
        (commands / "python3").chmod(0o755)
    return subprocess.run(
        [ROOT / "deploy" / "environment.sh", folder / "venv"],
        env={"PATH": str(commands), "PYTHON": "python3"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_without_a_new_enough_python_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = environment(tmp_path / "old", '[[ $1 == -V ]] && echo "Python 3.9.2"; exit 1')
    assert old.returncode == 2
    assert re.search(r"Python 3\.11 or newer is needed; .*bin/python3 is Python 3\.9\.2\.\n.*make PYTHON=", old.stderr)
    (tmp_path / "none").mkdir()
    none = environment(tmp_path / "none", None)
    assert none.returncode == 2
    assert "There is no 'python3'. Python 3.11 or newer is needed: apt-get install python3" in none.stderr
    assert not (tmp_path / "old" / "venv").exists()


def test_the_cluster_has_the_pinned_ray_and_the_settings_that_are_known() -> None:
    from service.settings import field_names, variable

    cluster = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "raycluster.yaml").read_text())
    assert cluster["spec"]["rayVersion"] == pins()["ray"]
    assert cluster["spec"]["authOptions"]["mode"] == "token"
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    known = {variable(field) for field in field_names()}
    given = {**compose["x-settings"], **compose["x-oidc"]}
    assert {name for name in given if name.startswith("VAESVC_")} <= known
    for name, service in compose["services"].items():  # nothing is open to the network unless somebody says so
        assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service.get("ports", ())), name
    assert "ports" not in compose["services"]["ray"]


def test_every_setting_is_in_the_manual() -> None:
    from service.settings import field_names

    text = (ROOT / "docs" / "operations.md").read_text()
    missing = [field for field in field_names() if f"`{field.rpartition('.')[2]}`" not in text]
    assert missing == []


def test_every_test_is_in_a_folder_that_is_run() -> None:
    from tests.run import MODELS, SERVICES

    folders = {"/".join(path.relative_to(ROOT).parts[:2]) for path in (ROOT / "tests").rglob("test_*.py")}
    assert folders == {*MODELS, *SERVICES}
