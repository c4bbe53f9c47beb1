"""Arguments and options that several commands take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from service.errors import UsageError

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Source = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|FILE",
        help="A recipe's name (`vaesvc recipes`), a search's (`vaesvc searches`) or a YAML/JSON file.",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change one value, e.g. optimizer.lr=3e-4; repeatable.", show_default=False
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME=VALUE", help="What jobs are found by; repeatable.", show_default=False),
]


def by_name(labels: Sequence[str] | None) -> dict[str, str] | None:
    """Return labels by name; None where none were given. Raises UsageError."""
    if not labels:
        return None
    named = {}
    for label in labels:
        name, equals, value = label.partition("=")
        if not equals or not name:
            raise UsageError(f"--label {label}: a label has the form name=value, for example --label team=vision")
        named[name] = value
    return named
