"""Arguments and options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

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
