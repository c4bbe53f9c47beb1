"""up, down, status: the embedded local stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from service.cli import output
from service.cli.arguments import AsJson

if TYPE_CHECKING:
    from service.stack import Part


def up(json: AsJson = False) -> None:
    """Start the local stack: S3 server, MLflow, Ray, API, dispatcher. Again: restart what died."""
    from service import settings, stack

    parts = stack.up(settings.load(), output.note)
    _print(parts, json)
    if not json:
        output.note("Submit a job: vaesvc submit digits/beta-vae-mlp --wait")


def down() -> None:
    """End the local stack's processes, and no others; what it stored stays."""
    from service import settings, stack

    stack.down(settings.load(), output.note)
    output.note("The local stack is down; `vaesvc up` starts it again with all that it stored.")


def status(json: AsJson = False) -> None:
    """Show the local stack's parts, and what the cluster does. Exit code 3 if a part does not answer."""
    from service import settings, stack

    loaded = settings.load()
    parts = stack.status(loaded)
    _print(parts, json)
    if not all(part.ok for part in parts) or not parts:
        raise typer.Exit(3)


def _print(parts: Sequence[Part], json: bool) -> None:
    from dataclasses import asdict

    if json:
        output.as_json([{name: _text(value) for name, value in asdict(part).items()} for part in parts])
        return
    rows = [
        (
            part.name,
            "ok" if part.ok else "DOWN",
            "-" if part.pid is None else str(part.pid),
            part.address or "-",
            part.detail or "",
            "-" if part.log is None else str(part.log),
        )
        for part in parts
    ]
    output.table(("PART", "STATE", "PID", "ADDRESS", "DETAIL", "LOG"), rows)


def _text(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float) else str(value)
