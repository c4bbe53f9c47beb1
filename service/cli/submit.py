"""submit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, follow, output, own_data
from service.cli.arguments import AsJson, Overrides
from service.cli.code import Code, bring, ref
from service.cli.own_data import Data
from service.errors import UsageError

if TYPE_CHECKING:
    from service.client import Client
    from service.specs.job import JobSpec

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE|FILE...",
        help="A recipe's name (`vaesvc recipes`), a search's (`vaesvc searches`) or a YAML/JSON file. Several: jobs "
        "that are queued together, all of them or none.",
        show_default=False,
    ),
]


def submit(
    sources: Sources,
    overrides: Overrides = None,
    workers: Annotated[int | None, typer.Option(help="Processes that train together.", show_default=False)] = None,
    cpus_per_worker: Annotated[float | None, typer.Option(help="CPU cores each.", show_default=False)] = None,
    gpus_per_worker: Annotated[float | None, typer.Option(help="GPUs each.", show_default=False)] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="The job's name.", show_default=False)] = None,
    key: Annotated[
        str | None, typer.Option(help="Submitting again with this key gives the same job.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it; exit code 1 if it fails.")] = False,
    then: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="Submit this when it has succeeded: evaluate; repeatable.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved spec and end.")] = False,
    notify: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHERE",
            help="Tell of its end: webhook:https://..., slack:https://..., mail:you@example.org; repeatable.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    code: Code = None,
    json: AsJson = False,
) -> None:
    """Put a training job, or a study of many, into the queue and print its id."""
    wheel = bring(code)
    from service import kinds
    from service.kinds import named
    from service.kinds.kind import loaded

    asked = {"workers": workers, "cpus_per_worker": cpus_per_worker, "gpus_per_worker": gpus_per_worker}
    resources = {field: value for field, value in asked.items() if value is not None}
    if len(sources) > 1 and (key is not None or name is not None or wait or notify):
        raise UsageError("--key, --name, --wait and --notify are of one job: submit it alone, or leave them out")
    from service.cli.notify import request  # pydantic, which `--help` needs not

    notices = [request(where) for where in notify or ()]
    # resolved here, so that a mistake is found before anything is sent
    with own_data.of_the_service():
        specs = [
            kinds.resolve(
                source, own_data.changes(data, overrides), note=output.note, resources=resources or None,
                priority=priority, name=name, code=ref(wheel), then=then or None,
            )
            for source in sources
        ]  # fmt: skip
    if dry_run:
        for spec in specs:
            plan = named(spec.kind).plan
            if plan is not None and not json:
                loaded(plan)(spec)
            else:
                _print_spec(spec, json)
        return
    with connect.client() as client:
        if wheel is not None:
            client.put_code(wheel)
        if len(specs) > 1:
            _submit_all(client, specs, json)
            return
        (spec,) = specs
        job = client.submit(spec, key=key, notify=notices)
        if not json:
            output.data(job.id)
        if wait:
            job = follow.wait(client, job.id)
        if json:
            output.as_json(job)
        if wait:
            raise typer.Exit(follow.exit_code(job))
    if not json:
        output.note(f"Submitted. Follow it: vaesvc watch {job.id}")


def _submit_all(client: Client, specs: list[JobSpec], json: bool) -> None:
    jobs = client.submit_all(specs)
    if json:
        output.as_json(jobs)
        return
    for job in jobs:
        output.data(job.id)
    output.note(f"Submitted {len(jobs)} jobs. See them: vaesvc jobs")


def _print_spec(spec: JobSpec, json: bool) -> None:
    if json:
        output.as_json(spec)
        return
    import yaml

    output.data(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False), end="")
