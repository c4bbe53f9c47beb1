"""token: add, list, role, revoke for whoever has the database; new, mine, rotate, drop for whoever has a token."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, output
from service.cli.arguments import AsJson
from service.errors import StorageError, UsageError
from service.queue.roles import Role, Scope

if TYPE_CHECKING:
    from service.queue.jobs import TokenInfo
    from service.queue.store import Store

app = typer.Typer(
    help="Make, replace and revoke tokens: everybody's on the service's database (add, list, role, revoke), one's own "
    "through the service (new, mine, rotate, drop).",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Who it is for: the owner of its jobs.", show_default=False)]
Label = Annotated[str, typer.Argument(metavar="LABEL", help="Which of your tokens.")]
File = Annotated[
    Path | None, typer.Option(help="Write it there (mode 0600) instead of printing it.", show_default=False)
]
Days = Annotated[float | None, typer.Option(min=0.001, help="How many days it is taken; else: for ever.")]
Scopes = Annotated[
    list[Scope] | None,
    typer.Option("--scope", help="What it may do, of what you may; repeatable. Else: all of it.", show_default=False),
]
DAY = 86_400.0
HOUR = 3600.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@contextmanager
def _store() -> Iterator[Store]:
    from service import settings
    from service.queue.store import Store

    loaded = settings.load()
    store = Store(loaded.database_url, lease_seconds=loaded.lease_seconds)
    try:
        store.migrate()
        yield store
    finally:
        store.close()


def _note(store: Store, act: str, name: str) -> None:
    """Write into the audit log what was done past the API, and by whom of this machine."""
    from service.queue.acts import Act
    from service.stack.database import account

    store.audit.add(Act(actor=account(), act=f"vaesvc token {act}", object=name, origin="the database", status=200))


def checked(name: str, what: str = "token name") -> str:
    """Return a name of a user or a token. Raises UsageError for one that cannot be."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{what} {name!r}: 1 to 64 letters, digits, dots, dashes, underscores or @")
    return name


@app.command()
def add(
    name: Name,
    file: File = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="An administrator's: cancels, retries and extends everybody's jobs.")
    ] = False,
    role: Annotated[
        Role | None, typer.Option(help="What they are; `vaesvc token role` changes it.", show_default=False)
    ] = None,
) -> None:
    """Make a user's token and print it: this once, for only its hash is kept."""
    from service import auth

    checked(name)
    if admin and role not in (None, Role.ADMIN):
        raise UsageError(f"--admin and --role {role}: give one of them")
    token = auth.new_token()
    with _store() as store:
        store.add_token(name, token, admin=admin)
        if role is not None:
            store.users.put(name, role)
        _note(store, "add", name)
        if file is None:
            output.data(token)
            return
        try:
            auth.write_private(file, token + "\n")
        except OSError as error:
            store.revoke_token(name)
            raise StorageError(f"cannot write the token to {file}: {error.strerror}; none was made") from error
    output.data(str(file))


@app.command("list")
def list_tokens(json: AsJson = False) -> None:
    """List everybody's tokens, their roles, scopes and ends."""
    with _store() as store:
        tokens = list(store.tokens())
    if json:
        output.as_json(tokens)
        return
    _print(tokens)


def _print(tokens: Sequence[TokenInfo]) -> None:
    header = ("NAME", "ROLE", "TOKEN", "SCOPES", "MADE", "ENDS")
    output.table(header, [_row(token) for token in tokens])


def _row(token: TokenInfo) -> tuple[str, ...]:
    scopes = "all" if token.scopes is None else ",".join(token.scopes)
    label = f"{token.label} (replaced)" if token.replaced else token.label
    return (
        token.name,
        token.role.value,
        label,
        scopes,
        output.moment(token.created_at),
        output.moment(token.expires_at),
    )


@app.command()
def role(
    name: Name,
    role: Annotated[Role, typer.Argument(help="What they are from now on.", show_default=False)],
) -> None:
    """Give a user another role."""
    from service.errors import NotFoundError

    with _store() as store:
        if all(user.name != name for user in store.users.all()):
            raise NotFoundError(f"{name!r} has no token")
        store.users.put(name, role)
        _note(store, "role", f"{name} {role}")
    called = {"admin": "an administrator", "operator": "an operator", "viewer": "a viewer", "user": "an ordinary user"}
    output.note(f"{name!r} is {called[role]} from now on.")


@app.command()
def revoke(name: Name) -> None:
    """Revoke all of a user's tokens: from now on they are refused."""
    with _store() as store:
        store.revoke_token(name)
        _note(store, "revoke", name)
    output.note(f"Token {name!r} is revoked.")


@app.command()
def new(
    label: Annotated[str, typer.Argument(metavar="LABEL", help="What it is for: ci, notebook.", show_default=False)],
    scope: Scopes = None,
    days: Days = None,
    user: Annotated[
        str | None, typer.Option(help="Whose, if not yours: for administrators.", show_default=False)
    ] = None,
    file: File = None,
) -> None:
    """Make another token that acts as you, with fewer scopes or for a while, and print it: this once."""
    from service import auth

    checked(label, "token's label")
    token = auth.new_token()
    with connect.client() as client:
        seconds = None if days is None else days * DAY
        client.users.new_token(label, token, scopes=scope or None, seconds=seconds, user=user)
    _hand_over(token, file)


@app.command()
def mine(json: AsJson = False) -> None:
    """List your tokens."""
    with connect.client() as client:
        tokens = client.users.tokens()
    if json:
        output.as_json(tokens)
        return
    _print(tokens)


@app.command()
def rotate(
    label: Annotated[
        str | None, typer.Argument(metavar="LABEL", help="Which of your tokens; else: the one you use.")
    ] = None,
    grace_hours: Annotated[float, typer.Option(min=0, max=720, help="Hours that the old one is taken still.")] = 1.0,
    days: Days = None,
    file: Annotated[
        Path | None, typer.Option(help="Write the new one there, in the old one's place.", show_default=False)
    ] = None,
) -> None:
    """Replace one of your tokens; the old one is taken for a while still. The new one has the old one's scopes."""
    from service import auth

    token = auth.new_token()
    with connect.client() as client:
        which = label or client.identity().token
        seconds = None if days is None else days * DAY
        client.users.rotate(which, token, seconds=seconds, grace_seconds=grace_hours * HOUR)
    _hand_over(token, file, replace=True)


@app.command()
def drop(label: Label) -> None:
    """Revoke one of your tokens."""
    with connect.client() as client:
        client.users.revoke_token(label)
    output.note(f"Your token {label!r} is revoked.")


def _hand_over(token: str, file: Path | None, *, replace: bool = False) -> None:
    from service import auth

    if file is None:
        output.data(token)
        return
    new = file.with_name(f".{file.name}.{os.getpid()}") if replace else file
    try:
        auth.write_private(new, token + "\n")
        if replace:
            os.replace(new, file)
    except OSError as error:
        output.data(token)  # it counts already: it must not be lost
        raise StorageError(f"cannot write the token to {file}: {error.strerror}; it is printed instead") from error
    output.data(str(file))
