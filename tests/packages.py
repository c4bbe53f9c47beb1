"""Packages as users have them, small ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

PYPROJECT = """
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0"
dependencies = {dependencies}

[project.entry-points."vaesvc.parts"]
{entries}
"""
ENTRIES = MappingProxyType({"beta.half": "specs:HalfConfig"})
SPECS = """
from typing import Literal

from vae_models.control.specs import BetaSpec


class HalfConfig(BetaSpec):
    kind: Literal["half"] = "half"

    def build(self, steps_per_epoch):
        from vae_models.control.schedules import Constant

        return Constant(value=0.5)
"""


def package(
    folder: Path,
    *,
    name: str = "my-parts",
    files: Mapping[str, str] = MappingProxyType({}),
    entries: Mapping[str, str] = ENTRIES,
    dependencies: tuple[str, ...] = (),
) -> Path:
    """A folder with a package of one module `specs`. files: more of it, by their paths. entries: of its parts."""
    module = name.replace("-", "_")
    (folder / module).mkdir(parents=True)
    lines = "\n".join(f'"{entry}" = "{module}.{value}"' for entry, value in entries.items())
    text = PYPROJECT.format(name=name, dependencies=list(dependencies), entries=lines)
    (folder / "pyproject.toml").write_text(text)
    for path, content in {f"{module}/__init__.py": "", f"{module}/specs.py": SPECS, **files}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder
