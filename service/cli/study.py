"""studies; study list, run, show, curve, stop, extend. `vaesvc submit` queues a study, `study run` runs one here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, local, output, progress
from service.cli.arguments import AsJson
from service.cli.code import Code, bring, ref
from service.errors import NotFoundError, StorageError, UnavailableError, UsageError, VaesvcError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service import wire
    from service.kinds.study.spec import StudySpec
    from service.queue.jobs import Job
    from tuning.curves import Curve
    from tuning.local import StageResult, StudyProgress
    from tuning.study import StudyConfig

app = typer.Typer(help="Searches: many configurations, and which of them won.", no_args_is_help=True)

FILE = "study.json"
LINE_SECONDS = 5.0  # between two lines of progress
PICTURE_SECONDS = 30.0
OVER = ("done", "pruned", "failed")


def list_searches(
    what: Annotated[str, typer.Argument(metavar="[TEXT]", help="Only searches with this in their name or paper.")] = "",
    json: AsJson = False,
) -> None:
    """List the papers' searches, by paper."""
    from tuning.searches import catalogue

    fields = ("name", "paper", "section", "summary")
    found = [one for one in catalogue().values() if what.lower() in f"{one.name} {one.paper}".lower()]
    if json:
        output.as_json([{field: getattr(one, field) for field in fields} for one in found])
        return
    for paper in dict.fromkeys(one.paper for one in found):
        output.data(paper)
        rows = [(one.name, one.section, one.summary) for one in found if one.paper == paper]
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
    code: Code = None,
    json: AsJson = False,
) -> None:
    """Train every configuration of a search in this process. Run again with the same --out, it goes on.

    The first Ctrl-C writes checkpoints and stops, the second aborts.
    """  # fmt: skip
    own = ref(bring(code))
    from service.kinds.study.spec import resolve_study

    spec = resolve_study(source, overrides or [], note=output.note, code=own)
    if dry_run:
        plan(spec, json=json)
        return
    folder = out or Path("studies") / spec.name.removeprefix("searches/").replace("/", "-")
    with local.own_folder(folder):
        local.same_code(folder, own)
        _same_study(folder, spec.study)
        results = _run(spec.study, folder, device, lanes or spec.lanes)
    _show(_views(results), json=json)
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
            results = read_study(_read(Path(study)), Path(study))
        except TrainingError as error:
            raise StorageError(str(error)) from error
        _show(_views(results), json=json)
        return
    with connect.client() as client:
        found = client.study(study)
    if json:
        output.as_json(found)
        return
    output.data(f"{found.job.id}  {found.job.name}  {progress.state(found.job)}")
    output.data("")
    _show(found.stages, json=False)
    model = found.job.result.get("model")
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
    import httpx

    with connect.client() as client:
        found = client.study(study)
        others = [client.study(other) for other in beside]
    if not found.pictures:
        raise NotFoundError(f"study {study} has no pictures yet: it is {progress.state(found.job)}")
    out.mkdir(parents=True, exist_ok=True)
    for name, address in found.pictures.items():
        path = out / f"{study}-{name}.png"
        try:
            answer = httpx.get(address, timeout=PICTURE_SECONDS, follow_redirects=True).raise_for_status()
        except httpx.HTTPError as error:
            raise UnavailableError(f"the picture of stage {name} could not be fetched: {error}") from error
        path.write_bytes(answer.content)
        output.data(str(path))
    if others:
        output.data(str(_compare([found, *others], out)))


def _compare(studies: Sequence[wire.StudyDetail], out: Path) -> Path:
    """One picture of several studies. NotFoundError where one has no rates over beta."""
    from tuning import curves

    found = []
    for one in studies:
        last = [curve for stage in one.stages if (curve := _curve(f"{one.job.name} {one.job.id}", stage))][-1:]
        if not last:
            raise NotFoundError(
                f"study {one.job.id} has no rates over beta yet: it needs trials that ended, of a stage over "
                "beta.value or of a multi-rate model that is evaluated at several beta (evaluation.betas)"
            )
        found += last
    path = out / f"{'-with-'.join(one.job.id for one in studies)}.png"
    curves.compare(found, path)
    return path


def _curve(name: str, stage: wire.StudyStage) -> Curve | None:
    """All trials that were trained for a beta of their own; of multi-rate trials those of the winner."""
    from tuning import curves

    done = [trial for trial in stage.trials if trial.state == "done"]
    every = curves.curve(name, [(trial.assignment, trial.metrics) for trial in done])
    if every is None or not every.continuous:
        return every
    return curves.curve(name, [(t.assignment, t.metrics) for t in done if t.candidate == stage.winner])


@app.command()
def stop(study: Study) -> None:
    """End a study with what it has found out: the winner is chosen among the trials that have ended."""
    with connect.client() as client:
        job = client.stop_study(study)
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
) -> None:
    """Draw more assignments. What has been trained is not trained again."""
    from service.kinds.study.spec import StudySpec, drawn_stage
    from vae_models.measures import STORED

    with connect.client() as client:
        before = client.job(study).job
        if before.kind != "study":
            raise UsageError(f"job {study} is one run, not a study")
        name, present = drawn_stage(StudySpec.model_validate(before.spec, context=STORED).study, stage)
        job = client.extend_study(study, present + trials, name)
    output.data(f"{job.id}  {job.state.value}")
    output.note(f"Stage {name} has {present + trials} assignments now.")


def list_studies(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Look at so many jobs.")] = 100,
    json: AsJson = False,
) -> None:
    """List studies, newest first."""
    with connect.client() as client:
        found = [job for job in client.jobs(limit=limit) if job.kind == "study"]
    if json:
        output.as_json(found)
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
            _won(job),
            output.since(job.created_at),
            job.reason or "",
        )
        for job in found
    ]
    output.table(
        ("ID", "NAME", "OWNER", "STATE", "STAGE", "TRIALS", "LEFT [h:mm:ss]", "WINNER", "SUBMITTED", "REASON"), rows
    )


