"""Options of the commands that use a model. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="NAME[@best|/VERSION] of a registered model, or a folder: a pulled model, a run, a checkpoint.",
        show_default=False,
    ),
]
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A set of your own, a published one, or what lies at a path.", show_default=False
    ),
]


def out(help: str) -> Any:
    return typer.Option("--out", metavar="FILE", help=help, show_default=False)


Split = Annotated[str, typer.Option("--split", metavar="SPLIT", help="train, val or test.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="The first N data.", show_default=False)]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of everything that is drawn.")]
Beta = Annotated[float | None, typer.Option("--beta", help="Of a multi-rate model; default 1.", show_default=False)]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...; auto: a GPU if there is one.")]
Code = Annotated[
    str | None,
    typer.Option(
        "--code",
        metavar="trust|DIR|WHEEL",
        help="Run the user's package that the model needs: the one that was signed with it, or yours.",
        show_default=False,
    ),
]
