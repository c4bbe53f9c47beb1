"""The database and the secrets of the service: made before API and dispatcher start."""

from __future__ import annotations

import os
import pwd
from urllib.parse import urlsplit

from service import auth
from service.errors import VaesvcError
from service.queue.jobs import MAIN_LABEL
from service.settings import Settings
from service.stack import state
from service.stack.part import Part


def prepare(settings: Settings) -> str:
    """Prepare the tables, the service's secret and this user's token, an administrator's. Harmless to repeat."""
    from service.queue.store import Store

    auth.read_secret(settings.secret_file)
    token = state.secret(settings.home / "token", auth.new_token)
    store = Store(settings.database_url, lease_seconds=settings.lease_seconds)
    try:
        store.migrate()
        user = store.token_user(token)
        name = account() if user is None else user.name
        if user is None and any((known.name, known.label) == (name, MAIN_LABEL) for known in store.tokens()):
            store.users.revoke(name, MAIN_LABEL)  # its file was lost: nobody has it any more
        store.add_token(name, token, admin=True)  # whoever started the stack may do everything to it anyway
    finally:
        store.close()
    return public(settings.database_url)


def look(settings: Settings) -> Part:
    """Return the database's line in `vaesvc status`."""
    from service.queue.store import Store

    address = public(settings.database_url)
    try:
        store = Store(settings.database_url, lease_seconds=settings.lease_seconds)
        try:
            store.ping()
        finally:
            store.close()
    except VaesvcError as error:
        return Part(name="database", ok=False, address=address, detail=str(error))
    return Part(name="database", ok=True, address=address, detail=f"from {settings.origin('database_url')}")


def public(url: str) -> str:
    """Return the address without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


def account() -> str:
    """Return the name of this process's user on this machine."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's made-up user
        return f"uid-{os.getuid()}"
