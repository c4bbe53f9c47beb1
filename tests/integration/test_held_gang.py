"""The gang that a study's process holds on to, on a cluster of two machines: `python -m THIS` is such a process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = {"node_ip_address": "127.0.0.1"}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}  # which Ray takes for a network


def test_it_is_held_from_one_work_to_the_next_and_formed_anew_where_its_node_is_drained() -> None:
    command = [sys.executable, "-m", "tests.integration.test_held_gang"]
    ran = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **LOOPBACK}, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def tell(config: Mapping[str, Any]) -> None:
    """Write down on which node this process is, and which one it is."""
    import ray

    with Path(config["to"]).open("a") as file:
        file.write(f"{ray.get_runtime_context().get_node_id()} {os.getpid()}\n")


def main(address: str, file: Path) -> None:
    from service.attempt.members import Gang, HeldGang
    from service.queue.jobs import Resources

    held = HeldGang()

    def home(drained: tuple[str, ...] = ()) -> tuple[str, ...]:
        gang = Gang(name="gang", resources=Resources(workers=1, cpus_per_worker=1), drained=drained)
        held.run(gang, tell, {"to": str(file)})
        return tuple(file.read_text().splitlines()[-1].split())

    first = home()
    assert home() == first
    node, _ = first
    drain = ["drain-node", "--address", address, "--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    more = ["--reason-message", "it goes", "--deadline-remaining-seconds", "300"]
    subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *drain, *more], check=True, timeout=60)
    second = home((node,))
    assert second[0] != node
    assert home((node,)) == second


if __name__ == "__main__":
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **HERE})
    for _ in range(2):
        cluster.add_node(num_cpus=1, **HERE)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            main(cluster.address, Path(folder, "homes"))
    finally:
        ray.shutdown()
        cluster.shutdown()
