"""--code: a package of the user's own, built and put on this process's path before any spec is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import output

if TYPE_CHECKING:
    from service.code.reference import CodeRef
    from service.code.wheel import Wheel

Code = Annotated[
    Path | None,
    typer.Option(
        "--code",
        metavar="DIR|WHEEL",
        help="A package of your own with parts (docs/extending.md): a folder with a pyproject.toml, or a wheel.",
        show_default=False,
    ),
]


def bring(code: Path | None) -> Wheel | None:
    """Return the package, built, checked and importable from here on, its parts loaded. None where none was named.

    Raises CodeError, also for a part of it that cannot be registered: nothing is sent, and nothing is begun.
    """
    if code is None:
        return None
    from service import settings
    from service.code import build, path

    chosen = settings.load()
    if code.suffix != ".whl":
        output.note(f"Building the package in {code}")
    wheel = build.built(code, most_bytes=chosen.code_bytes)
    path.use(wheel, chosen.cache_dir)
    return wheel


def require(code: CodeRef | None) -> None:
    """Raise UsageError, before a spec is run, unless this process has the package that the spec names."""
    from service.code.reference import absent
    from service.errors import UsageError

    if absent(code):
        raise UsageError(f"the spec needs the package {code}, which is user's code: give it with --code DIR|WHEEL")


def ref(wheel: Wheel | None) -> CodeRef | None:
    """Return the package's reference in a spec."""
    return None if wheel is None else wheel.ref
