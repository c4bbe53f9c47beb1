"""A real PostgreSQL server for tests: its own data folder, reached through a Unix socket, ended with the block.

    with server() as url:           # postgresql+psycopg://...; skips nothing itself
        ...

`missing()` says why there is none (for `pytest.skip`). As root the server runs as another user: it refuses root.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 60


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, the newest version first."""
    found = sorted(
        (Path(p) for p in glob.glob("/usr/lib/postgresql/*/bin/postgres")),
        key=lambda p: float(p.parents[1].name),
        reverse=True,
    )
    on_path = shutil.which("postgres")
    folders = [p.parent for p in found] + ([Path(on_path).resolve().parent] if on_path else [])
    return next((f for f in folders if (f / "initdb").exists()), None)


def missing() -> str | None:
    """Why no server can be started; None: one can."""
    if binaries() is None:
        return "PostgreSQL's server programs are not installed (Debian: apt-get install postgresql)"
    return None


def _identity() -> dict[str, Any]:
    """Popen's arguments to run as somebody else, when we are root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody")


@contextmanager
def server(*, durable: bool = False) -> Iterator[str]:
    """The address of an empty database. `durable`: fsync on, as in production (for benchmarks)."""
    folder = binaries()
    if folder is None:
        raise RuntimeError(missing())
    identity = _identity()
    root = Path(tempfile.mkdtemp(prefix="vaesvc-pg-", dir="/tmp"))  # short: a socket's path has at most 107 bytes
    try:
        if identity:
            os.chown(root, identity["user"], identity["group"])
        data = root / "data"
        initdb = [
            str(folder / "initdb"),
            "-D",
            str(data),
            "-U",
            "vaesvc",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-N",
        ]
        subprocess.run(initdb, check=True, timeout=120, capture_output=True, cwd=root, **identity)
        settings = [f"unix_socket_directories={root}", "listen_addresses=", "max_connections=100"]
        if not durable:
            settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        options = [part for setting in settings for part in ("-c", setting)]
        with open(root / "log", "wb") as log:
            command = [str(folder / "postgres"), "-D", str(data), *options]
            process: subprocess.Popen[bytes] = subprocess.Popen(command, stdout=log, stderr=log, cwd=root, **identity)
        try:
            _wait(folder, root, process)
            yield f"postgresql+psycopg://vaesvc@/postgres?host={root}"
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown: clients are sent away
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _wait(folder: Path, root: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    ready = [str(folder / "pg_isready"), "-h", str(root), "-U", "vaesvc", "-d", "postgres"]
    while subprocess.run(ready, capture_output=True, timeout=10).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start:\n{(root / 'log').read_text(errors='replace')[-4000:]}")
        time.sleep(0.1)


@contextmanager
def fresh_database(url: str, name: str, *, template: str = "template0") -> Iterator[str]:
    """The address of a database of this name on the server at `url`, a copy of `template`, dropped afterwards."""
    import sqlalchemy as sa

    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        yield sa.make_url(url).set(database=name).render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        engine.dispose()
