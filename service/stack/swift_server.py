"""The embedded S3 server's process: `python -m service.stack.swift_server CONFIGS SOCKETS`.

Imports Swift once, then forks its four servers and the updater. A child that dies is started again; when this process
dies, even by SIGKILL, the kernel ends the children with it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.collector import collect_rarely
from service.stack import swift_sockets
from service.stack.swift_config import STORAGE_SERVERS

_PR_SET_PDEATHSIG = 1
_RING_POWER = 6  # 64 partitions: fixed, because where an object lies follows from it
_RESTARTS = 5  # of one child within a minute; then there is no point


def main(configs: Path, sockets: Path) -> int:
    collect_rarely()
    from swift.common import utils

    _log_to_stderr_alone()
    utils.set_swift_dir(str(configs))
    swift_sockets.use(sockets)
    _build_rings(configs)
    running: dict[int, str] = {}
    restarts: dict[str, list[float]] = {}
    signal.signal(signal.SIGTERM, _leave)
    roles = _roles(configs)
    try:
        for name in roles:
            running[_fork(roles[name])] = name
        while True:
            pid, status = os.wait()
            name = running.pop(pid, "")
            if not name:
                continue
            _say(f"{name} ended with {os.waitstatus_to_exitcode(status)}")
            recent = [at for at in restarts.get(name, []) if at > time.monotonic() - 60]
            if len(recent) >= _RESTARTS:
                return 1
            restarts[name] = [*recent, time.monotonic()]
            time.sleep(0.2)
            running[_fork(roles[name])] = name
    except SystemExit:
        return 0
    finally:
        _end(running)


def _log_to_stderr_alone() -> None:
    """Take Swift's handler of the system's log away: where there is no /dev/log its first warning would open a UDP
    socket on every interface, and send the warning to whoever listens on port 514. Warnings go to stderr all the same.
    """
    from swift.common.utils import logs

    class Silent(logging.NullHandler):
        def __init__(self, address: object = None, facility: object = None) -> None:
            super().__init__()

    logs.ThreadSafeSysLogHandler = Silent


def _roles(configs: Path) -> dict[str, Callable[[], Any]]:
    from swift.common.daemon import run_daemon
    from swift.common.wsgi import run_wsgi
    from swift.obj import server as object_server
    from swift.obj.updater import ObjectUpdater

    def serve(server: str) -> Callable[[], Any]:
        extra = {"global_conf_callback": object_server.global_conf_callback} if server == "object" else {}
        return lambda: run_wsgi(str(configs / f"{server}-server.conf"), f"{server}-server", verbose=True, **extra)

    roles = {server: serve(server) for server in (*STORAGE_SERVERS, "proxy")}
    roles["updater"] = lambda: run_daemon(ObjectUpdater, str(configs / "object-server.conf"), verbose=True)
    return roles


def _fork(run: Callable[[], Any]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    code = 1
    try:
        code = int(run() or 0)
    except SystemExit as leaving:  # also of what the updater forks for every sweep
        code = leaving.code if isinstance(leaving.code, int) else 0
    except BaseException as error:
        _say(f"{type(error).__name__}: {error}")
    finally:
        os._exit(code)


def _build_rings(configs: Path) -> None:
    """Build a ring per storage server with its one device."""
    from swift.common.ring import RingBuilder

    for server, port in swift_sockets.PORTS.items():
        builder = RingBuilder(_RING_POWER, 1, 0)
        device = {"id": 0, "region": 1, "zone": 1, "device": "d1", "weight": 1.0, "meta": ""}
        address = {"ip": swift_sockets.HOST, "port": port}
        builder.add_dev({**device, **address, **{f"replication_{name}": value for name, value in address.items()}})
        builder.rebalance(seed="1")
        builder.get_ring().save(str(configs / f"{server}.ring.gz"))


def _end(running: dict[int, str]) -> None:
    for pid in running:
        os.kill(pid, signal.SIGTERM)
    for pid in running:
        os.waitpid(pid, 0)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(0)


def _say(message: str) -> None:
    sys.stderr.write(f"swift: {message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
