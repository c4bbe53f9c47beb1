"""Who a provider's users are here, in SQL: an identity is the pair (issuer, subject), which a provider gives to nobody
else, ever; a name or a mail address may be another's tomorrow (OpenID Connect Core 1.0, section 5.7).

A login is one transaction: the identity's user is found, linked, made or refused; their role and group are set anew,
where the provider gives them; and a token of theirs is kept, as its SHA-256.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from service.errors import AuthError, ConflictError, ForbiddenError, NotFoundError
from service.queue import tokens as users_and_tokens
from service.queue.jobs import TokenInfo
from service.queue.roles import Scope, UserInfo, sha256
from service.queue.rows import Clocked, Transactions
from service.queue.schema import groups, identities, members, tokens, users

if TYPE_CHECKING:
    from service.oidc.identity import Identity

MOST_LOGINS = 50  # of one user at once: the oldest ends with one more
KEPT_SECONDS = 3600.0  # a login that is over is known for so long, so that what began it cannot begin another


class Identities(Transactions):
    """Logins, and who may. Each method is one short transaction."""

    def sign_in(
        self,
        identity: Identity,
        label: str,
        digest: str,
        *,
        scopes: Sequence[Scope] | None = None,
        seconds: float,
    ) -> TokenInfo:
        """Let the token of this SHA-256 act as the identity's user for so many seconds. The same again changes nothing.

        Raises ForbiddenError for somebody who is unknown or disabled, or whose name is another's; AuthError where
        another token came of this login already.
        """
        with self._write() as work:
            name = _user_of(work, identity)
            row = work.row(sa.select(users).where(users.c.name == name).with_for_update())
            work.read_clock()
            if row is None or row["disabled_at"] is not None:
                raise ForbiddenError(f"{name!r} is disabled here; an administrator can change it: `vaesvc user enable`")
            if identity.role is not None:
                users_and_tokens.set_role(work, name, identity.role)
            _set_group(work, name, identity)
            _forget(work, name)
            known = users_and_tokens.by_digest(work, digest)
            if known is not None and (known.name, known.label) == (name, label):
                return known
            taken = sa.select(tokens.c.sha256).where(tokens.c.name == name, tokens.c.label == label)
            if known is not None or work.row(taken) is not None:
                raise AuthError("this login has been used already: begin another one")
            values = {
                "sha256": digest, "name": name, "label": label, "created_at": work.now,
                "expires_at": work.now + seconds, "login": True,
                "scopes": None if scopes is None else sorted(scope.value for scope in set(scopes)),
            }  # fmt: skip
            work.connection.execute(sa.insert(tokens).values(values))
            made = users_and_tokens.by_digest(work, digest)
            assert made is not None
            return made

    def signed_in(self, label: str, digest: str) -> TokenInfo | None:
        """Return the token that came of a login already; None where it has not."""
        with self._read() as work:
            known = users_and_tokens.by_digest(work, digest)
        return known if known is not None and known.label == label else None

    def sign_out(self, token: str) -> TokenInfo | None:
        """End the login that the token came of. Return what it was; None where it is known no more.

        Raises ConflictError for a token that came of no login.
        """
        which = tokens.c.sha256 == sha256(token)
        with self._write() as work:
            known = users_and_tokens.find(work, token)
            if known is None:
                return None
            if not work.connection.scalar(sa.select(tokens.c.login).where(which)):
                raise ConflictError(
                    f"the token {known.label!r} of {known.name} came of no login: `vaesvc token drop {known.label}` "
                    "revokes it"
                )
            work.connection.execute(sa.update(tokens).where(which).values(expires_at=work.now))
            return known

    def disable(self, name: str, *, disabled: bool) -> UserInfo:
        """Refuse a user's tokens and logins from now on, or take them again. The same again changes nothing.

        Raises NotFoundError where there is no such user.
        """
        with self._write() as work:
            which = users.c.name == name
            row = work.row(sa.select(users).where(which).with_for_update())
            if row is None:
                raise NotFoundError(f"there is no user {name!r}; `vaesvc user list` shows those there are")
            if disabled is (row["disabled_at"] is None):
                at = work.now if disabled else None
                work.connection.execute(sa.update(users).where(which).values(disabled_at=at))
            row = work.row(sa.select(users).where(which))
            assert row is not None
            return UserInfo(**row)


def _user_of(work: Clocked, identity: Identity) -> str:
    """Return the name of the identity's user, who is linked or made where need be."""
    which = (identities.c.issuer == identity.issuer, identities.c.subject == identity.subject)
    linked = work.row(sa.select(identities.c.name).where(*which))
    if linked is not None:
        return str(linked["name"])
    name = identity.name
    there = work.row(sa.select(users.c.name).where(users.c.name == name)) is not None
    if not there:
        if identity.new_role is None:
            raise ForbiddenError(
                f"there is no user {name!r} here: an administrator makes one (`vaesvc user put {name}`), or sets "
                "oidc.new_users"
            )
        users_and_tokens.make_user(work, name, identity.new_role)
    # of two who come first at the same moment one waits here, and then sees whose the name is
    work.row(sa.select(users.c.name).where(users.c.name == name).with_for_update())
    others = sa.select(identities.c.subject).where(
        identities.c.name == name,
        sa.or_(identities.c.issuer != identity.issuer, identities.c.subject != identity.subject),
    )
    if work.rows(others):
        raise ForbiddenError(
            f"the user {name!r} belongs to another account of the provider: an administrator may remove that user "
            f"(`vaesvc user remove {name}`), or you use another name there"
        )
    values = {"issuer": identity.issuer, "subject": identity.subject, "name": name, "created_at": work.now}
    users_and_tokens.insert(work, identities, values)
    return name


def _set_group(work: Clocked, name: str, identity: Identity) -> None:
    """Put the user into the group that the provider gives them, and out of those that it does not."""
    if identity.groups is None:
        return
    current = work.connection.scalar(sa.select(members.c.group).where(members.c.user == name))
    if current == identity.group:
        return
    if identity.group is not None:
        if work.row(sa.select(groups.c.name).where(groups.c.name == identity.group)) is None:
            raise ForbiddenError(
                f"your group here is {identity.group!r} (the setting oidc.groups), and there is none: an administrator "
                f"makes it with `vaesvc group set {identity.group} --weight 1`"
            )
        work.connection.execute(sa.delete(members).where(members.c.user == name))
        work.connection.execute(sa.insert(members).values({"user": name, "group": identity.group}))
    elif current in identity.groups.values():
        work.connection.execute(sa.delete(members).where(members.c.user == name))


def _forget(work: Clocked, name: str) -> None:
    """Delete the user's logins that have been over for a while, and end the oldest of too many."""
    theirs = (tokens.c.name == name, tokens.c.login)
    over = tokens.c.expires_at <= work.now - KEPT_SECONDS
    work.connection.execute(sa.delete(tokens).where(*theirs, over))
    query = sa.select(tokens.c.sha256).where(*theirs, tokens.c.expires_at > work.now)
    alive = [row["sha256"] for row in work.rows(query.order_by(tokens.c.created_at.desc()))]
    for digest in alive[MOST_LOGINS - 1 :]:
        work.connection.execute(sa.update(tokens).where(tokens.c.sha256 == digest).values(expires_at=work.now))
