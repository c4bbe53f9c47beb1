"""The Ray cluster that an attempt runs on, and what a group of Ray Train workers on it is.

On hosts with several networks set GLOO_SOCKET_IFNAME (and NCCL_SOCKET_IFNAME) to the interface that the nodes reach
each other by, in the environment of `ray start` on every node or in the dispatcher's: gloo may otherwise choose
127.0.0.1. The dispatcher hands these variables on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from service.attempt.starting import prepare_worker
from service.code import reference as code
from service.errors import ImpossibleError
from service.queue.jobs import Capacity, Resources
from service.queue.scheduling import fits

if TYPE_CHECKING:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchConfig

PLACEMENT_SECONDS = 60.0  # a group that finds no room is tried again
PLACEMENT_TRIES = 4
_FEASIBLE_SECONDS = 60.0  # a node that went away may come back
COLLECTIVE_SECONDS = 600

_NODE_ID = "ray.io/node-id"  # a label that every node has
_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # in which Ray's Jobs API tells a driver its job's environment

# See `use_environment`. What the user has set stays.
ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a dead worker is noticed this soon
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(PLACEMENT_SECONDS),
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # every line once
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one process less: a drained worker is one that died
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",  # the log is a file
    "RAY_USAGE_STATS_ENABLED": "0",
}


def use_environment() -> None:
    """Set the environment of a process that is going to import Ray."""
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})


def load() -> None:
    """Import Ray, under its environment."""
    use_environment()
    import ray  # noqa: F401


def needs_environment(resources: Resources) -> bool:
    """Return whether the workers of a gang need a runtime environment: with code of the job's own, or under Ray Train.

    The processes that Ray holds ready have none, and serve all others: what is secret reaches a worker in its order.
    """
    return code.present() is not None or trained_by_ray(resources)


def trained_by_ray(resources: Resources) -> bool:
    """Return whether Ray Train runs the gang: one with GPUs, which it shares out among the workers of a machine."""
    return resources.gpus_per_worker > 0


def connect(resources: Resources) -> None:
    """Join the cluster that this Ray job runs on, never another one that happens to be on this machine."""
    import logging

    import ray

    address = os.environ["RAY_ADDRESS"]
    if not needs_environment(resources):
        job = json.loads(os.environ.get(_JOB_CONFIG, "{}"))
        os.environ[_JOB_CONFIG] = json.dumps({**job, "runtime_env": {}})
        ray.init(address=address, log_to_driver=True, logging_level=logging.WARNING)
        return
    # Ray Train's helper actors look for their cluster in the environment, and fail where a machine has two of them
    environment = {
        "env_vars": {"RAY_ADDRESS": address},
        "worker_process_setup_hook": f"{prepare_worker.__module__}.{prepare_worker.__name__}",
    }
    ray.init(address=address, runtime_env=environment, log_to_driver=True, logging_level=logging.WARNING)


def wait_until_feasible(resources: Resources, timeout_seconds: float = _FEASIBLE_SECONDS) -> None:
    """Wait until a cluster can hold the group; raise ImpossibleError after the time limit: Ray Train waits for ever."""
    import ray

    deadline = time.monotonic() + timeout_seconds
    while True:
        nodes = tuple(node["Resources"] for node in ray.nodes() if node["Alive"])
        if fits(resources, Capacity(nodes=nodes)):
            return
        if time.monotonic() >= deadline:
            have = [{k: v for k, v in node.items() if ":" not in k} for node in nodes]
            raise ImpossibleError(
                f"{resources.workers} workers with {resources.bundle()} each do not fit on the cluster's nodes {have}: "
                "ask for fewer or smaller workers"
            )
        time.sleep(1.0)


def avoidable(resources: Resources, nodes: Collection[str], drained: Collection[str] = ()) -> tuple[str, ...]:
    """Return those nodes, by Ray's ids, if the cluster's others could hold the group; none otherwise. drained: that
    cannot hold it either."""
    import ray

    if not nodes:
        return ()
    without = {*nodes, *drained}
    others = tuple(node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in without)
    shown = ", ".join(node[:12] for node in nodes)
    if not fits(resources, Capacity(nodes=others)):
        print(f"[vaesvc] the attempt before hung on {shown}; the other nodes cannot hold the gang", flush=True)  # noqa: T201
        return ()
    print(f"[vaesvc] keeps away from {shown}, where the attempt before hung", flush=True)  # noqa: T201
    return tuple(nodes)


def away_from(nodes: Iterable[str]) -> dict[str, str]:
    """Return the label selector of a place that is on none of these nodes, by Ray's ids."""
    return {_NODE_ID: f"!in({','.join(nodes)})"}


def scaling(resources: Resources, avoid: Collection[str] = ()) -> ScalingConfig:
    """Return the scaling of a group of `resources.workers`, together where there is room, and not on these nodes."""
    from ray.train import ScalingConfig

    return ScalingConfig(
        num_workers=resources.workers,
        use_gpu=resources.gpus_per_worker > 0,
        resources_per_worker=resources.bundle(),
        placement_strategy="PACK",
        label_selector=away_from(avoid) if avoid else None,
    )


def torch_config(resources: Resources) -> TorchConfig:
    from ray.train.torch import TorchConfig

    return TorchConfig(backend=backend(resources), timeout_s=COLLECTIVE_SECONDS)


def backend(resources: Resources) -> str:
    """Return nccl if every worker has a GPU of its own, as nccl needs; workers that share one communicate by gloo."""
    return "nccl" if resources.gpus_per_worker >= 1 else "gloo"
