"""Users, their roles and their tokens, in SQL: functions inside the store's transactions, and `Users`, their door.

256 random bits need no salt and no slow hash: only their SHA-256 is kept. A user may have several tokens, each with a
label, scopes and an end. A token that was replaced by a newer one of its label is taken until its grace is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.errors import ConflictError, ForbiddenError, NotFoundError
from service.queue.jobs import MAIN_LABEL, TokenInfo
from service.queue.roles import Role, Scope, UserInfo, sha256
from service.queue.rows import Clocked, Transactions
from service.queue.schema import identities, outbox, subscriptions, tokens, users

MOST_TOKENS = 100  # of one user
_INFO = (
    tokens.c.name, tokens.c.label, tokens.c.scopes, tokens.c.created_at, tokens.c.expires_at, tokens.c.replaced,
    users.c.role,
)  # fmt: skip
_JOINED = sa.select(*_INFO).join(users, users.c.name == tokens.c.name)
_KNOWN = _JOINED.where(  # every call asks it: built once
    tokens.c.sha256 == sa.bindparam("digest", type_=tokens.c.sha256.type), users.c.disabled_at.is_(None)
)


def add(work: Clocked, name: str, token: str, *, admin: bool) -> None:
    """Let `token` act as `name`. Raises ConflictError when the name has another token, or the token another name."""
    digest = sha256(token)
    make_user(work, name, Role.USER)
    _locked_user(work, name)
    there = work.row(sa.select(tokens.c.name).where(tokens.c.sha256 == digest))
    others = tokens.c.sha256 != digest
    theirs = work.rows(sa.select(tokens.c.sha256).where(tokens.c.name == name, tokens.c.label == MAIN_LABEL, others))
    if theirs or (there is not None and there["name"] != name):
        raise ConflictError(f"{name!r} has another token, or this token another name: revoke that one first")
    insert(work, tokens, {"sha256": digest, "name": name, "label": MAIN_LABEL, "created_at": work.now})
    if admin:
        set_role(work, name, Role.ADMIN)


def find(work: Clocked, token: str) -> TokenInfo | None:
    """Return the token's user; None for an unknown token, one that is past its end, and one of a disabled user."""
    row = work.row(_KNOWN, digest=sha256(token))
    if row is None or (row["expires_at"] is not None and row["expires_at"] <= work.now):
        return None
    return TokenInfo(**row)


def by_digest(work: Clocked, digest: str) -> TokenInfo | None:
    """Return the token of this SHA-256, whatever its end; None where there is none."""
    row = work.row(_JOINED.where(tokens.c.sha256 == digest))
    return None if row is None else TokenInfo(**row)


def all_of(work: Clocked, name: str | None = None) -> list[TokenInfo]:
    """Return the tokens of everybody, or of `name`, by user and label."""
    query = _JOINED if name is None else _JOINED.where(tokens.c.name == name)
    ordered = query.order_by(tokens.c.name, tokens.c.label, tokens.c.created_at)
    return [TokenInfo(**row) for row in work.rows(ordered)]


def set_role(work: Clocked, name: str, role: Role) -> None:
    """Give a user a role. Raises NotFoundError when there is no such user."""
    if work.connection.execute(sa.update(users).where(users.c.name == name).values(role=role.value)).rowcount == 0:
        raise NotFoundError(f"{name!r} has no token")


def revoke(work: Clocked, name: str, label: str | None = None) -> int:
    """Revoke the user's tokens of this label, without one all of them; return how many.

    With all of them go the user's role, and what the user wanted to be told.

    Raises NotFoundError when there is neither a token nor, without a label, a user.
    """
    which = (tokens.c.name == name,) if label is None else (tokens.c.name == name, tokens.c.label == label)
    gone = work.connection.execute(sa.delete(tokens).where(*which)).rowcount
    there = gone > 0
    if label is None:
        mine = sa.select(subscriptions.c.id).where(subscriptions.c.owner == name)
        work.connection.execute(sa.delete(outbox).where(outbox.c.subscription.in_(mine)))
        work.connection.execute(sa.delete(subscriptions).where(subscriptions.c.owner == name))
        work.connection.execute(sa.delete(identities).where(identities.c.name == name))
        there = work.connection.execute(sa.delete(users).where(users.c.name == name)).rowcount > 0
    if not there:
        raise NotFoundError(f"{name!r} has no token" + ("" if label is None else f" {label!r}"))
    return gone


