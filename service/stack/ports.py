"""Free ports, chosen once and kept.

They are taken below the range that the kernel hands out to outgoing connections (from 32768), and above Ray's range
for workers (10002-19999), so that nothing takes them by chance while a part is down.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection, Iterable, Mapping

from service.errors import UnavailableError

RANGE = range(20_000, 32_000)
_TRIES = 500


_EVERYWHERE = "0.0.0.0"  # nosec B104  # bound to see whether a port is free, and let go


def free(port: int) -> bool:
    """Return whether nothing listens on the port, on loopback or on all interfaces."""
    for host in ("127.0.0.1", _EVERYWHERE):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: ended connections don't count
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def choose(names: Iterable[str], kept: Mapping[str, int], taken: Collection[int] = ()) -> dict[str, int]:
    """Return a port for each name: the kept one if it is free, else a new one. None in `taken`, none twice.

    Between this and the daemon's own bind somebody else may take a port; whoever starts a daemon has to try again then.
    """
    chosen: dict[str, int] = {}
    used = set(taken)
    for name in names:
        old = kept.get(name)
        port = old if old is not None and old not in used and free(old) else _new(used)
        chosen[name] = port
        used.add(port)
    return chosen


def _new(used: Collection[int]) -> int:
    generator = random.SystemRandom()  # two stacks that start at once must not try the same ports in the same order
    for _ in range(_TRIES):
        port = generator.choice(RANGE)
        if port not in used and free(port):
            return port
    raise UnavailableError(f"no free TCP port in {RANGE.start}-{RANGE.stop - 1}")
