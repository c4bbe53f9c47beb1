"""Every module can be imported before any other, for no two import each other, lazily either."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

import service.cli

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
    names = [f"service.cli.{found.name}" for found in pkgutil.iter_modules(service.cli.__path__)]
    assert "service.cli.submit" in names
    for name in names:
        done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{name}: {done.stderr}"
