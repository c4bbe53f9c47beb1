"""The console script `vaesvc`: its own packages first, whatever PYTHONPATH and the current folder hold.

`service` and `tuning` are names that a user's own packages may have. This module has a name that nobody else has, and
lies beside ours: from there they are imported, and what is started from here does not see others of these names.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGES = ("service", "tuning", "vae_models", "vaesvc")
INTERRUPTED = 130  # as a shell reports a process that Ctrl-C ended


class _Beside:
    """Finds our packages beside this module, and nothing else."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [HERE]) if name in PACKAGES else None


def isolate() -> None:
    """From here on `import service` is ours, in this process and in those that it starts."""
    sys.meta_path.insert(0, _Beside)
    if given := os.environ.get("PYTHONPATH"):
        kept = [folder for folder in given.split(os.pathsep) if not shadows(folder)]
        if kept:
            os.environ["PYTHONPATH"] = os.pathsep.join(kept)
        else:
            del os.environ["PYTHONPATH"]


def shadows(folder: str) -> list[str]:
    """The packages and modules in `folder` that have the name of one of ours; none in the folder that ours are in."""
    folder = os.path.abspath(folder)  # an empty one is the current folder
    if os.path.realpath(folder) == os.path.realpath(HERE):
        return []
    paths = (os.path.join(folder, name + ending) for name in PACKAGES for ending in ("", ".py"))
    return [path for path in paths if (os.path.isfile if path.endswith(".py") else os.path.isdir)(path)]


def main() -> None:
    """Run the command line. Ctrl-C is quiet from here on, while modules are still being imported, too."""
    try:
        isolate()
        from service.cli.main import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
