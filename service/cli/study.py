"""study list, run, show: many configurations in this process. Studies through the queue come with their own release."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import local, output
from service.cli.jobs import AsJson
from service.errors import StorageError, UsageError, VaesvcError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuning.local import StageResult, StudyProgress
    from tuning.study import StudyConfig

app = typer.Typer(help="Searches: many configurations in this process, and which of them won.", no_args_is_help=True)

FILE = "study.json"
LINE_SECONDS = 5.0  # between two lines of progress


@app.command("list")
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
    json: AsJson = False,
) -> None:
    """Train every configuration of a search, and say which won. Run again with the same --out, it goes on.

    The first Ctrl-C writes checkpoints and stops, the second aborts.
    """  # fmt: skip
    study, name = _resolve(source, overrides or [])
    if dry_run:
        _plan(study, json=json)
        return
    folder = out or Path("studies") / name
    with local.own_folder(folder):
        _same_study(folder, study)
        results = _run(study, folder, device, lanes)
    _show(results, json=json)
    if any(result.winner is None for result in results):
        raise typer.Exit(1)
    output.note(f"Every trial has a folder of its own in {folder}; curves: {folder}/*/curve.png")


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of `study run`.")], json: AsJson = False
) -> None:
    """Show the trials of a study, best first, as far as they have come."""
    from tuning.local import read_study

    _show(read_study(_read(folder), folder), json=json)


# --- what was asked for ---------------------------------------------------------------------------------------------


def _resolve(source: str, overrides: Sequence[str]) -> tuple[StudyConfig, str]:
    from pydantic import ValidationError

    from service import spec_schema, spec_text
    from tuning.searches import catalogue
    from tuning.study import StudyConfig

    if Path(source).suffix in spec_text.SUFFIXES:
        given, name = spec_text.read_file(Path(source)), Path(source).stem
    elif source in catalogue():
        given, name = (
            catalogue()[source].build().model_dump(mode="json"),
            source.removeprefix("searches/").replace("/", "-"),
        )
    else:
        near = spec_schema.nearest(source, list(catalogue()))
        hint = f"; did you mean {near}?" if near else ""
        raise UsageError(f"there is no search {source!r}{hint} All: vaesvc study list. A file ends in .yaml or .json")
    try:
        study = StudyConfig.model_validate(_with_base(given))
        return (_overridden(study, overrides) if overrides else study), name
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, one['loc'])) or 'study'}: {str(one['msg']).removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        raise UsageError("\n".join(lines)) from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def _with_base(given: dict[str, Any]) -> dict[str, Any]:
    """In a file `base` may be a recipe's name, or a mapping with `recipe` and fields that change it."""
    from tuning.space import with_values
    from vae_models.recipes import catalogue

    base = given.get("base")
    name = base if isinstance(base, str) else base.get("recipe") if isinstance(base, dict) else None
    if name is None:
        return given
    if name not in catalogue():
        raise UsageError(f"base: there is no recipe {name!r}; all: vaesvc recipes")
    changes = {path: value for path, value in base.items() if path != "recipe"} if isinstance(base, dict) else {}
    return {**given, "base": with_values(catalogue()[name].build(), changes).model_dump(mode="json")}


def _overridden(study: StudyConfig, overrides: Sequence[str]) -> StudyConfig:
    from service import spec_text
    from tuning.space import with_values
    from tuning.study import StudyConfig

    base: dict[str, Any] = {}
    plain = study.model_dump(mode="json")
    stages = {stage["name"]: stage for stage in plain["stages"]}
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"{override}: an override has the form path=value, for example optimizer.clip_norm=10")
        first, _, rest = path.strip().partition(".")
        value = spec_text.parse_value(text)
        if first in stages:
            stages[first][rest] = value
        else:
            base[path.strip()] = value
    plain["base"] = with_values(study.base, base).model_dump(mode="json")
    return StudyConfig.model_validate(plain)


def _plan(study: StudyConfig, *, json: bool) -> None:
    from tuning.study import trials

    if json:
        output.as_json(study.model_dump(mode="json"))
        return
    base = study.base
    for stage in study.stages:
        found = list(trials(stage, base))
        assignments = len({trial.candidate for trial in found})
        size = f"{len(found)} trials, {assignments} x {len(stage.repeats)} seeds"
        output.data(f"{stage.name}: {size}, best {stage.metric} ({stage.mode})")
        output.table(("TRIAL", "SEED", "VALUES"), [(str(t.number), str(t.seed), _text(t.assignment)) for t in found])
        base = found[0].config
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

    try:
        return StudyConfig.model_validate_json((folder / FILE).read_text())
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {FILE}: it is not the folder of a study") from None
    except ValueError as error:
        raise StorageError(f"{folder / FILE} is damaged: {error}") from error


# --- showing --------------------------------------------------------------------------------------------------------


def _show(results: Sequence[StageResult], *, json: bool) -> None:
    if json:
        output.as_json([_plain(result) for result in results])
        return
    for result in results:
        stage = result.stage
        output.data(
            f"{stage.name}: {len(result.outcomes)} of {len(result.trials)} trials ended, best {stage.metric} first"
        )
        rows = [
            (
                str(place), _text(one.assignment), output.number(one.mean, 4), output.number(one.standard_error, 4),
                f"{sum(state == 'done' for state in one.states)}/{len(one.states)}",
                ", ".join(sorted(set(one.states) - {"done"})) or "-",
            )
            for place, one in enumerate(result.ranked, 1)
        ]  # fmt: skip
        output.table(("PLACE", "VALUES", "MEAN", "STANDARD ERROR", "SEEDS", "ELSE"), rows)
        if result.winner is not None:
            output.data(f"winner: {_text(result.winner.assignment)}, trial {result.winner.best_trial}")
        elif len(result.outcomes) == len(result.trials):
            errors = {outcome.error for outcome in result.outcomes.values() if outcome.error}
            output.data(
                "winner: none, no assignment was trained to its end with every seed. " + " ".join(sorted(errors)[:1])
            )
        output.data("")


def _plain(result: StageResult) -> dict[str, Any]:
    return {
        "stage": result.stage.name,
        "ended": len(result.outcomes),
        "trials": len(result.trials),
        "ranked": [vars(one) for one in result.ranked],
        "winner": None if result.winner is None else result.winner.assignment,
        "fused": {"chosen": result.widths.chosen, "seconds": result.widths.seconds, "reasons": result.widths.reasons},
    }


def _text(assignment: Any) -> str:
    def short(value: Any) -> str:
        if isinstance(value, dict):
            return (
                str(value.get("kind", ""))
                + "("
                + ", ".join(f"{k}={short(v)}" for k, v in value.items() if k != "kind")
                + ")"
            )
        return f"{value:g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{path}={short(value)}" for path, value in assignment.items())