class Users(Transactions):
    """Users, roles and tokens in a database. Each method is one short transaction."""

    def all(self) -> list[UserInfo]:
        """Return the users, by name."""
        with self._read() as work:
            return [UserInfo(**row) for row in work.rows(sa.select(users).order_by(users.c.name))]

    def put(self, name: str, role: Role) -> UserInfo:
        """Make a user of this role, or give one that is there this role. The same again changes nothing."""
        with self._write() as work:
            make_user(work, name, role)
            set_role(work, name, role)
            return UserInfo(**dict(_locked_user(work, name)))

    def tokens(self, name: str | None = None) -> list[TokenInfo]:
        """Return the tokens of everybody, or of `name`, by user and label."""
        with self._read() as work:
            return all_of(work, name)

    def put_token(
        self,
        name: str,
        label: str,
        digest: str,
        *,
        scopes: Sequence[Scope] | None = None,
        seconds: float | None = None,
        grace_seconds: float | None = None,
        by: TokenInfo | None = None,
    ) -> TokenInfo:
        """Let the token of this SHA-256 act as the user. The same again changes nothing.

        seconds: how long it is taken; None: for ever. grace_seconds: it replaces the one of its label, which is taken
        for so long still, has its scopes, and is taken for at most as long as it was made for; None: it is new. by: the
        token that asks: what it makes may do no more and lasts no longer than itself, unless it is an administrator's.

        Raises NotFoundError where there is no such user or nothing to replace, ConflictError where the label is taken
        or the token known already, ForbiddenError for more than `by` may give.
        """
        with self._write() as work:
            _locked_user(work, name)
            known = by_digest(work, digest)
            if known is not None:
                if (known.name, known.label, known.replaced) != (name, label, False):
                    raise ConflictError("this token is known already: make another one")
                return known
            current = [token for token in all_of(work, name) if token.label == label and not token.replaced]
            if grace_seconds is None:
                _refuse_taken(work, name, label, current)
            else:
                scopes, seconds = _replace(work, name, label, current, grace_seconds, seconds)
            expires_at = None if seconds is None else work.now + seconds
            if by is not None:
                scopes, expires_at = _within(by, scopes, expires_at)
            values = {
                "sha256": digest, "name": name, "label": label, "created_at": work.now, "expires_at": expires_at,
                "scopes": None if scopes is None else sorted(scope.value for scope in set(scopes)),
            }  # fmt: skip
            work.connection.execute(sa.insert(tokens).values(values))
            made = by_digest(work, digest)
            assert made is not None
            return made

    def revoke(self, name: str, label: str | None = None) -> int:
        """Revoke the user's tokens of this label, without one all of them, and forget the role; return how many."""
        with self._write() as work:
            return revoke(work, name, label)


def _replace(
    work: Clocked, name: str, label: str, current: Sequence[TokenInfo], grace_seconds: float, seconds: float | None
) -> tuple[Sequence[Scope] | None, float | None]:
    """Let the label's token end when the grace is over; return scopes and seconds of the one that follows it."""
    if not current:
        raise NotFoundError(f"{name!r} has no token {label!r} that could be replaced")
    (old,) = current
    end = work.now + grace_seconds
    values = {"replaced": True, "expires_at": end if old.expires_at is None else min(end, old.expires_at)}
    which = (tokens.c.name == name, tokens.c.label == label, tokens.c.replaced.is_(False))
    work.connection.execute(sa.update(tokens).where(*which).values(values))
    ended = (tokens.c.name == name, tokens.c.replaced.is_(True), tokens.c.expires_at <= work.now)
    work.connection.execute(sa.delete(tokens).where(*ended))
    if old.expires_at is not None:
        lasts = old.expires_at - old.created_at
        seconds = lasts if seconds is None else min(seconds, lasts)
    return old.scopes, seconds


def _refuse_taken(work: Clocked, name: str, label: str, current: Sequence[TokenInfo]) -> None:
    if current:
        raise ConflictError(f"{name!r} has a token {label!r} already: replace it (rotate), or revoke it first")
    if len(all_of(work, name)) >= MOST_TOKENS:
        raise ConflictError(f"{name!r} has {MOST_TOKENS} tokens, the most there may be: revoke one first")


def _within(
    by: TokenInfo, scopes: Sequence[Scope] | None, expires_at: float | None
) -> tuple[Sequence[Scope] | None, float | None]:
    """Return scopes and end of a token that `by` makes: no more and no longer than its own, unless it is an
    administrator's."""
    if by.admin and by.scopes is None:
        return scopes, expires_at
    wanted = set(by.scopes or ()) if scopes is None else set(scopes)
    if by.scopes is not None and not wanted <= set(by.scopes):
        more = ", ".join(sorted(wanted - set(by.scopes)))
        raise ForbiddenError(f"scopes: {more}: the token that asks has not got them; it may give what it has itself")
    if by.expires_at is not None and (expires_at is None or expires_at > by.expires_at):
        expires_at = by.expires_at
    return scopes if by.scopes is None else sorted(wanted), expires_at


def make_user(work: Clocked, name: str, role: Role) -> None:
    """Make a user of this role, unless one of the name is there."""
    insert(work, users, {"name": name, "role": role.value, "created_at": work.now})


def _locked_user(work: Clocked, name: str) -> sa.RowMapping:
    row = work.row(sa.select(users).where(users.c.name == name).with_for_update())
    if row is None:
        raise NotFoundError(f"there is no user {name!r}: `vaesvc user put NAME` makes one")
    return row


def insert(work: Clocked, table: sa.Table, values: dict[str, Any]) -> None:
    """Insert a row unless one with its key is there."""
    insert = sqlite.insert if work.database.sqlite else postgresql.insert
    work.connection.execute(insert(table).values(values).on_conflict_do_nothing())
