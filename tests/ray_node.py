"""Another node for a Ray cluster on this machine: `python -m tests.ray_node GCS_ADDRESS CPUS`, until stdin is closed.

`ray start` adds no node on loopback, where the embedded stack's head listens; what it calls does.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_MEMORY = 2 << 30  # bytes that it offers
_OBJECTS = 128 << 20
_END_SECONDS = 30.0


@contextlib.contextmanager
def another(gcs_address: str, token_file: Path, cpus: int, environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """A node with so many cores, as long as the block lasts. Yields Ray's id of it."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray_node", gcs_address, str(cpus)], cwd=ROOT,
            env={**environment, **client_environment(token_file)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=file, text=True,
        )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = next((line for line in process.stdout if line.startswith("node ")), "")
        assert said, f"the node does not start: {log.read_text()}"
        yield said.split()[1]
    finally:
        process.stdin.close()
        try:
            process.wait(_END_SECONDS)
        finally:
            process.kill()


def client_environment(token_file: Path) -> dict[str, str]:
    """Of what talks to the head: with its token, and one that takes loopback for the network."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }


def main(gcs_address: str, cpus: str) -> None:
    import ray._private.node
    import ray._private.parameter

    parameters = ray._private.parameter.RayParams(
        gcs_address=gcs_address, node_ip_address="127.0.0.1", num_cpus=int(cpus), num_gpus=0, memory=_MEMORY,
        object_store_memory=_OBJECTS, node_manager_port=0, min_worker_port=0, max_worker_port=0,
        dashboard_agent_listen_port=None, include_log_monitor=True,
    )  # fmt: skip
    node: Any = ray._private.node.Node(parameters, head=False, shutdown_at_exit=True, spawn_reaper=True)
    print("node", node.node_id, flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
