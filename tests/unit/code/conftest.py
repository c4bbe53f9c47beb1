"""Packages as users have them, small ones."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

PYPROJECT = """
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0"
dependencies = {dependencies}

[project.entry-points."vaesvc.parts"]
"likelihood.quiet" = "{module}.specs:QuietConfig"
"""


@pytest.fixture
def package(tmp_path):
    """Makes a folder with a package: its name, files beside its specs, and dependencies may be given."""

    def make(
        name: str = "my-parts", files: dict[str, str] | None = None, dependencies: tuple[str, ...] = (), at: str = ""
    ) -> Path:
        module = name.replace("-", "_")
        folder = tmp_path / (at or name)
        (folder / module).mkdir(parents=True)
        lines = PYPROJECT.format(name=name, module=module, dependencies=list(dependencies))
        (folder / "pyproject.toml").write_text(dedent(lines))
        (folder / module / "__init__.py").write_text("")
        (folder / module / "specs.py").write_text("class QuietConfig:\n    kind = 'quiet'\n")
        for path, text in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return folder

    return make
