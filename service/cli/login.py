"""login, logout: by the service's provider of logins, which ends in a token in a file of one's own."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import connect, output
from service.errors import AuthError, StorageError, UnavailableError, VaesvcError
from service.queue.roles import Scope

if TYPE_CHECKING:
    from service.cli.loopback import Listener
    from service.client import Client
    from service.oidc.records import LoginStart
    from service.queue.jobs import TokenInfo
    from service.settings import Settings

HOUR = 3600.0
SLOWER_SECONDS = 5.0  # RFC 8628, section 3.5


def login(
    device: Annotated[
        bool | None,
        typer.Option(
            "--device/--browser",
            help="By a code that you confirm in any browser, or by a browser of this machine. Else: by a code, where "
            "the provider has that.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="With --browser: the port of 127.0.0.1; 0: any that is free.")
    ] = 0,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What the token may do, of what you may; repeatable. Else: all of it.", show_default=False),
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.02, help="How long; else, and at most: as the service is set.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Write the token there (mode 0600); else: where vaesvc finds it.", show_default=False),
    ] = None,
    opens: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the address in a browser, if there is a screen.")
    ] = True,
) -> None:
    """Log in by the service's provider. The token that it ends in is kept for this service, until it ends."""
    from service import auth, logins, settings

    loaded = settings.load()
    token = auth.new_token()
    wanted = {"scopes": tuple(scope) if scope else None, "seconds": None if hours is None else hours * HOUR}
    with connect.client(loaded) as client:
        by_device = client.logins.offer().device if device is None else device
        way = _by_device if by_device else _by_browser
        made = way(client, token, wanted, port, opens)
        path = file or logins.path_of(client.url)
    try:
        logins.keep(path, token)
    except OSError as error:
        output.data(token)  # it counts already: it must not be lost
        raise StorageError(f"cannot write the token to {path}: {error.strerror}; it is printed instead") from error
    output.note(f"Logged in as {made.name!r}, role {made.role}, until {output.moment(made.expires_at)}.")
    if loaded.token or loaded.token_file:
        first = "token" if loaded.token else "token_file"
        output.note(f"The setting {first} (from {loaded.origin(first)}) comes first: it is used, and not this login.")
    output.data(str(path))


def logout() -> None:
    """End the login: its token is refused from now on, and its file removed."""
    from service import logins, settings
    from service.client import Client

    loaded = settings.load()
    url = _url(loaded)
    path = logins.path_of(url)
    token = logins.token(url)
    if token is None:
        raise AuthError(f"nobody has logged in to {url} here; `vaesvc login` does")
    with Client(url, token) as client, contextlib.suppress(AuthError):  # its end has come already
        client.logins.logout()
    path.unlink(missing_ok=True)
    output.note("Logged out.")


def _url(loaded: Settings) -> str:
    with connect.client(loaded) as client:
        return client.url


def _by_device(client: Client, token: str, wanted: dict[str, Any], port: int, opens: bool) -> TokenInfo:
    """Log in by a code that is confirmed in any browser."""
    from service.oidc.records import LoginFinish, LoginRequest
    from service.queue.roles import sha256

    start = client.logins.begin(LoginRequest(how="device", host=_host()))
    output.note(f"Open {start.plain_url} in any browser, and enter the code {start.user_code}")
    if start.url != start.plain_url:
        output.note(f"or open {start.url} and compare the code.")
    _open(start.url, opens)
    asked = LoginFinish.model_validate({"ticket": start.ticket, "sha256": sha256(token), **wanted})
    interval, deadline = start.interval, time.monotonic() + start.seconds
    while time.monotonic() < deadline:
        time.sleep(interval)
        try:
            reply = client.logins.finish(asked)
        except UnavailableError:  # the service, or its provider: the code is good still
            continue
        if reply.token is not None:
            return reply.token
        interval += SLOWER_SECONDS if reply.slower else 0.0
    raise AuthError(f"nobody has entered the code within {start.seconds / 60:.0f} minutes: log in again")


def _by_browser(client: Client, token: str, wanted: dict[str, Any], port: int, opens: bool) -> TokenInfo:
    """Log in by a browser of this machine, which brings the code back to a port of the loopback."""
    from service.cli.loopback import listening
    from service.oidc.records import LoginFinish, LoginRequest
    from service.queue.roles import sha256

    with listening(port) as listener:
        start = client.logins.begin(LoginRequest(how="browser", port=listener.port, host=_host()))
        came = _wait(listener, start, opens)
        try:
            answer = {"ticket": start.ticket, "sha256": sha256(token), **came, **wanted}
            asked = LoginFinish.model_validate(answer)
            made = client.logins.finish(asked).token
        except VaesvcError as error:
            listener.answer(f"The login has failed: {error}")
            raise
        listener.answer("You are logged in. This window can be closed.")
    assert made is not None  # a code is not confirmed later
    return made


def _wait(listener: Listener, start: LoginStart, opens: bool) -> dict[str, str]:
    """Return what the browser brings: code, state, iss."""
    output.note(f"Open {start.url}")
    _open(start.url, opens)
    came = listener.wait(start.url, start.seconds)
    if "error" in came:
        said = "".join(letter for letter in came["error"][:100] if letter.isascii() and letter.isprintable())
        listener.answer(f"The provider has not logged you in: {said}")
        raise AuthError(f"the provider has not logged you in: {said}")
    return {name: came[name] for name in ("code", "state", "iss") if name in came}


def _open(url: str, opens: bool) -> None:
    """Open an address, if there is a screen: a browser in the terminal would take it from us."""
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if opens and screen:
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(url)


def _host() -> str:
    """Return this machine's name as it may be in a token's label."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:30]
