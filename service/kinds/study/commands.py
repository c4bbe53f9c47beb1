"""studies; study list, run, show, curve, stop, extend. `vaesvc submit` queues a study, `study run` runs one here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, local, output, own_data, progress
from service.cli.arguments import AsJson
from service.cli.code import Code, bring, ref, require
from service.cli.own_data import DataHere
from service.cli.pictures import save
from service.errors import NotFoundError, StorageError
from service.kinds.study import KIND, messages, pictures, tables, text
from service.kinds.study import folder as folders
from service.kinds.study.plan import plan

if TYPE_CHECKING:
    from service.queue.jobs import Job

app = typer.Typer(help="Searches: many configurations, and which of them won.", no_args_is_help=True)

PICTURE_SECONDS = 30.0


def list_searches(
    what: Annotated[str, typer.Argument(metavar="[TEXT]", help="Only searches with this in their name or paper.")] = "",
    json: AsJson = False,
) -> None:
    """List the papers' searches, by paper."""
    from tuning.searches import catalogue

    fields = ("name", "paper", "section", "summary")
    matching = [search for search in catalogue().values() if what.lower() in f"{search.name} {search.paper}".lower()]
    if json:
        output.as_json([{field: getattr(search, field) for field in fields} for search in matching])
        return
    for paper in dict.fromkeys(search.paper for search in matching):
        output.data(paper)
        rows = [(search.name, search.section, search.summary) for search in matching if search.paper == paper]
        output.table(("SEARCH", "SOURCE", "WHAT"), rows)
        output.data("")


@app.command("list")
def list_searches_as_before(
    what: Annotated[str, typer.Argument(metavar="[TEXT]", help="Only searches with this in their name or paper.")] = "",
    json: AsJson = False,
) -> None:
    """List the papers' searches: `vaesvc searches` by its earlier name."""
    list_searches(what, json)
    output.note("`vaesvc searches` lists the same; `vaesvc studies` lists the studies that were submitted.")


@app.command()
def run(
    source: Annotated[str, typer.Argument(metavar="SEARCH|FILE", help="A search's name, or a YAML or JSON file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="Of the base (steps=300), or of a stage (rates.repeats=[0,1]).",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it is kept; default studies/NAME.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: a GPU if there is one.")] = "auto",
    lanes: Annotated[
        int | None,
        typer.Option(min=1, help="How many to fuse at a time, 1: in turn; default: measured.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the trials and end.")] = False,
    data: DataHere = None,
    code: Code = None,
    json: AsJson = False,
) -> None:
    """Train every configuration of a search in this process. Run again with the same --out, it goes on.

    The first Ctrl-C writes checkpoints and stops, the second aborts.
    """  # fmt: skip
    own = ref(bring(code))
    from service.kinds.study.spec import resolve_study

    with own_data.of_this_machine(data) as called:
        spec = resolve_study(source, own_data.changes(called, overrides), note=output.note, code=own)
    if dry_run:
        plan(spec, json=json)
        return
    require(spec.code)
    folder = out or Path("studies") / spec.name.removeprefix("searches/").replace("/", "-")
    with local.own_folder(folder):
        local.same_code(folder, own)
        folders.same_study(folder, spec.study)
        with own_data.fetched(spec.study.base.data.name, spec.study.base.data.digest):
            results = folders.train(spec.study, folder, device, lanes or spec.lanes)
    tables.show(tables.of_results(results), json=json)
    if any(result.winner is None for result in results):
        raise typer.Exit(1)
    output.note(f"Every trial has a folder of its own in {folder}; curves: {folder}/*/curve.png")


Study = Annotated[str, typer.Argument(metavar="STUDY", help="The study's id.", show_default=False)]


