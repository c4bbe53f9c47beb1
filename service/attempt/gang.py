"""A gang of workers on a Ray cluster: started together, in one process group, started again when one of them dies.

Workers with GPUs are started by Ray Train, which shares the GPUs of a machine out among them and joins them by nccl;
others are actors that wait ready (`members`), joined by gloo. When a worker dies the whole gang is started again; it
then goes on from what lies in storage. Ray's own checkpoints are not used.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.attempt.assignment import VERDICT, Assignment, Outcome, result_uri_parts, write_outcome
from service.attempt.failures import worst
from service.attempt.members import MEMBER, Gang, HeldGang, Member
from service.attempt.ray_cluster import PLACEMENT_TRIES, avoidable, scaling, torch_config, trained_by_ray
from service.attempt.reporting import Place
from service.attempt.stacks import tell_when_asked
from service.errors import NotFoundError, UnavailableError, VaesvcError
from service.queue.jobs import Resources

if TYPE_CHECKING:
    import torch

    from service.artifacts import Artifacts

GROUP_RESTARTS = 8  # worker deaths that one attempt survives


def run(order: Assignment, resources: Resources, work: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run `work` in every worker to its end; return what the first one left with `leave`. Raises GangFailed, or Ray's
    TrainingFailedError.

    work: of a module, given what `Worker` takes
    """
    moments = start(
        work,
        {"order": order.model_dump_json()},
        resources,
        name=order.access.name,
        avoid=order.context.avoid,
        drained=order.context.drained,
        scratch=order.scratch,
        restarts=GROUP_RESTARTS,
        callbacks=[_watch_errors(order.scratch)] if trained_by_ray(resources) else [],
    )
    result = _result(order)
    return result | {"timings": moments | result.get("timings", {})}


def start(
    work: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    resources: Resources,
    *,
    name: str,
    scratch: Path,
    restarts: int,
    callbacks: Sequence[Any] = (),
    held: HeldGang | None = None,
    avoid: Sequence[str] = (),
    drained: Sequence[str] = (),
) -> dict[str, float]:
    """Run `work` with `config` in every worker of a gang; return the moments of its start, in seconds since 1970.

    With GPUs Ray Train runs it, otherwise it is formed here. name: of the gang. restarts: after deaths of workers.
    callbacks: of Ray Train. held: the gang that this process holds on to, for one work after another; its failure is
    the caller's to heal. avoid: Ray's ids of nodes that it keeps away from, where the others could hold it. drained:
    of nodes that it keeps away from in any case.
    """
    avoid = avoidable(resources, avoid, drained)
    if not trained_by_ray(resources):
        gang = Gang(name=name, resources=resources, restarts=restarts, avoid=avoid, drained=drained)
        if held is None:
            return gang.run(work, config)
        held.run(gang, work, config)
        return {}
    from ray.train import FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        work,
        train_loop_config=config,
        scaling_config=scaling(resources, (*avoid, *drained)),
        torch_config=torch_config(resources),
        run_config=RunConfig(
            name=name,
            storage_path=str(scratch / "ray"),  # required, and left empty
            failure_config=FailureConfig(max_failures=restarts, controller_failure_limit=PLACEMENT_TRIES),
            callbacks=list(callbacks),
        ),
    )
    trainer.fit()
    return {}


def member(config: Mapping[str, Any]) -> Member:
    """Return the place of this process in its gang. config: what `work` was given."""
    if (known := config.get(MEMBER)) is not None:
        return known  # type: ignore[no-any-return]
    from ray.train import get_context

    context = get_context()
    place = Place(
        node=context.get_node_rank(),
        local_rank=context.get_local_rank(),
        alone=context.get_local_world_size() == context.get_world_size(),
    )
    return Member(rank=context.get_world_rank(), world_size=context.get_world_size(), place=place)


def device(config: Mapping[str, Any]) -> torch.device:
    """Return the device of this process in its gang."""
    import torch

    if config.get(MEMBER) is not None:
        return torch.device("cpu")
    from ray.train.torch import get_device

    ours: torch.device = get_device()
    return ours


class Worker:
    """This process among the workers of its gang.

    scratch: Ray's folder of this run, the same for all workers on a machine
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Join the gang. config: what `work` was given."""
        import torch

        tell_when_asked()  # in a process of Ray Train's
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request
        self.order = Assignment.model_validate_json(config["order"])
        here = member(config)
        self.rank, self.world_size, self.place = here.rank, here.world_size, here.place
        self.device = device(config)
        self.scratch = Path.cwd()
        # set here, in the thread that computes: a result depends on the number of threads in its last bits
        torch.set_num_threads(max(1, int(self.order.context.job.resources.cpus_per_worker)))

    def leave(self, result: Mapping[str, Any], artifacts: Artifacts) -> None:
        """Leave the first worker's result for the driver, which may be on another machine."""
        uri = artifacts.uri(*result_uri_parts(self.order.access.job_id, self.order.access.number))
        artifacts.put_bytes(uri, json.dumps(result).encode(), "application/json")


def _result(order: Assignment) -> dict[str, Any]:
    """Return what the first worker left in storage."""
    artifacts = order.artifacts()
    uri = artifacts.uri(*result_uri_parts(order.access.job_id, order.access.number))
    try:
        result: dict[str, Any] = json.loads(artifacts.get_bytes(uri))
    except NotFoundError as error:
        raise UnavailableError("the workers ended without a result") from error
    with contextlib.suppress(VaesvcError):
        artifacts.delete_prefix(uri)
    return result


def _watch_errors(folder: Path) -> Any:
    """Return a callback of Ray Train that ends the attempt when the group, started again, would fail the same way.

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
