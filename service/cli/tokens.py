"""token add, list, role, revoke: for whoever has the database, which is the administrator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import output
from service.cli.arguments import AsJson
from service.errors import StorageError, UsageError

if TYPE_CHECKING:
    from service.queue.store import Store

app = typer.Typer(
    help="Make, list and revoke user tokens, say who is an administrator (on the service's database).",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Who it is for: the owner of its jobs.", show_default=False)]
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


@app.command()
def add(
    name: Name,
    file: Annotated[
        Path | None, typer.Option(help="Write it there (mode 0600) instead of printing it.", show_default=False)
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="An administrator's: cancels, retries and extends everybody's jobs.")
    ] = False,
) -> None:
    """Make a token and print it: this once, for only its hash is kept."""
    from service import auth

    if not _NAME.fullmatch(name):
        raise UsageError(f"token name {name!r}: 1 to 64 letters, digits, dots, dashes, underscores or @")
    token = auth.new_token()
    with _store() as store:
        store.add_token(name, token, admin=admin)
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
    """List the tokens' names and roles."""
    with _store() as store:
        tokens = list(store.tokens())
    if json:
        output.as_json(tokens)
        return
    output.table(
        ("NAME", "ROLE", "MADE"), [(token.name, token.role, output.moment(token.created_at)) for token in tokens]
    )


class Role(StrEnum):
    USER = "user"
    ADMIN = "admin"


@app.command()
def role(
    name: Name,
    role: Annotated[Role, typer.Argument(help="What they are from now on.", show_default=False)],
) -> None:
    """Make an administrator of a user, or a user of an administrator."""
    with _store() as store:
        store.set_role(name, admin=role is Role.ADMIN)
    output.note(f"{name!r} is {'an administrator' if role is Role.ADMIN else 'an ordinary user'} from now on.")


@app.command()
def revoke(name: Name) -> None:
    """Revoke a token: from now on it is refused."""
    with _store() as store:
        store.revoke_token(name)
    output.note(f"Token {name!r} is revoked.")
