"""usage: what was used of the cluster."""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer

from service.cli import connect, output
from service.cli.arguments import AsJson
from service.cli.users import csv_text, moment
from service.errors import UsageError
from service.queue.used import By

HOUR = 3600.0


def usage(
    since: Annotated[str, typer.Option(metavar="WHEN", help="30m, 12h, 7d, or 2026-01-31[T12:00].")] = "7d",
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Else: now.", show_default=False)] = None,
    by: Annotated[
        str, typer.Option(metavar="user|group|label", help="Whose jobs; one with several labels counts under each.")
    ] = "user",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: AsJson = False,
) -> None:
    """List GPU and CPU hours that jobs have held, by user, group or label."""
    kinds = get_args(By)
    if by not in kinds:
        raise UsageError(f"--by {by}: there are {', '.join(kinds)}")
    start = moment("--since", since)
    assert start is not None
    with connect.client() as client:
        used = client.figures.usage(since=start, until=moment("--until", until), by=cast("By", by))
    if json:
        output.as_json(used)
        return
    header = (by.upper(), "JOBS", "ATTEMPTS", "GPU [h]", "CPU [h]")
    rows: list[tuple[str, ...]] = [
        (
            user.name or "-",
            str(user.jobs),
            str(user.attempts),
            f"{user.gpu_seconds / HOUR:.2f}",
            f"{user.cpu_seconds / HOUR:.2f}",
        )
        for user in used
    ]
    if as_csv:
        output.data(csv_text(header, rows), end="")
        return
    output.table(header, rows)
