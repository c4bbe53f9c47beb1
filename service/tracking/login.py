"""How the service's own processes and its users sign in to MLflow, where it stands behind the gate (`gate.py`).

The login is in the address that every call is given, as user and password, and so goes where the address goes: with an
attempt's context, from the API, to the attempt alone. It is never shown (`storage_errors.public`), never on a command
line, and MLflow's client, which puts addresses into its messages, gets it apart: `plain`. Where MLflow is somebody
else's (`mlflow_login` is "own"), the address stays as it is, and MLflow's client reads MLFLOW_TRACKING_TOKEN, or
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from service import auth

if TYPE_CHECKING:
    from service.settings import Settings

PROVIDER = "vaesvc"  # the name under which MLflow's client finds `Provider`: an entry point of this package
_logins: dict[tuple[str, str], tuple[str, str]] = {}  # (scheme, host:port) -> user, password


def for_service(settings: Settings, secret: bytes) -> str | None:
    """Return the address for API and dispatcher. None: there is no MLflow."""
    return _signed(settings, "service", auth.tracking_token(secret))


def for_attempt(settings: Settings, secret: bytes, job_id: str, number: int) -> str | None:
    """Return the address for one attempt's processes: its login is void once the attempt is over."""
    return _signed(settings, "attempt", auth.tracking_token(secret, job_id, number))


def for_user(settings: Settings) -> str | None:
    """Return the address for the user of these settings. Raises AuthError for a token file that cannot be read."""
    token = settings.user_token() if settings.mlflow_login == "vaesvc" else None
    return _signed(settings, "user", token) if token else settings.mlflow_uri


def _signed(settings: Settings, name: str, token: str) -> str | None:
    if settings.mlflow_uri is None or settings.mlflow_login == "own":
        return settings.mlflow_uri
    parts = urlsplit(settings.mlflow_uri)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{name}:{quote(token, safe='')}@{host}").geturl()


def plain(uri: str) -> str:
    """Return the address without its login, which the next requests of MLflow's client to that server bear."""
    parts = urlsplit(uri)
    login, _, host = parts.netloc.rpartition("@")
    server = (parts.scheme, host.lower())
    if not login:
        _logins.pop(server, None)
        return uri
    user, _, password = login.partition(":")
    _logins[server] = (unquote(user), unquote(password))
    os.environ["MLFLOW_TRACKING_AUTH"] = PROVIDER
    return parts._replace(netloc=host).geturl()


class Provider:
    """For MLflow's client (`mlflow.request_auth_provider`): the logins of the addresses that it was given here."""

    def get_name(self) -> str:
        return PROVIDER

    def get_auth(self) -> Any:
        return _bear


def _bear(request: Any) -> Any:
    """Put the login of the request's server, if it has one, into its header."""
    from requests.auth import HTTPBasicAuth

    parts = urlsplit(request.url)
    given, _, host = parts.netloc.rpartition("@")
    user, _, password = given.partition(":")
    login = (unquote(user), unquote(password)) if given else _logins.get((parts.scheme, host.lower()))
    return HTTPBasicAuth(*login)(request) if login else request
