"""report: several models side by side, on one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, output
from service.errors import StorageError, UsageError, VaesvcError

if TYPE_CHECKING:
    from service.report.records import Reported

MOST = 100  # models on one page


def report(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="JOB|FOLDER...",
            help="Jobs that train or evaluate a model; folders of `vaesvc run` or `vaesvc pull`.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Over the page.", show_default=False)] = "",
    log: Annotated[bool, typer.Option(help="Keep the page with the jobs' runs in MLflow, too.")] = True,
) -> None:
    """Make one HTML page of several trained models: what differs, what was found out, curves, samples and pictures.

    The page needs nothing beside itself: it opens from the disk, without a network.
    """
    from service.report import page

    models = list(_reported(what))
    html = page.render(models, title)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"--out {out}: cannot be written: {error.strerror}") from error
    output.data(str(out))
    if log:
        _keep(out, models)


def _reported(what: Sequence[str]) -> Iterator[Reported]:
    """Yield what there is of each, in order. Raise UsageError for what is no model, or is named twice."""
    from service.report import folder, job

    if len(what) > MOST:
        raise UsageError(f"{len(what)} models: a page has at most {MOST}")
    if twice := [name for place, name in enumerate(what) if name in what[:place]]:
        raise UsageError(f"{twice[0]} is named twice")
    for name in what:
        if Path(name).is_dir():
            yield folder.reported(Path(name))
        elif "/" in name:
            raise UsageError(f"{name} is no folder")
        else:
            with connect.client() as client:
                yield job.reported(client, name, _mlflow())


def _mlflow() -> str | None:
    """Return MLflow's address with the user's login; None where none is set."""
    from service import settings
    from service.tracking import login

    return login.for_user(settings.load())


def _keep(page: Path, models: Sequence[Reported]) -> None:
    """Keep the page with every job's run. The page is there already: what MLflow refuses is said, and no failure."""
    runs = dict.fromkeys(model.run_id for model in models if model.run_id is not None)
    uri = _mlflow() if runs else None
    if not runs or uri is None:
        return
    from service.tracking.reports import FOLDER, log_report

    for run_id in runs:
        try:
            log_report(uri, run_id, page)
        except VaesvcError as error:
            output.note(f"The page is not kept with run {run_id}: {error}")
        else:
            output.note(f"Kept with run {run_id} in MLflow: {FOLDER}/{page.name}")
