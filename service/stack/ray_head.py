"""Part `ray`: a Ray head on loopback with its Jobs API, behind a token.

Ray takes a Linux machine's address in the network for the node's, even where it is told 127.0.0.1, and listens on all
interfaces; what it does on systems that it knows no clusters of, one node on loopback, is what a local stack wants. The
token is not optional: without it whoever reaches a port, every user of the machine, runs code.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.attempt import preload
from service.errors import StorageError
from service.settings import Settings
from service.stack import state
from service.stack.part import LOOPBACK, Launch, Site, Unit, environment, get, python

_MIB = 2**20
_LONGEST_FOLDER = 30  # characters; Ray adds up to 76 for its sockets, and their paths must stay under 108
_KEPT_SESSIONS = 3  # folders with Ray's logs of earlier starts


def _provides(home: Path, ports: Mapping[str, int]) -> dict[str, Any]:
    state.secret(home / "ray-token")
    return {
        "ray_address": f"http://{LOOPBACK}:{ports['dashboard']}",
        "ray_gcs_address": f"{LOOPBACK}:{ports['gcs']}",
        "ray_token_file": str(home / "ray-token"),
    }


def _launch(site: Site) -> Launch:
    folder = temporary_folder(site.home)
    _forget_sessions(folder)
    ports = site.ports
    fixed = (
        *("-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *("--port", str(ports["gcs"]), "--temp-dir", str(folder)),
        *("--dashboard-host", LOOPBACK, "--dashboard-port", str(ports["dashboard"])),
        *("--dashboard-agent-listen-port", str(ports["agent"]), "--ray-client-server-port", str(ports["client"])),
    )
    sizes = (
        *("--num-cpus", str(cpus()), "--memory", str(memory() * 7 // 10)),
        *("--object-store-memory", str(_object_store())),
    )
    return Launch(command=python(*fixed, *sizes), environment=_environment(site), same=fixed)


def _environment(site: Site) -> dict[str, str]:
    """Return what workers inherit: with the folders of data sets; the token's file is named, the token not shown."""
    settings = site.settings
    env = environment(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(settings.ray_token_file),
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # the node's address is loopback's, and what it opens listens there
        RAY_USAGE_STATS_ENABLED="0",
        RAY_TRAIN_ENABLE_PRINT_PATCH="0",
        RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0",  # at SIGTERM it would wait for workers to leave, as Ray Serve's do
        RAY_prestart_worker_first_driver="0",  # it would take the cores that the first job's own workers start on
        MALLOC_ARENA_MAX="1",  # a thread that trains would give its arena back, and fault it in, every step
        GLIBC_TUNABLES="glibc.malloc.hugetlb=1",  # that arena in huge pages: fewer of them to look up, step after step
        AUTOSCALER_METRIC_PORT=str(site.ports["metrics"]),
        DASHBOARD_METRIC_PORT=str(site.ports["dashboard_metrics"]),
        VAESVC_CACHE_DIR=str(settings.cache_dir),
    )
    env.pop("RAY_AUTH_TOKEN", None)
    env[preload.WAITING] = str(settings.warm_workers)
    if settings.warm_workers > 0:
        env["RAY_preload_python_modules"] = preload.MODULE  # what waits idle has its imports behind it
    if settings.cache_bytes is not None:
        env["VAESVC_CACHE_BYTES"] = str(settings.cache_bytes)
    return env | ({"VAESVC_DATA_DIR": str(settings.data_dir)} if settings.data_dir else {})


def temporary_folder(home: Path) -> Path:
    """Return <home>/ray, or a short folder in /tmp where that would make socket paths too long.

    Ray opens its folder to every user, so it lies in one that is closed to them.
    """
    folder = home / "ray"
    if len(str(folder)) > _LONGEST_FOLDER:
        name = f"vaesvc-{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]}"
        closed = Path("/tmp") / name  # nosec B108  # closed to others, and refused below where it is another's
        closed.mkdir(exist_ok=True, mode=0o700)
        status = closed.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise StorageError(
                f"{closed} is not a directory of this user alone: remove it, or set a shorter VAESVC_HOME"
            )
        folder = closed / "ray"
    folder.mkdir(exist_ok=True)
    return folder


def _forget_sessions(folder: Path) -> None:
    sessions = sorted(path for path in folder.glob("session_2*") if path.is_dir() and not path.is_symlink())
    for path in sessions[: -_KEPT_SESSIONS + 1]:
        shutil.rmtree(path, ignore_errors=True)


def cpus() -> int:
    """Return the cores that this process may use; at least two, so that a gang of two can be tried anywhere."""
    cores = len(os.sched_getaffinity(0))
    quota, _, period = _cgroup("cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return max(2, cores)


def memory() -> int:
    """Return the bytes of memory of the machine, or of the container."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = _cgroup("memory.max")
    return min(total, int(limit)) if limit.isdigit() else total


def _cgroup(name: str) -> str:
    try:
        return Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return ""


def _object_store() -> int:
    """Return the object store's bytes: a quarter of /dev/shm, 128 to 512 MiB; training passes next to nothing by it."""
    return max(128 * _MIB, min(512 * _MIB, shutil.disk_usage("/dev/shm").free // 4))  # nosec B108  # looked at, never written


def _check(settings: Settings) -> None:
    """Check that the Jobs API answers with our token, which takes the dashboard and the GCS behind it."""
    get(settings.ray_address or "", "/api/jobs/", what="Ray's Jobs API", token=settings.ray_token())


RAY = Unit(
    name="ray",
    fields=("ray_address",),
    also=("ray_token_file", "ray_gcs_address"),
    ports=("dashboard", "gcs", "agent", "client", "metrics", "dashboard_metrics"),
    provides=_provides,
    address=lambda settings: settings.ray_address,
    launch=_launch,
    answers=lambda settings, since: _check(settings),
    check=_check,
    start_seconds=120,
    stop_seconds=15,
)
