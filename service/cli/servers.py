"""serve and dispatch: the service's two commands."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import output
from service.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    from service.queue.store import Store

BACKLOG = 2048
_HANDED = (
    sys.executable,
    "-P",
    "-c",
    "import sys; from service.cli.servers import serve_handed as serve; serve(int(sys.argv[1]))",
)


def serve(
    host: Annotated[str, typer.Option(help="Where to listen; wider than this machine only with tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8470,
    processes: Annotated[int, typer.Option(min=1, max=64, help="That answer calls; each has one core's speed.")] = 1,
) -> None:
    """Serve the HTTP API; prints its address once it listens."""
    import uvicorn

    from service import serving, settings, spread
    from service.api import create_app
    from service.queue.store import Store

    loaded = settings.load()
    _log_to_stderr()
    store = Store(loaded.database_url, lease_seconds=loaded.lease_seconds)
    try:
        store.migrate()
        _need_tokens(host, store)
        app = create_app(loaded, store)
        with _listen(host, port) as listening:
            bound = listening.getsockname()[1]
            output.data(f"http://{f'[{host}]' if ':' in host else host}:{bound}")
            if processes == 1:
                uvicorn.Server(serving.config(app)).run(sockets=[listening])
            else:
                store.close()
                spread.serve(_HANDED, processes, listening)
    finally:
        store.close()


def serve_handed(pair: int) -> None:
    """Serve the connections that come over this socket, in a process that is one of several. See `service.spread`."""
    from service import serving, settings, spread
    from service.api import create_app

    _log_to_stderr()
    config = serving.config(create_app(settings.load()))
    with contextlib.suppress(KeyboardInterrupt):  # of all processes at once, when it is typed
        spread.Handed(config, socket.socket(fileno=pair)).run()


def _need_tokens(host: str, store: Store) -> None:
    """Raise UsageError for an address beyond this machine while there are no tokens: who reaches the API may run
    jobs."""
    if not _is_loopback(host) and not store.tokens():
        raise UsageError(
            f"refusing to listen on {host}, beyond this machine, while there is no token: make one first with "
            "`vaesvc token add NAME`, or listen on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UsageError(f"--host {host}: {error.strerror}; give one of this machine's addresses") from error
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(BACKLOG)  # from here on callers wait instead of being refused
    except OSError as error:
        listening.close()
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror}; --port 0 takes a free port"
        ) from error
    return listening


def dispatch() -> None:
    """Run the dispatcher: admits jobs and starts their attempts on the Ray cluster."""
    from service import settings
    from service.dispatch import dispatcher

    _log_to_stderr()
    dispatcher.main(settings.load())


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # says at every start which database it found
