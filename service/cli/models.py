"""recipes, models, pull."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli import connect, output
from service.cli.arguments import AsJson


def recipes(
    what: Annotated[
        str, typer.Argument(metavar="[TEXT]", help="Only recipes with this in their name, paper, source or data.")
    ] = "",
    json: AsJson = False,
) -> None:
    """List the recipes that can be submitted or run, by paper."""
    from vae_models.recipes import catalogue

    fields = ("name", "paper", "section", "data", "summary")
    every = list(catalogue().values())
    found = [one for one in every if what.lower() in " ".join(getattr(one, field) for field in fields).lower()]
    if json:
        output.as_json([{field: getattr(recipe, field) for field in fields} for recipe in found])
        return
    for paper in dict.fromkeys(one.paper for one in found):
        of_paper = [one for one in found if one.paper == paper]
        output.data(f"{paper}: {len(of_paper)}")
        output.table(
            ("RECIPE", "SOURCE", "WHAT", "DATA"), [(one.name, one.section, one.summary, one.data) for one in of_paper]
        )
        output.data("")
    output.note(
        f"{len(found)} of {len(every)} recipes. See one: vaesvc submit NAME --dry-run"
        if found
        else f"No recipe has {what!r} in its name, paper, source or data; all: vaesvc recipes"
    )


def list_models(json: AsJson = False) -> None:
    """List the registered model versions, newest first."""
    with connect.client() as client:
        found = client.models()
    if json:
        output.as_json(found)
        return
    rows = [
        (
            one.name,
            one.version,
            ", ".join(one.aliases),
            one.metric or "-",
            output.number(one.value, 4),
            one.job_id or "-",
            output.moment(one.created_at),
        )
        for one in found
    ]
    output.table(("MODEL", "VERSION", "ALIASES", "METRIC", "VALUE [nats]", "JOB", "REGISTERED"), rows)


def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A registered model.", show_default=False)],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.", show_default=False)],
    alias: Annotated[
        str | None, typer.Option(help="The version with this alias (default: best).", show_default=False)
    ] = None,
    version: Annotated[str | None, typer.Option(help="This version.", show_default=False)] = None,
) -> None:
    """Download a model version and verify every file's SHA-256; prints the folder."""
    from service import download

    with connect.client() as client:
        files = client.model_files(name, version=version, alias=alias)
    fetched = download.fetch(files, directory, report=output.note)
    output.note(f"{files.name} version {files.version}: {len(files.files)} files, {output.size(fetched)}, verified")
    output.data(str(directory))