def _won(job: Job) -> str:
    winner = job.result.get("winner")
    return progress.assignment(winner["assignment"]) if isinstance(winner, dict) else "-"


# --- what was asked for ---------------------------------------------------------------------------------------------


def plan(spec: StudySpec, *, json: bool = False) -> None:
    """What would run, and what it costs."""
    from service.kinds.study.spec import cost
    from tuning.pace import seconds_per_step
    from tuning.study import trials

    if json:
        output.as_json(spec)
        return
    base, steps = spec.study.base, cost(spec.study)
    output.note("Timing a few steps of each stage, on random data ...")
    for stage in spec.study.stages:
        found = list(trials(stage, base))
        size = f"{stage.planned()} trials, {stage.planned() // len(stage.repeats)} x {len(stage.repeats)} seeds"
        output.data(
            f"{stage.name}: {size}, best {stage.metric} ({stage.mode}); at most {steps[stage.name]:,} steps of "
            f"{base.batch_size} images, {output.duration(steps[stage.name] * seconds_per_step(base))} one after the "
            "other on this machine's CPU"
        )
        output.table(
            ("TRIAL", "SEED", "VALUES"),
            [(str(t.number), str(t.seed), progress.assignment(t.assignment)) for t in found],
        )
        base = found[0].config
        if stage.planned() > len(found):
            output.data(f"... and {stage.planned() - len(found)} more, chosen by what these give")
    output.note("The values of a later stage are set on top of what wins the one before.")


# --- running --------------------------------------------------------------------------------------------------------


def _run(study: StudyConfig, folder: Path, device: str, lanes: int | None) -> list[StageResult]:
    from tuning.local import run_study
    from vae_models.data.errors import DataError
    from vae_models.training.errors import TrainingError

    local.data_folders()
    with local.stop_on_interrupt() as stop:
        try:
            return run_study(
                study, folder, device=local.chosen_device(device), width=lanes, stop=stop, say=output.note,
                on_progress=_Printer(),
            )  # fmt: skip
        except (DataError, TrainingError) as error:
            raise VaesvcError(str(error)) from error


class _Printer:
    """A line on stderr every few seconds."""

    def __init__(self) -> None:
        self._shown = float("-inf")

    def __call__(self, now: StudyProgress) -> None:
        if time.monotonic() - self._shown < LINE_SECONDS:
            return
        self._shown = time.monotonic()
        width = f", {now.width} at a time" if now.width else ""
        output.note(
            f"{now.stage}: {now.ended} of {now.trials} trials ended, step {now.steps:,}/{now.total_steps:,} of all"
            f"{width}, left {output.duration(now.seconds_left)} [h:mm:ss]"
        )


def _same_study(folder: Path, study: StudyConfig) -> None:
    path = folder / FILE
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(study.model_dump_json(indent=2) + "\n")
        partial.replace(path)
    elif _read(folder) != study:
        raise UsageError(f"{folder} was begun with another study; name another --out")


def _read(folder: Path) -> StudyConfig:
    from tuning.study import StudyConfig
    from vae_models.measures import STORED

    try:
        return StudyConfig.model_validate_json((folder / FILE).read_text(), context=STORED)
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {FILE}: it is not the folder of a study") from None
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise StorageError(f"{folder / FILE} is damaged ({why}); name another --out") from error


# --- showing --------------------------------------------------------------------------------------------------------


def _views(results: Sequence[StageResult]) -> list[wire.StudyStage]:
    from service.kinds.study.view import view

    return [view(result.stage, result.trials, result.outcomes, result.ranked, result.winner) for result in results]


def _show(stages: Sequence[wire.StudyStage], *, json: bool) -> None:
    if json:
        output.as_json([stage.model_dump(mode="json") for stage in stages])
        return
    for stage in stages:
        over = [trial for trial in stage.trials if trial.state in OVER]
        output.data(
            f"{stage.name}: {len(over)} of {len(stage.trials)} trials ended, best {stage.metric} first ({stage.mode})"
        )
        rows = [
            (
                str(trial.number),
                trial.state,
                output.number(trial.value, 4),
                f"{trial.steps:,}",
                str(trial.seed),
                progress.assignment(trial.assignment)
                + ("" if trial.origin is None else f", from trial {trial.origin}"),
            )
            for trial in stage.trials
        ]
        output.table(("TRIAL", "STATE", stage.metric, "STEPS", "SEED", "VALUES"), rows)
        for error in dict.fromkeys(trial.error for trial in stage.trials if trial.error):
            output.data(f"failed: {error}")
        _show_means(stage)
        output.data("")


def _show_means(stage: wire.StudyStage) -> None:
    if any(len(candidate.values) > 1 for candidate in stage.candidates):
        output.data("")
        rows = [
            (
                output.number(one.mean, 4),
                output.number(one.standard_error, 4),
                str(len(one.values)),
                "" if one.complete else "incomplete",
                progress.assignment(one.assignment),
            )
            for one in stage.candidates
        ]
        output.table(("MEAN", "STANDARD ERROR", "SEEDS", "", "VALUES"), rows)
    won = next((one for one in stage.candidates if one.number == stage.winner), None)
    if won is not None:
        error = "" if won.standard_error is None else f" +- {won.standard_error:.2g}"
        output.data(f"winner: {progress.assignment(won.assignment)}, mean {output.number(won.mean, 4)}{error}")
    elif all(trial.state in OVER for trial in stage.trials):
        output.data("winner: none, no assignment was trained to its end with every seed")
