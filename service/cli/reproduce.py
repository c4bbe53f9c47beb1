"""reproduce: a table or figure of a paper, trained and evaluated here or as jobs, beside what the paper says."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import local, output
from service.cli.arguments import AsJson
from service.cli.code import Code, bring, ref
from service.errors import UsageError, VaesvcError

if TYPE_CHECKING:
    from service.code.reference import CodeRef
    from service.code.wheel import Wheel
    from tuning.reproductions.entry import Reproduction, Scale
    from tuning.reproductions.results import Results
    from tuning.reproductions.runner import Pace
    from tuning.reproductions.training import Runs
    from vae_models.records import Progress


def reproduce(
    paper: Annotated[
        str, typer.Argument(metavar="PAPER|list", help="mr-vae, sigma-vae, vhp or ar-elbo; `list` lists what there is.")
    ] = "list",
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="table-1, figure-5, ...", show_default=False)
    ] = None,
    scale: Annotated[
        str, typer.Option(help="small: minutes on two cores, with less data or epochs; paper: as in the paper.")
    ] = "small",
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where runs and results are kept; run again, it goes on from what is there."),
    ] = Path("reproductions"),
    seeds: Annotated[
        int | None, typer.Option(min=1, max=100, help="In place of the scale's.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: a GPU if there is one.")] = "auto",
    code: Code = None,
    service: Annotated[
        bool, typer.Option("--service", help="Train and evaluate as jobs of the service, at once; collect them here.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --service: processes of each job.", show_default=False)
    ] = None,
    json: AsJson = False,
) -> None:
    """Reproduce a table or figure of a paper: train, evaluate, and say what of its claims holds here, and by how much.

    The first Ctrl-C writes a checkpoint and stops, the second aborts. DIR/PAPER-TABLE-SCALE/ has result.md,
    result.json and pictures; DIR/trained/ the runs, which reproductions share. With --code the reproductions and parts
    of a package are there, too, and DIR belongs to this package alone.

    With --service the runs are jobs: Ctrl-C ends the waiting alone, and the same command finds them again.
    """
    if workers is not None and not service:
        raise UsageError("--workers is of jobs: give --service, too")
    wheel = bring(code)
    jobs = Jobs(wheel=wheel, workers=workers) if service else None
    if paper == "list":
        _list(table, json=json)
        return
    entry, size = _entry(paper, table), _scale(scale)
    if size not in entry.scales:
        raise UsageError(f"{entry.name} is of scale {' or '.join(entry.scales)} only: give --scale {entry.scales[0]}")
    results = _run(entry, size, out, seeds, device, ref(wheel), jobs)
    if json:
        output.as_json(results.plain())
    else:
        output.data("\n".join([*results.claims(), "", *results.table()]))
    for reason in dict.fromkeys(results.missing.values()):
        output.note(f"Not measured: {reason}")
    from tuning.reproductions.runner import folder_of

    output.note(f"Written: {folder_of(entry, size, out)}/result.md")
    if not results.measured:
        raise typer.Exit(1)


def _list(text: str | None, *, json: bool) -> None:
    """Print the reproductions, those with `text` in their name or summary."""
    from tuning.reproductions import REPRODUCTIONS

    every = [entry for entry in REPRODUCTIONS.all().values() if (text or "") in f"{entry.name} {entry.summary}"]
    if json:
        output.as_json(
            [{"name": entry.name, "summary": entry.summary, "scales": list(entry.scales)} for entry in every]
        )
        return
    rows = []
    for entry in every:
        paper, _, table = entry.name.partition("/")
        rows.append((paper, table, ", ".join(entry.scales), entry.summary))
    output.table(("PAPER", "TABLE", "SCALES", "WHAT"), rows)


def _entry(paper: str, table: str | None) -> Reproduction:
    """Return the reproduction that was asked for. Raise UsageError with the nearest name, and all of the paper's."""
    from service.spec_schema import nearest
    from tuning.reproductions import REPRODUCTIONS

    name = f"{paper}/{table or ''}".lower().replace(" ", "-").replace("_", "-")
    entry = REPRODUCTIONS.find(name)
    if entry is not None:
        return entry
    every = REPRODUCTIONS.kinds()
    of_paper = [each for each in every if each.startswith(f"{name.partition('/')[0]}/")]
    near = nearest(name, list(every))
    hint = f"did you mean {near.replace('/', ' ')}? " if near and table else ""
    if of_paper:
        what = f"{paper} has no reproduction {table!r}" if table else f"say which of {paper}"
        there = ", ".join(each.partition("/")[2] for each in of_paper)
    else:
        what, there = f"there is no paper {paper!r}", ", ".join(dict.fromkeys(n.partition("/")[0] for n in every))
    raise UsageError(f"{what}; {hint}There are: {there} (vaesvc reproduce list){REPRODUCTIONS.not_loaded()}")


