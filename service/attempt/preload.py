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
import sysconfig
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from service.collector import collect_rarely

if TYPE_CHECKING:
    from service.queue.jobs import Resources

PRELOADING = "RAY_preload_python_modules"  # in the environment of a raylet
MODULE = __name__  # for it
MODULES = (
    "vae_models.training.loop",
    "vae_models.data",
    "service.attempt.members",
    "service.attempt.run_context",
    "service.artifacts",
    "service.data.fetch",
    "service.tracking",
    "mlflow",
    "safetensors.torch",
    "torch.profiler",
    "ray.tune",  # which serves a study's packs
)
WAITING = "VAESVC_WARM_WORKERS"  # the setting `warm_workers`, in the environment of a machine's raylet
_MOST = 4  # of it
_INSTALLED = ("purelib", "platlib")
_KEEP_SECONDS = 1800  # an idle process may be ended after that
_CALL_SECONDS = 2.0
_LEAST_BYTES = 2 << 30  # of memory that stay free
_PROCESS_BYTES = 512 << 20  # of one that waits
_IDLE = "ray::IDLE"  # as Ray calls a process that waits
READY = f"{_IDLE} vaesvc"  # as it is called here once it has its imports behind it
_HASH = "--runtime-env-hash="  # of a worker's command line


def check_current() -> None:
    """Raise UnavailableError where this process waited while the service was changed under it: a new one is needed."""
    from service.errors import UnavailableError

    if _loaded is None:
        return
    now = _changed(_loaded)
    changed = sorted(path for path, at in _loaded.items() if now[path] != at)
    if changed:
        files = changed[0] + (f" and {len(changed) - 1} more" if len(changed) > 1 else "")
        raise UnavailableError(f"this process waited while {files} changed: a new one takes its place")


def waited(since: float) -> bool:
    """Return whether this process was held ready when it was asked for. since: that moment [s since 1970]"""
    return _ready_at is not None and _ready_at <= since


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

    At most `warm_workers` of the settings wait on a machine. Best effort: a cluster that does not do so, or a machine
    with little memory, leaves the next job a slower start.
    """
    import ray

    asked = 0
    if MODULE not in os.environ.get(PRELOADING, "").split(","):
        return asked  # of a raylet's that was started without it: they would wait without imports
    with contextlib.suppress(Exception):
        most = int(os.environ.get(WAITING) or _MOST)
        here = ray.get_runtime_context().get_node_id()
        for node, count in _shares(resources, ray.nodes(), here, _room(most), most):
            _prestart(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}", count)
            asked += count
    return asked


def _shares(
    resources: Resources, nodes: Sequence[Mapping[str, Any]], here: str, room: int, most: int
) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Yield (node, number of processes) for a gang, this node first.

    room: how many more may wait on this node. most: on any other
    """
    left = resources.workers
    for node in sorted(nodes, key=lambda node: node["NodeID"] != here):
        if not node["Alive"] or left <= 0:
            continue
        fit = int(node["Resources"].get("CPU", 0.0) // resources.cpus_per_worker)
        count = min(left, fit, room if node["NodeID"] == here else most)
        left -= min(left, fit)
        if count > 0:
            yield node, count


def _room(most: int) -> int:
    """Return how many more processes may wait on this machine: of `most`, and of those that there is memory for."""
    import psutil

    fit = int((psutil.virtual_memory().available - _LEAST_BYTES) // _PROCESS_BYTES)
    return max(0, min(fit, most - _idle()))


def _idle() -> int:
    """Return how many processes of this machine's raylet, of which this one descends, wait."""
    import psutil

    ancestors = {parent.pid for parent in psutil.Process().parents()}
    idle = (p for p in psutil.process_iter(["ppid", "cmdline"]) if (p.info["cmdline"] or [""])[0].startswith(_IDLE))
    return sum(p.info["ppid"] in ancestors for p in idle)


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


def _files() -> dict[str, int | None]:
    """Return the files that this process has loaded modules from, and the folders that packages are installed into,
    with when each was last changed [ns since 1970]."""
    loaded_from = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return _changed({path for path in loaded_from if path} | {sysconfig.get_path(name) for name in _INSTALLED})


def _changed(paths: Iterable[str]) -> dict[str, int | None]:
    """Return when each of these was last changed [ns since 1970]; None for what is not there."""
    times: dict[str, int | None] = {}
    for path in paths:
        try:
            times[path] = os.stat(path).st_mtime_ns
        except OSError:
            times[path] = None
    return times


def _say_ready() -> None:
    """Say in the list of processes that this one has everything imported."""
    from ray._raylet import setproctitle  # type: ignore[attr-defined]

    setproctitle(READY)


_loaded: dict[str, int | None] | None = None  # of `_files`, where this process has loaded them ahead
_ready_at: float | None = None  # when it had [s since 1970]
if _waiting():
    _since = time.time_ns()
    load()
    _loaded = {path: at if at is None or at < _since else -1 for path, at in _files().items()}
    _ready_at = time.time()
    with contextlib.suppress(Exception):
        _say_ready()