@app.command()
def show(
    study: Annotated[
        str, typer.Argument(metavar="STUDY|DIR", help="A study's id, or the --out of `study run`.", show_default=False)
    ],
    json: AsJson = False,
) -> None:
    """Show the trials of a study, best first, as far as they have come."""
    if Path(study).is_dir():
        from tuning.local import read_study
        from vae_models.training.errors import TrainingError

        try:
            results = read_study(folders.read(Path(study)), Path(study))
        except TrainingError as error:
            raise StorageError(str(error)) from error
        tables.show(tables.of_results(results), json=json)
        return
    with connect.client() as client:
        study_detail = messages.fetched(client, study)
    if json:
        output.as_json(study_detail)
        return
    output.data(f"{study_detail.job.id}  {study_detail.job.name}  {progress.state(study_detail.job)}")
    output.data("")
    tables.show(study_detail.stages, json=False)
    model = study_detail.job.result.get("model")
    if isinstance(model, dict):
        output.data(f"registered: {model.get('name')} version {model.get('version')}")


@app.command()
def curve(
    study: Study,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the pictures go; default here.", show_default=False)
    ] = Path(),
    beside: Annotated[
        list[str], typer.Option("--with", metavar="STUDY", help="Another study, to compare; may be repeated.")
    ] = [],  # noqa: B006 - typer copies it
) -> None:
    """Save the pictures of a study: the metric over what was searched, rate against distortion, Pareto front.

    With another study, also both in one: rate against distortion and the ELBO over beta, where the winner of a
    multi-rate study (with evaluation.betas) is a line over the points of the runs that were trained for one beta each.
    """
    with connect.client() as client:
        study_detail = messages.fetched(client, study)
        others = [messages.fetched(client, other) for other in beside]
    if not study_detail.pictures:
        raise NotFoundError(f"study {study} has no pictures yet: it is {progress.state(study_detail.job)}")
    for path in save(study_detail.pictures, out, study).values():
        output.data(str(path))
    if others:
        output.data(str(pictures.compare([study_detail, *others], out)))


@app.command()
def stop(study: Study) -> None:
    """End a study with what it has found out: the winner is chosen among the trials that have ended."""
    with connect.client() as client:
        job = client.amend(study, "finish")
    output.data(f"{job.id}  {job.state.value}")
    output.note(f"Its trials write checkpoints and stop. Follow it: vaesvc watch {job.id}")


@app.command()
def extend(
    study: Study,
    trials: Annotated[int, typer.Option("--trials", min=1, metavar="N", help="So many assignments more.")],
    stage: Annotated[
        str | None,
        typer.Option(help="Of this stage; default the last that draws at random.", show_default=False),
    ] = None,
    code: Code = None,
) -> None:
    """Draw more assignments. What has been trained is not trained again.

    --code, the package that the study was submitted with, is needed where a searcher of that package draws them.
    """
    bring(code)
    from service.kinds.study.spec import StudySpec, drawn_stage, extended, needs_code
    from vae_models.measures import STORED

    with connect.client() as client:
        before = client.job(study).job
        messages.only_a_study(before)
        begun = StudySpec.model_validate(before.spec, context=STORED)
        if needs_code(begun.study, stage):
            require(begun.code)
        name, present = drawn_stage(begun.study, stage)
        extended(begun, present + trials, name)  # with the package at hand it is checked whole
        job = client.amend(study, "extend", trials=present + trials, stage=name)
    output.data(f"{job.id}  {job.state.value}")
    output.note(f"Stage {name} has {present + trials} assignments now.")


def list_studies(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Look at so many jobs.")] = 100,
    json: AsJson = False,
) -> None:
    """List studies, newest first."""
    with connect.client() as client:
        studies = [job for job in client.jobs(limit=limit) if job.kind == KIND.kind]
    if json:
        output.as_json(studies)
        return
    rows = [
        (
            job.id,
            job.name,
            job.owner,
            job.state.value,
            str(job.progress.get("stage", "-")),
            f"{job.progress['ended']}/{job.progress['trials']}" if "trials" in job.progress else "-",
            output.duration(None if job.state.final else job.progress.get("seconds_left")),
            _winner(job),
            output.since(job.created_at),
            job.reason or "",
        )
        for job in studies
    ]
    output.table(
        ("ID", "NAME", "OWNER", "STATE", "STAGE", "TRIALS", "LEFT [h:mm:ss]", "WINNER", "SUBMITTED", "REASON"), rows
    )


def _winner(job: Job) -> str:
    winner = job.result.get("winner")
    return text.assignment(winner["assignment"]) if isinstance(winner, dict) else "-"
