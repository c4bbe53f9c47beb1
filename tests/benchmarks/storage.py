"""What a request to the embedded S3 server costs, beside the same server without its cache of accounts and buckets.

    python -m tests.benchmarks.storage [--objects 100] [--rounds 3]

Milliseconds from our door (`service.artifacts`) and processor milliseconds of the server, for objects of 2 kB, one
request after the other; medians of the rounds, which alternate.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest import mock

from service.artifacts import Artifacts
from service.stack import swift_config
from tests.servers import Swift

DATA = b"x" * 2_000
WITHOUT = tuple(name for name in swift_config._PIPELINE if name != "cache")
Costs = dict[tuple[str, str], list[tuple[float, float]]]  # (server, request) -> milliseconds, processor milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vaesvc-benchmark-") as folder:
        servers = {name: Swift(Path(folder) / name) for name in ("kept", "asked")}
        try:
            servers["kept"].start()
            with mock.patch.object(swift_config, "_PIPELINE", WITHOUT):
                servers["asked"].start()
            costs: Costs = defaultdict(list)
            for _ in range(asked.rounds):
                for name, server in servers.items():
                    measure(name, server, asked.objects, costs)
        finally:
            for server in servers.values():
                server.stop()
    show(costs)


def measure(name: str, server: Swift, objects: int, costs: Costs) -> None:
    door = Artifacts(server.storage)

    def uri(number: int) -> str:
        return door.uri("benchmark", str(number), "object")

    requests: dict[str, Callable[[int], object]] = {
        "write": lambda number: door.put_bytes(uri(number), DATA),
        "read": lambda number: door.get_bytes(uri(number)),
        "list": lambda number: door.list(door.uri("benchmark", str(number))),
        "delete": lambda number: door.delete_prefix(door.uri("benchmark", str(number))),
    }
    for request, send in requests.items():
        before, start = server.processor_seconds(), time.perf_counter()
        for number in range(objects):
            send(number)
        seconds, processor = time.perf_counter() - start, server.processor_seconds() - before
        costs[name, request].append((1e3 * seconds / objects, 1e3 * processor / objects))


def show(costs: Costs) -> None:
    print("request    kept [ms]  processor [ms]    asked each time [ms]  processor [ms]    ratio  processor")
    for request in ("write", "read", "list", "delete"):
        kept, asked = (
            [median(column) for column in zip(*costs[name, request], strict=True)] for name in ("kept", "asked")
        )
        print(
            f"{request:8s} {kept[0]:11.1f} {kept[1]:15.1f} {asked[0]:23.1f} {asked[1]:15.1f}"
            f" {kept[0] / asked[0]:8.2f} {kept[1] / asked[1]:10.2f}"
        )


if __name__ == "__main__":
    main()