def _scale(scale: str) -> Scale:
    from tuning.reproductions.entry import SCALES

    for known in SCALES:
        if known == scale:
            return known
    raise UsageError(f"--scale {scale}: there are {' and '.join(SCALES)}")


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """What the runs' jobs have beside their configurations: the user's own package, and how many workers each."""

    wheel: Wheel | None
    workers: int | None


def _run(
    entry: Reproduction,
    scale: Scale,
    out: Path,
    seeds: int | None,
    device: str,
    own: CodeRef | None,
    jobs: Jobs | None,
) -> Results:
    local.data_folders()
    with ExitStack() as stack:
        stack.enter_context(local.own_folder(out))
        stop = stack.enter_context(local.stop_on_interrupt(local.STOPPING if jobs is None else "The jobs go on."))
        show = stack.enter_context(_printer())
        local.same_code(out, own)
        from tuning.reproductions.runner import reproduce as run
        from tuning.reproductions.training import Interrupted
        from vae_models.training.errors import TrainingError

        try:
            return run(
                entry, scale, out, seeds=seeds, device=local.chosen_device(device), stop=stop, say=output.note,
                on_pace=show, elsewhere=None if jobs is None else _elsewhere(stack, stop, jobs),
            )  # fmt: skip
        except Interrupted as interrupted:
            output.note(f"{interrupted}. Go on with the same command.")
            raise typer.Exit(output.INTERRUPTED) from None
        except TrainingError as error:
            raise VaesvcError(str(error)) from error


def _elsewhere(stack: ExitStack, stop: Callable[[], bool], jobs: Jobs) -> Callable[[Callable[[Progress], None]], Runs]:
    """Return what makes the runs jobs of the service, which the settings name; its client is closed with the stack."""
    from service import settings
    from service.cli import connect
    from service.reproduced.runs import JobRuns
    from service.tracking import login

    chosen = settings.load()
    client = stack.enter_context(connect.client(chosen))
    if jobs.wheel is not None:
        client.put_code(jobs.wheel)
    return lambda show: JobRuns(
        client=client, mlflow_uri=login.for_user(chosen), stop=stop, say=output.note, show=show,
        workers=jobs.workers, code=ref(jobs.wheel),
    )  # fmt: skip


@contextmanager
def _printer() -> Iterator[Callable[[Pace], None]]:
    """Yield a printer of the pace on stderr: one line, overwritten, on a terminal, else a line every few seconds."""
    tty = sys.stderr.isatty()
    shown_at, written = float("-inf"), False

    def show(pace: Pace) -> None:
        nonlocal shown_at, written
        if time.monotonic() - shown_at < (local.TTY_SECONDS if tty else local.LINE_SECONDS):
            return
        shown_at, written = time.monotonic(), True
        line = _line(pace)
        sys.stderr.write(f"\r\033[K{line}" if tty else f"{line}\n")
        sys.stderr.flush()

    try:
        yield show
    finally:
        if tty and written:
            output.note("")


def _line(pace: Any) -> str:
    return (
        f"{pace.ended}/{pace.runs} runs  {100 * pace.share:.0f} %  left {output.duration(pace.seconds_left)}  "
        f"{pace.run}"
    )
