"""parts."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli import output
from service.cli.arguments import AsJson


def parts(
    seam: Annotated[
        str | None, typer.Argument(metavar="[SEAM]", help="Only this one: likelihood, prior, job-kind, ...")
    ] = None,
    json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/parts.md: the package's own.")] = False,
) -> None:
    """List what can be written as `kind`, by seam, installed packages included, and what could not be loaded."""
    from service import parts_view

    if markdown:
        output.data(parts_view.page(), end="")
        return
    listed = {name: parts_view.as_data(each) for name, each in parts_view.seams(seam).items()}
    if json:
        output.as_json(listed)
        return
    for name, data in listed.items():
        output.data(f"{name}: {data['summary']}" if data["summary"] else name)
        if seam is None and name in parts_view.LISTED_ELSEWHERE:
            others = sorted({part["package"] for part in data["parts"]})
            output.data(f"{len(data['parts'])} of {', '.join(others)}: {parts_view.LISTED_ELSEWHERE[name]} lists them")
        else:
            rows = [
                (part["kind"], part["package"], part["summary"], parts_view.words(part["declares"]) or "-")
                for part in data["parts"]
            ]
            output.table(("KIND", "PACKAGE", "WHAT", "DECLARES"), rows)
        for broken in data["broken"]:
            output.data(
                f"not loaded: {broken['entry']} ({broken['value']}, of {broken['package']}): {broken['reason']}"
            )
        output.data("")
