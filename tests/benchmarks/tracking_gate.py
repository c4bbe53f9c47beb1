"""What MLflow's login costs: requests that write points, beside the same server without it.

    python -m tests.benchmarks.tracking_gate [--requests 100] [--rounds 5]

One client, one request after the other, ten points in each, and the server's processor time for them; medians of the
rounds, which alternate, and so does who begins.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from service.stack.mlflow_server import MLFLOW
from service.stack.part import Launch, Site
from service.tracking.server import Point, client, log_points
from tests.servers import Mlflow, Swift


class Open(Mlflow):
    """The server as it was: nobody is asked."""

    def __init__(self, root: Path, swift: Swift) -> None:
        super().__init__(root, swift)
        self.unit = replace(MLFLOW, launch=_without_login)


def _without_login(site: Site) -> Launch:
    launch = MLFLOW.launch(site)
    at = launch.command.index("--app-name")
    return replace(launch, command=(*launch.command[:at], *launch.command[at + 2 :]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vaesvc-benchmark-") as folder:
        swift = Swift(Path(folder) / "s3")
        servers: dict[str, Mlflow] = {
            "login": Mlflow(Path(folder) / "login", swift),
            "open": Open(Path(folder) / "open", swift),
        }
        try:
            for server in servers.values():
                server.start()
            runs = {name: client(server.uri).create_run("0").info.run_id for name, server in servers.items()}
            costs: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
            for number in range(asked.rounds + 1):
                for name in sorted(servers, reverse=number % 2 == 0):
                    cost = measure(servers[name], runs[name], asked.requests, number)
                    if number:  # the first warms up
                        costs[name].append(cost)
        finally:
            for server in servers.values():
                server.stop()
    for what, column in (("milliseconds", 0), ("processor milliseconds", 1)):
        login, without = (median(cost[column] for cost in costs[name]) for name in ("login", "open"))
        print(f"{what} a request: {login:.2f} with login, {without:.2f} without, ratio {login / without:.3f}")


def measure(server: Mlflow, run_id: str, requests: int, number: int) -> tuple[float, float]:
    """Milliseconds of a request, and of the server's processor for it."""
    before = server.processor_seconds()
    uri, start = server.uri, time.perf_counter()
    for step in range(requests):
        points = [Point(key=f"m{key}", value=1.0, step=number * requests + step, at=step) for key in range(10)]
        log_points(uri, run_id, points)
    seconds = time.perf_counter() - start
    return 1e3 * seconds / requests, 1e3 * (server.processor_seconds() - before) / requests


if __name__ == "__main__":
    main()
