"""evaluate: a folder in this process, a model or a job of the service as a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli import output
from service.cli.arguments import AsJson
from service.cli.code import Code, bring
from service.errors import UsageError


def evaluate(
    what: Annotated[
        str,
        typer.Argument(metavar="FOLDER", help="A folder of `vaesvc run` or `vaesvc pull`.", show_default=False),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Of the plan, e.g. limit=1000 or betas=[0.5,2]; repeatable.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="train|val|test", help="On which data; default test.", show_default=False)
    ] = None,
    evaluator: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="What is found out (`vaesvc parts evaluator`); repeatable. Default: all that suit.",
            show_default=False,
        ),
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="How samples are made (`vaesvc parts sampler`); repeatable.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="In this process: cpu, cuda, ...; auto: a GPU if there is one.")] = "auto",
    code: Code = None,
    json: AsJson = False,
) -> None:
    """Find out what the papers measure about a trained model, with errors, and print it.

    A folder is evaluated in this process, and what was found out is kept in FOLDER/evaluation. Run again, it goes on
    where it was. Ctrl-C stops it, the second aborts.
    """  # fmt: skip
    from service.kinds.evaluate import folder, plans

    fields = plans.written(overrides or (), split=split, evaluators=evaluator or (), samplers=sampler or ())
    if not Path(what).is_dir():
        raise UsageError(f"{what} is no folder")
    bring(code)
    try:
        found = folder.evaluated(Path(what), fields, device)
    except folder.Interrupted:
        output.note("Stopped: what was found out is kept. The same command goes on.")
        raise typer.Exit(output.INTERRUPTED) from None
    show(found, json=json)
    output.note(f"Pictures, tables and tensors: {Path(what) / folder.FOLDER}")


def show(found: Mapping[str, Any], *, json: bool) -> None:
    """Print a summary: {"plan", "findings"} and more, as tables unless as JSON."""
    from service.kinds.evaluate import tables

    if json:
        output.as_json(found)
        return
    for number, table in enumerate(tables.of(found["plan"]["split"], found["findings"])):
        output.data(("\n" if number else "") + table.title)
        output.table(table.header, table.rows)
    for note in tables.notes(found["findings"]):
        output.note(note)
