"""report: several models side by side, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import output
from service.errors import StorageError, UsageError

if TYPE_CHECKING:
    from service.report.records import Reported

MOST = 100  # models on one page


def report(
    what: Annotated[
        list[str],
        typer.Argument(metavar="FOLDER...", help="Folders of `vaesvc run` or `vaesvc pull`.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Over the page.", show_default=False)] = "",
) -> None:
    """Make one HTML page of several trained models: what differs, what was found out, curves, samples and pictures.

    The page needs nothing beside itself: it opens from the disk, without a network.
    """
    from service.report import page

    html = page.render(_reported(what), title)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"--out {out}: cannot be written: {error.strerror}") from error
    output.data(str(out))


def _reported(what: list[str]) -> list[Reported]:
    """Return what there is of each. Raise UsageError for what is no model, or is named twice."""
    from service.report import folder

    if len(what) > MOST:
        raise UsageError(f"{len(what)} models: a page has at most {MOST}")
    if twice := [name for place, name in enumerate(what) if name in what[:place]]:
        raise UsageError(f"{twice[0]} is named twice")
    for name in what:
        if not Path(name).is_dir():
            raise UsageError(f"{name} is no folder")
    return [folder.reported(Path(name)) for name in what]
