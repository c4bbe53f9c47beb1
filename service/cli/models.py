"""recipes, models, pull, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, output
from service.cli.arguments import AsJson
from service.errors import VaesvcError
from service.quantities import size

if TYPE_CHECKING:
    from service.client import Client
    from service.model_files import Reference
    from service.wire import ModelVersion


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
    matching = [each for each in every if what.lower() in " ".join(getattr(each, field) for field in fields).lower()]
    if json:
        output.as_json([{field: getattr(recipe, field) for field in fields} for recipe in matching])
        return
    for paper in dict.fromkeys(each.paper for each in matching):
        of_paper = [each for each in matching if each.paper == paper]
        output.data(f"{paper}: {len(of_paper)}")
        output.table(
            ("RECIPE", "SOURCE", "WHAT", "DATA"),
            [(each.name, each.section, each.summary, each.data) for each in of_paper],
        )
        output.data("")
    output.note(
        f"{len(matching)} of {len(every)} recipes. See one: vaesvc submit NAME --dry-run"
        if matching
        else f"No recipe has {what!r} in its name, paper, source or data; all: vaesvc recipes"
    )


def list_models(json: AsJson = False) -> None:
    """List the registered model versions, newest first."""
    with connect.client() as client:
        versions = client.models()
        if json:
            output.as_json(versions)
            return
        rows = [
            (
                version.name,
                version.version,
                ", ".join(version.aliases),
                version.metric or "-",
                output.number(version.value, 4),
                version.job_id or "-",
                output.moment(version.created_at),
            )
            for version in versions
        ]
        output.table(("MODEL", "VERSION", "ALIASES", "METRIC", "VALUE [nats]", "JOB", "REGISTERED"), rows)
        for version in versions:
            _say_of(version)
        _say_of_mlflow(client)


def _say_of(one: ModelVersion) -> None:
    if not one.signed:
        output.note(f"{one.name} version {one.version} is not signed with the service's key: it is not loaded")
    if one.code is not None:
        output.note(f"{one.name} version {one.version} needs the package {one.code}, which is a user's own code")
    if one.mlflow_version not in (None, one.version):
        output.note(f"{one.name} version {one.version} is version {one.mlflow_version} in MLflow")


def _say_of_mlflow(client: Client) -> None:
    """Print where MLflow's registry differs from the service's; if it does not answer, the list stands all the same."""
    try:
        for difference in client.mirror().differences:
            output.note(difference)
    except VaesvcError as error:
        output.note(f"(not compared with MLflow: {error})")


Model = Annotated[str, typer.Argument(metavar="NAME[@best|/VERSION]", help="A registered model.", show_default=False)]


def pull(
    model: Model,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.", show_default=False)],
    alias: Annotated[
        str | None, typer.Option(help="The version with this alias (default: best).", show_default=False)
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, help="This version.", show_default=False)] = None,
    samplers: Annotated[
        bool, typer.Option("--samplers/--no-samplers", help="With the samplers that evaluations have fitted to it.")
    ] = True,
) -> None:
    """Download a model version, after verifying the service's signature and every file; prints the folder."""
    from service import download, settings
    from service.cli.use.models import fetch_fitted

    asked, chosen = _reference(model, alias, version), settings.load()
    with connect.client(chosen) as client:
        fetched = download.pull(asked, directory, client, chosen, report=output.note)
        if samplers:
            fetch_fitted(client, fetched.statement, directory, chosen)
    said = fetched.statement
    output.note(
        f"{said.name} version {said.version}: {fetched.files} files, {size(fetched.bytes)}, signed and verified"
    )
    output.data(str(directory))


def _reference(model: str, alias: str | None, version: int | None) -> Reference:
    from service.errors import UsageError
    from service.model_files import reference

    if alias is not None and version is not None:
        raise UsageError(f"give a version or an alias, not both (version {version}, alias {alias!r})")
    if (alias is not None or version is not None) and ("@" in model or "/" in model):
        raise UsageError(f"{model!r} says which version already: leave --alias and --version out")
    if alias is not None:
        return reference(f"{model}@{alias}")
    return reference(model if version is None else f"{model}/{version}")


def verify(model: Model, json: AsJson = False) -> None:
    """Verify a model version as a reader does, signature and every byte, and show what the service signed."""
    import tempfile

    from service import download, settings
    from service.model_files import reference

    asked, chosen = reference(model), settings.load()
    with connect.client(chosen) as client, tempfile.TemporaryDirectory(prefix="vaesvc-verify-") as scratch:
        said = download.pull(asked, Path(scratch) / "model", client, chosen).statement
    if json:
        output.as_json(said)
        return
    output.table(("SIGNED", ""), [(name, str(value)) for name, value in said.model_dump(exclude={"format"}).items()])
    output.note(f"{said.name} version {said.version}: signed by the service, and every file is what was signed")
