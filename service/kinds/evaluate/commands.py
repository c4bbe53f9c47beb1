"""evaluate: a folder in this process; a model or a job of the service as a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import connect, follow, output
from service.cli.arguments import AsJson
from service.cli.code import Code, bring, ref
from service.errors import UsageError

if TYPE_CHECKING:
    from service.client import Client
    from service.kinds.evaluate.spec import EvaluateSpec
    from service.queue.jobs import Job


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|MODEL|JOB",
            help="A folder of `vaesvc run` or `vaesvc pull`; NAME@best or NAME/3; a job, or JOB/STAGE/TRIAL.",
            show_default=False,
        ),
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
            help="What is found out (`vaesvc parts evaluator`); repeatable. Default: all standard ones that suit.",
            show_default=False,
        ),
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="How samples are made (`vaesvc parts sampler`); repeatable.", show_default=False
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What distances between images are measured on (`vaesvc parts features`); default inception.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        str | None,
        typer.Option(
            metavar="winner|all",
            help="Of a study: its winner (default), or every trial that is kept, a job each.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Of a job: processes that share the data.", show_default=False)
    ] = None,
    priority: Annotated[int | None, typer.Option(help="Of a job: higher goes first.", show_default=False)] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Of a job: submitting again with this key gives the same job.", show_default=False),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the job: print its id.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be found out, and what not, and end.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="Of a folder: cpu, cuda, cuda:1, ...; auto: a GPU if there is one.")
    ] = "auto",
    code: Code = None,
    json: AsJson = False,
) -> None:
    """Find out what the papers measure about a trained model, with errors, and print it.

    A folder is evaluated in this process, and what was found out is kept in FOLDER/evaluation: run again, it goes on
    where it was. A model or a job of the service is evaluated by a job, on all of its workers, and logged to the
    model's run in MLflow.
    """  # fmt: skip
    wheel = bring(code)
    from service.kinds.evaluate import plans

    of_plan, of_spec = _split(overrides or ())
    parts: dict[str, Any] = {"evaluators": evaluator or (), "samplers": sampler or (), "features": features}
    if Path(what).is_dir():
        fields = plans.written((*of_plan, *of_spec), split=split, **parts)
        _folder(Path(what), fields, device, dry_run=dry_run, json=json)
        return
    fields = plans.written(of_plan, split=split, **parts)
    from service import kinds
    from service.kinds.evaluate.plan import plan

    def spec(of: str) -> Any:
        given = {"kind": "evaluate", "of": of, "plan": fields}
        resources = None if workers is None else {"workers": workers}
        return kinds.resolve(given, of_spec, resources=resources, priority=priority, code=ref(wheel))

    with connect.client() as client:
        specs = [spec(of) for of in _models(client, what, trials)]
        if dry_run:
            for each in specs:
                plan(each)
            return
        if wheel is not None:
            client.put_code(wheel)
        _submit(client, specs, key, detach=detach, json=json)


def _split(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides of the plan, and those of the job."""
    from service.kinds.evaluate.plans import is_of_plan

    return [each for each in overrides if is_of_plan(each)], [each for each in overrides if not is_of_plan(each)]


def _folder(folder: Path, fields: Mapping[str, Any], device: str, *, dry_run: bool, json: bool) -> None:
    from service.kinds.evaluate import folder as folders

    if dry_run:
        folders.plan(folder, fields)
        return
    try:
        outcome = folders.evaluated(folder, fields, device)
    except folders.Interrupted:
        output.note("Stopped: what was found out is kept. The same command goes on.")
        raise typer.Exit(output.INTERRUPTED) from None
    show(outcome, json=json)
    output.note(f"Pictures, tables and tensors: {folder / folders.FOLDER}")


def _models(client: Client, what: str, trials: str | None) -> list[str]:
    """Return what is evaluated, each by a job of its own."""
    if trials in (None, "winner"):
        return [what]
    if trials != "all":
        raise UsageError(f"--trials: {trials} is not allowed; allowed: winner, all")
    stages = client.view(what).detail.get("stages", ())
    every = [
        f"{what}/{stage['name']}/{trial['number']}"
        for stage in stages
        for trial in sorted(stage["trials"], key=lambda trial: int(trial["number"]))
        if trial["state"] in ("done", "pruned")
    ]
    if not every:
        raise UsageError(f"--trials all: job {what} has no trial that has ended")
    return every


def _submit(client: Client, specs: Sequence[EvaluateSpec], key: str | None, *, detach: bool, json: bool) -> None:
    """Submit a job for each; unless detached, wait for them and print what they found out."""
    keys = [key if key is None or len(specs) == 1 else f"{key}/{number}" for number in range(len(specs))]
    jobs = [client.submit(spec, key=each) for spec, each in zip(specs, keys, strict=True)]
    if detach:
        _print_ids(jobs, json=json)
        return
    outcomes, failed = [], False
    for job in jobs:
        output.note(f"job {job.id}: Ctrl-C detaches, it goes on (vaesvc watch {job.id})")
        ended = follow.ended(client, job.id)
        failed |= follow.exit_code(ended) != 0
        outcomes.append({"job": ended.id, "state": ended.state.value, **client.view(job.id).detail})
    if json:
        output.as_json(outcomes if len(outcomes) > 1 else outcomes[0])
    else:
        for each in outcomes:
            show(each, json=False)
    if failed:
        raise typer.Exit(1)


def _print_ids(jobs: Sequence[Job], *, json: bool) -> None:
    if json:
        output.as_json(jobs if len(jobs) > 1 else jobs[0])
        return
    for job in jobs:
        output.data(job.id)
    output.note(f"Submitted. Follow it: vaesvc watch {jobs[0].id}")


def show(outcome: Mapping[str, Any], *, json: bool) -> None:
    """Print a summary: {"plan", "findings"} and more, as tables unless as JSON."""
    from service.kinds.evaluate import tables

    if json:
        output.as_json(outcome)
        return
    for number, table in enumerate(tables.of(outcome["plan"]["split"], outcome["findings"])):
        output.data(("\n" if number else "") + table.title)
        output.table(table.header, table.rows)
    for note in tables.notes(outcome["findings"]):
        output.note(note)
