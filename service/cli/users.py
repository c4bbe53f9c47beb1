"""user list, put, disable, enable, remove, and audit: for administrators, through the service."""

from __future__ import annotations

import csv
import io
import time
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, output
from service.cli.arguments import AsJson
from service.cli.tokens import checked
from service.errors import UsageError
from service.queue.roles import Role

if TYPE_CHECKING:
    from service.queue.acts import ActRecord

app = typer.Typer(help="List, make and remove users (for administrators).", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_AT = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S")


@app.command("list")
def list_users(json: AsJson = False) -> None:
    """List the users and their roles."""
    with connect.client() as client:
        users = client.users.all()
    if json:
        output.as_json(users)
        return
    rows = [
        (user.name, user.role.value, output.moment(user.created_at), output.moment(user.disabled_at)) for user in users
    ]
    output.table(("NAME", "ROLE", "SINCE", "DISABLED"), rows)


@app.command()
def put(name: Name, role: Annotated[Role, typer.Option(help="What they are from now on.")] = Role.USER) -> None:
    """Make a user, or give one another role. A token of theirs: `vaesvc token new LABEL --user NAME`."""
    checked(name, "user")
    with connect.client() as client:
        user = client.users.put(name, role)
    output.data(f"{user.name}  {user.role.value}")


@app.command()
def disable(name: Name) -> None:
    """Refuse a user's tokens and logins until they are enabled again. What they have queued goes on."""
    with connect.client() as client:
        client.users.disable(name, disabled=True)
    output.note(f"{name!r} is disabled: `vaesvc user enable {name}` undoes it.")


@app.command()
def enable(name: Name) -> None:
    """Take a user's tokens and logins again."""
    with connect.client() as client:
        client.users.disable(name, disabled=False)
    output.note(f"{name!r} is taken again.")


@app.command()
def remove(name: Name) -> None:
    """Revoke all of a user's tokens, and forget the role. Their jobs, data and models stay theirs."""
    with connect.client() as client:
        client.users.remove(name)
    output.note(f"{name!r} has no token any more.")


def audit(
    actor: Annotated[str | None, typer.Option(metavar="USER", help="Acts of this user.", show_default=False)] = None,
    about: Annotated[
        str | None, typer.Option(metavar="JOB|NAME", help="Acts about this job, name or user.", show_default=False)
    ] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was not allowed.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="30m, 12h, 7d, or 2026-01-31[T12:00].", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    before: Annotated[int | None, typer.Option(metavar="ID", help="Those before this act: the next page.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: AsJson = False,
) -> None:
    """List who did what, on what, when and from where, and who was refused; newest first (for administrators)."""
    with connect.client() as client:
        acts = client.users.acts(
            actor=actor, object=about, refused=refused, before=before, limit=limit,
            since=moment("--since", since), until=moment("--until", until),
        )  # fmt: skip
    if json:
        output.as_json(acts)
        return
    header = ("ID", "AT", "WHO", "TOKEN", "DID", "ABOUT", "FROM", "ANSWER")
    rows = [_row(act) for act in acts]
    if as_csv:
        output.data(csv_text(header, rows), end="")
        return
    output.table(header, rows)
    if len(acts) == limit:
        output.note(f"There may be more: vaesvc audit --before {acts[-1].id}")


def _row(act: ActRecord) -> tuple[str, ...]:
    answer = str(act.status) if act.allowed else f"{act.status} refused"
    who = (str(act.id), output.moment(act.at), act.actor or "-", act.token or "-")
    return (*who, act.act, act.object or "-", act.origin or "-", answer)


def csv_text(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table as CSV (RFC 4180, lines end with a line feed). A cell that a spreadsheet would take for a formula
    is led by an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[f"'{cell}" if _formula(cell) else cell for cell in row] for row in rows])
    return text.getvalue()


def _formula(cell: str) -> bool:
    return cell[:1] in ("=", "+", "@", "\t") or (cell[:1] == "-" and len(cell) > 1 and not cell[1:2].isdigit())


def moment(option: str, text: str | None) -> float | None:
    """Return the moment that an option means, in seconds since 1970: so long ago, or a local date and time.

    Raises UsageError for what is neither.
    """
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.replace(".", "", 1).isdigit():
        return max(0.0, time.time() - float(number) * _UNITS[unit])
    for shape in _AT:
        try:
            return time.mktime(time.strptime(text, shape))
        except (ValueError, OverflowError):
            continue
    raise UsageError(f"{option} {text}: write so long ago, such as 30m, 12h, 7d or 2w, or a date: 2026-01-31T12:00")
