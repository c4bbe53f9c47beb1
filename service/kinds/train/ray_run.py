"""A train job on a Ray cluster: `TorchTrainer` with 1..N workers around `vae_models.training.loop.train`.

Ray Train starts the workers, joins them in a process group (gloo, or nccl with GPUs) and starts the whole group again
when a worker dies; the group then goes on from the last committed checkpoint. Ray's own checkpoints are not used.

On hosts with several networks set GLOO_SOCKET_IFNAME (and NCCL_SOCKET_IFNAME) to the interface that the nodes reach
each other by, in the environment of `ray start` on every node or in the dispatcher's: gloo may otherwise choose
127.0.0.1. The dispatcher hands these variables on.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.attempt.assignment import VERDICT, Assignment, Outcome, result_uri_parts, write_outcome
from service.attempt.failures import worst
from service.attempt.starting import prepare_worker
from service.errors import ImpossibleError, NotFoundError, UnavailableError, VaesvcError
from service.kinds.train.spec import TrainSpec
from service.queue.jobs import Resources
from vae_models.measures import STORED

if TYPE_CHECKING:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchConfig

GROUP_RESTARTS = 8  # worker deaths that one attempt survives
_PLACEMENT_SECONDS = 60.0  # a group that finds no room is tried again, so often:
_PLACEMENT_TRIES = 4
_FEASIBLE_SECONDS = 60.0  # a node that went away may come back
_COLLECTIVE_SECONDS = 600

# See `use_environment`. What the user has set stays.
ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a dead worker is noticed this soon
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(_PLACEMENT_SECONDS),
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # every line once
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one process less: a drained worker is one that died
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",  # the log is a file
    "RAY_USAGE_STATS_ENABLED": "0",
}


def use_environment() -> None:
    """In a process that is going to import Ray."""
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})


def connect() -> None:
    """Joins the cluster that this Ray job runs on, never another one that happens to be on this machine."""
    import logging

    import ray

    address = os.environ["RAY_ADDRESS"]
    # Ray Train's helper actors look for their cluster in the environment, and fail where a machine has two of them
    environment = {
        "env_vars": {"RAY_ADDRESS": address},
        "worker_process_setup_hook": f"{prepare_worker.__module__}.{prepare_worker.__name__}",
    }
    ray.init(address=address, runtime_env=environment, log_to_driver=True, logging_level=logging.WARNING)


def fits(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> bool:
    """Whether all workers fit on `nodes` (each node's total resources) at once, one bundle on one node."""
    bundle = resources.bundle()
    room = 0
    for node in nodes:
        counts = [int(node.get(name, 0.0) / amount + 1e-9) for name, amount in bundle.items()]
        room += min(counts, default=resources.workers)
    return room >= resources.workers


def wait_until_feasible(resources: Resources, timeout_seconds: float = _FEASIBLE_SECONDS) -> None:
    """Ray Train waits for ever for a group that no cluster could hold. Raises ImpossibleError after the time limit."""
    import ray

    deadline = time.monotonic() + timeout_seconds
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if fits(resources, nodes):
            return
        if time.monotonic() >= deadline:
            have = [{k: v for k, v in node.items() if ":" not in k} for node in nodes]
            raise ImpossibleError(
                f"{resources.workers} workers with {resources.bundle()} each do not fit on the cluster's nodes {have}: "
                "ask for fewer or smaller workers"
            )
        time.sleep(1.0)


def run(order: Assignment, spec: TrainSpec) -> dict[str, Any]:
    """Train on the cluster; the job's result. Raises Ray's TrainingFailedError."""
    fit(order, spec)
    return _result(order)


def _result(order: Assignment) -> dict[str, Any]:
    """What rank 0 left in storage."""
    artifacts = order.artifacts()
    uri = artifacts.uri(*result_uri_parts(order.access.job_id, order.access.number))
    try:
        result: dict[str, Any] = json.loads(artifacts.get_bytes(uri))
    except NotFoundError as error:
        raise UnavailableError("the workers ended without a result") from error
    with contextlib.suppress(VaesvcError):
        artifacts.delete_prefix(uri)
    return result


def fit(order: Assignment, spec: TrainSpec) -> None:
    """Run the workers to their end. Raises Ray's TrainingFailedError; rank 0 leaves its result in storage."""
    from ray.train import FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"order": order.model_dump_json()},
        scaling_config=scaling(spec.resources),
        torch_config=torch_config(spec.resources),
        run_config=RunConfig(
            name=order.access.name,
            storage_path=str(order.scratch / "ray"),  # required, and left empty
            failure_config=FailureConfig(max_failures=GROUP_RESTARTS, controller_failure_limit=_PLACEMENT_TRIES),
            callbacks=[_watch_errors(order.scratch)],
        ),
    )
    trainer.fit()


