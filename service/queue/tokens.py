"""Users' tokens: whose they are, and who is an administrator. Called by the store, inside its transactions.

256 random bits need no salt and no slow hash: only their SHA-256 is kept.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.errors import ConflictError, NotFoundError
from service.queue.jobs import TokenInfo
from service.queue.rows import Clocked
from service.queue.schema import tokens

_INFO = (tokens.c.name, tokens.c.created_at, tokens.c.admin)


def add(work: Clocked, name: str, token: str, *, admin: bool) -> None:
    """Let `token` act as `name`. Raises ConflictError when the name has another token, or the token another name."""
    digest = _digest(token)
    insert = sqlite.insert if work.database.sqlite else postgresql.insert
    values = {"name": name, "sha256": digest, "created_at": work.now, "admin": admin}
    work.connection.execute(insert(tokens).values(values).on_conflict_do_nothing())
    if work.connection.scalar(sa.select(tokens.c.sha256).where(tokens.c.name == name)) != digest:
        raise ConflictError(f"{name!r} has another token, or this token another name: revoke that one first")
    if admin:
        set_role(work, name, admin=True)


def find(work: Clocked, token: str) -> TokenInfo | None:
    """Return the token's user; None for an unknown token."""
    row = work.row(sa.select(*_INFO).where(tokens.c.sha256 == _digest(token)))
    return None if row is None else TokenInfo(**row)


def all_of(work: Clocked) -> list[TokenInfo]:
    """Return the tokens' users, by name."""
    return [TokenInfo(**row) for row in work.rows(sa.select(*_INFO).order_by(tokens.c.name))]


def set_role(work: Clocked, name: str, *, admin: bool) -> None:
    """Make a user an administrator, or the other way round. Raises NotFoundError when `name` has no token."""
    if work.connection.execute(sa.update(tokens).where(tokens.c.name == name).values(admin=admin)).rowcount == 0:
        raise NotFoundError(f"{name!r} has no token")


def revoke(work: Clocked, name: str) -> None:
    """Revoke the token of `name`. Raises NotFoundError when there is none."""
    if work.connection.execute(sa.delete(tokens).where(tokens.c.name == name)).rowcount == 0:
        raise NotFoundError(f"{name!r} has no token")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
