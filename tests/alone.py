"""Whether every module can be the first of ours to be imported.

    python -m tests.alone [PACKAGE ...]

Each module is imported in a process of its own, forked from one that has loaded what we depend on and nothing of ours.
Printed is each module that fails, with its error, and how many there were. `env` of the migrations is left out: alembic
runs it, inside a context of its own, and nothing imports it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("vaesvc", "service", "tuning", "vae_models")
LOADED_BEFORE = ("torch", "numpy", "pydantic", "typer", "rich", "sqlalchemy", "alembic", "fastapi", "boto3", "PIL")
RUN_BY_ALEMBIC = "service.queue.migrations.env"


def modules(package: str) -> Iterator[str]:
    """Yield the names of all modules of a package or, of a module, its own."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package}: no such package or module")
    if not spec.submodule_search_locations:
        yield package
        return
    folder = Path(spec.origin).parent
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        yield ".".join((package, *(part for part in parts if part != "__init__")))


def fails_alone(module: str) -> bool:
    """Import it in a child that has none of our modules; print its error."""
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(module)
        except BaseException as error:
            os.write(1, f"{module}: {type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def main(packages: list[str]) -> int:
    for name in LOADED_BEFORE:
        importlib.import_module(name)
    names = [name for package in packages for name in modules(package) if name != RUN_BY_ALEMBIC]
    ours = sorted(name for name in sys.modules if name.partition(".")[0] in PACKAGES and "." in name)
    if ours:
        raise SystemExit(f"loaded before the first: {', '.join(ours)}")
    began, failed = time.monotonic(), 0
    for count, name in enumerate(names, 1):
        failed += fails_alone(name)
        if sys.stderr.isatty():
            left = (time.monotonic() - began) / count * (len(names) - count)
            sys.stderr.write(f"\r{count} of {len(names)} modules, {left:.0f} s left ")
    sys.stdout.write(f"{len(names)} modules imported alone, {failed} fail\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PACKAGES)))