def scaling(resources: Resources) -> ScalingConfig:
    """A group of `resources.workers`, together where there is room."""
    from ray.train import ScalingConfig

    return ScalingConfig(
        num_workers=resources.workers,
        use_gpu=resources.gpus_per_worker > 0,
        resources_per_worker=resources.bundle(),
        placement_strategy="PACK",
    )


def torch_config(resources: Resources) -> TorchConfig:
    from ray.train.torch import TorchConfig

    return TorchConfig(backend=backend(resources), timeout_s=_COLLECTIVE_SECONDS)


def backend(resources: Resources) -> str:
    """nccl needs a GPU for every worker; workers that share one talk over gloo."""
    return "nccl" if resources.gpus_per_worker >= 1 else "gloo"


def _watch_errors(folder: Path) -> Any:
    """A callback of Ray Train that ends the attempt when starting the group again would fail in the same way.

    It runs in Ray Train's controller, which Ray places on the driver's own node: they share `folder`.
    """
    from ray.train import UserCallback

    class Watch(UserCallback):  # type: ignore[misc]
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            rank, failure = worst(worker_exceptions)
            print(f"[vaesvc] worker {rank} failed: {failure.text}", flush=True)  # noqa: T201
            if failure.ends_attempt:
                outcome = Outcome(
                    outcome="failed", error=failure.text, retryable=failure.retryable, outage=failure.outage
                )
                write_outcome(outcome, folder / VERDICT)

    return Watch()


def train_worker(config: dict[str, Any]) -> None:
    """In every worker process."""
    import logging

    import torch
    from ray.train import get_context
    from ray.train.torch import get_device

    from service.attempt.context import RemoteContext
    from service.attempt.reporting import Place
    from service.data.fetch import Bucket
    from vae_models import data
    from vae_models.collectives import on_first_rank
    from vae_models.training.errors import NonFiniteLoss
    from vae_models.training.loop import train

    started = time.time()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request
    order = Assignment.model_validate_json(config["order"])
    spec = TrainSpec.model_validate(order.context.job.spec, context=STORED)
    ray_context = get_context()
    # set here, in the thread that computes: a result depends on the number of threads in its last bits
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_worker)))
    context = RemoteContext(
        order,
        rank=ray_context.get_world_rank(),
        world_size=ray_context.get_world_size(),
        device=get_device(),
        scratch=Path.cwd(),  # Ray's folder of this run, the same for all ranks on a machine
        spec=spec,
        place=Place(
            node=ray_context.get_node_rank(),
            local_rank=ray_context.get_local_rank(),
            alone=ray_context.get_local_world_size() == ray_context.get_world_size(),
        ),
    )
    context.timings["worker_started"] = started
    context.start()
    try:
        dataset = data.load(spec.train.data, fetch=Bucket(artifacts=context.artifacts))
        result = train(spec.train, context, dataset=dataset)
        said = context.close()
    except NonFiniteLoss:  # on every rank, and the first to raise ends them all: they wait until rank 0 has told
        with contextlib.suppress(Exception):  # where rank 0 is gone there is nobody to wait for
            on_first_rank(context.abandon, context.device)
        raise
    except BaseException:
        context.abandon()
        raise
    if context.rank == 0:
        summary = {"steps": result.steps, "stopped": result.stopped, "metrics": dict(result.metrics)} | said
        uri = context.artifacts.uri(*result_uri_parts(order.access.job_id, order.access.number))
        context.artifacts.put_bytes(uri, json.dumps(summary).encode(), "application/json")
