"""Workers that wait with everything imported: Ray's idle processes, loaded ahead, and started again after use.

Torch, Ray, MLflow and this service take a new process seconds to import. A raylet that was started with
RAY_preload_python_modules=service.attempt.preload imports them in every worker process that it starts without a
runtime environment, and keeps idle ones (`refill`). A process serves one job and ends with it: nothing of a job stays
behind. Jobs with code of their own have an environment, and so never come to a process that was there before.
Ray's other processes import this module, too: it is light until it knows that it waits.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.collector import collect_rarely

if TYPE_CHECKING:
    from service.queue.jobs import Resources

MODULE = __name__  # for RAY_preload_python_modules
MODULES = (
    "vae_models.training.loop",
    "vae_models.data",
    "torch._dynamo",  # DistributedDataParallel imports it when it is made
    "service.attempt.members",
    "service.attempt.run_context",
    "service.data.fetch",
    "service.tracking",
    "mlflow",
    "safetensors.torch",
    "torch.profiler",
)
_PACKAGES = ("service", "tuning", "vae_models")
_KEEP_SECONDS = 1800  # an idle process may be ended after that
_CALL_SECONDS = 2.0
_LEAST_BYTES = 2 << 30  # of memory that stay free
_PROCESS_BYTES = 512 << 20  # of one that waits
_HASH = "--runtime-env-hash="  # of a worker's command line


def check_current() -> None:
    """Raise UnavailableError where this process waited while the service was changed under it: a new one is needed."""
    from service.errors import UnavailableError

    if _loaded is not None and _installed() != _loaded:
        raise UnavailableError("this process was started before vaesvc was changed here: a new one takes its place")


def load() -> None:
    """Import what every worker of a job needs. One thread each for numpy's libraries, as Ray sets it for a core."""
    collect_rarely()
    with _one_thread():
        for name in MODULES:
            importlib.import_module(name)
        from service import kinds
        from service.kinds.kind import loaded

        for kind in kinds.KINDS.all().values():
            with contextlib.suppress(Exception):  # of an installed package: who runs such a job is told
                loaded(kind.run)


def refill(resources: Resources) -> int:
    """Have as many idle processes started as a gang that ends takes with it; return how many were asked for.

    Best effort: a cluster that does not do so, or a machine with little memory, leaves the next job a slower start.
    """
    import ray

    asked = 0
    with contextlib.suppress(Exception):
        here = ray.get_runtime_context().get_node_id()
        for node, count in _shares(resources, ray.nodes(), here, _room()):
            _prestart(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}", count)
            asked += count
    return asked


def _shares(
    resources: Resources, nodes: Sequence[Mapping[str, Any]], here: str, room: int
) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Yield (node, number of processes) for a gang, this node first. room: how many this node has memory for."""
    left = resources.workers
    for node in sorted(nodes, key=lambda node: node["NodeID"] != here):
        if not node["Alive"] or left <= 0:
            continue
        fit = int(node["Resources"].get("CPU", 0.0) // resources.cpus_per_worker)
        count = min(left, fit, room if node["NodeID"] == here else fit)
        left -= min(left, fit)
        if count > 0:
            yield node, count


def _room() -> int:
    import psutil

    return max(0, int((psutil.virtual_memory().available - _LEAST_BYTES) // _PROCESS_BYTES))


def _prestart(address: str, count: int) -> None:
    """Ask a raylet for idle processes without an environment: the call by which Ray's own workers ask it."""
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc

    request = node_manager_pb2.PrestartWorkersRequest(
        language=common_pb2.PYTHON, num_workers=count, keep_alive_duration_secs=_KEEP_SECONDS
    )
    with init_grpc_channel(address) as channel:
        stub = node_manager_pb2_grpc.NodeManagerServiceStub(channel)
        stub.PrestartWorkers(request, timeout=_CALL_SECONDS)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]


def _waiting() -> bool:
    """Return whether this process is a worker of Ray's without a runtime environment, which any job may get."""
    hashes = [argument.removeprefix(_HASH) for argument in sys.argv if argument.startswith(_HASH)]
    return sys.argv[0].endswith("default_worker.py") and set(hashes) <= {"0"}


def _installed() -> int:
    """Return when a file of ours was last changed here [ns since 1970]."""
    root = Path(__file__).parents[2]
    files = (file for package in _PACKAGES for file in (root / package).rglob("*.py"))
    return max(file.stat().st_mtime_ns for file in files)


_loaded: int | None = None  # when the newest file of those was changed that this process has loaded ahead
if _waiting():
    _loaded = _installed()
    load()
