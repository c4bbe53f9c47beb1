"""Every module can be imported before any other, for no two import each other, lazily either."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("vaesvc", "service", "tuning", "vae_models")


def circle(*packages: str) -> list[str]:
    """Modules of which each loads the next one when all of its functions have run; empty where there is no such circle.

    Without one, every module can be the first to be imported. Who imports a.b.c loads a and a.b before it.
    """
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=True, cache_dir=None)
    loaded = {name: set(_loaded(graph, name)) for name in graph.modules}
    try:
        TopologicalSorter(loaded).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _loaded(graph: grimp.ImportGraph, module: str) -> Iterator[str]:
    for imported in graph.find_modules_directly_imported_by(module):
        parts = imported.split(".")
        above = (".".join(parts[:depth]) for depth in range(1, len(parts)))
        yield imported
        yield from (package for package in above if not f"{module}.".startswith(f"{package}."))


def test_fault_12_no_modules_import_each_other() -> None:
    assert circle(*PACKAGES) == []


@pytest.mark.parametrize(
    ("package", "files"),
    [
        ("round", {"__init__": "", "first": "from round import second", "second": "from round.first import f"}),
        (
            "lazily",
            {"__init__": "", "first": "from lazily import second", "second": "def f():\n    import lazily.first"},
        ),
        (
            "over",  # second is imported by what its package loads
            {"__init__": "from over import third", "second": "", "third": "import under.a"},
        ),
    ],
)
def test_fault_12_a_circle_of_imports_is_found(
    package: str, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / f"{name}.py").write_text(text)
    (tmp_path / "under").mkdir()
    (tmp_path / "under" / "__init__.py").touch()
    (tmp_path / "under" / "a.py").write_text("from over.second import f" if package == "over" else "")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert circle(package, "under") != []


def test_fault_12_every_module_of_the_command_line_can_be_imported_alone() -> None:
    tried = _alone("service.cli")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert int(tried.stdout.split()[0]) > 40


def test_fault_12_what_cannot_be_imported_alone_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").touch()
    (tmp_path / "broken" / "part.py").write_text("from broken import missing")
    tried = _alone("broken", str(tmp_path))
    assert tried.returncode == 1
    assert "broken.part: ImportError: cannot import name 'missing'" in tried.stdout
    assert "2 modules imported alone, 1 fail" in tried.stdout


def _alone(package: str, *paths: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "tests.alone", package]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT, check=False)
