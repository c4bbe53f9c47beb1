"""The console script `vaesvc`: its own packages first, whatever PYTHONPATH and the current folder hold.

`service` and `tuning` are names that a user's own packages may have. This module has a name that nobody else has, and
lies beside ours: from there they are imported, and what is started from here does not see others of these names.

A command that trains has its memory in huge pages where the kernel gives them to who asks: fewer of them to look up at
every step. glibc asks, if its environment said so when the process began.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGES = ("service", "tuning", "vae_models", "vaesvc")
TRAINING = ("run", "study", "reproduce", "evaluate", "bench")
TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
ON_REQUEST = "[madvise]"  # what the kernel's file says where huge pages are given to who asks for them
KERNEL = "/sys/kernel/mm/transparent_hugepage/enabled"
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


def in_huge_pages() -> None:
    """Begin this process again with its memory in huge pages, if it is to train and can have them; once. Whoever has
    set GLIBC_TUNABLES is left alone."""
    if sys.argv[1:2] == [] or sys.argv[1] not in TRAINING or TUNABLES in os.environ:
        return
    try:
        with open(KERNEL, encoding="ascii") as file:
            if ON_REQUEST in file.read():
                os.execve(sys.executable, sys.orig_argv, os.environ | {TUNABLES: HUGE_PAGES})
    except OSError:  # no such kernel, or no second beginning: small pages do, too
        return


def command() -> None:
    """Run the command line as it is installed."""
    in_huge_pages()
    main()


def main() -> None:
    """Run the command line. Ctrl-C is quiet from here on, while modules are still being imported, too."""
    try:
        isolate()
        from service.cli.main import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
