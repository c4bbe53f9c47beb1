"""What a run's machine was busy with: processor, memory, disk, network, GPUs, where MLflow's pages show it.

MLflow's own probes, without its monitor: that one asks the server at every sample whether the run still goes on, ends
for good when there is no answer, and waits for the server when it is closed. Here a sample goes the way of all metrics,
into the spool, so a server that is away costs nothing and loses nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

log = logging.getLogger(__name__)

PREFIX = "system/"  # the pages show these by themselves, under "System metrics"
EVERY_SECONDS = 10.0  # as MLflow's monitor; a sample takes 0.1 ms of a processor
FIRST_SECONDS = 1.0  # a short run has a point, too


class SystemMonitor:
    """A sampler of this machine's load, in a thread of its own until it is closed.

    log:   takes a step and metrics and returns at once, such as `RunWriter.log_metrics`
    since: seconds since 1970. The step is the number of seconds since then: it goes on rising in the next attempt
    node:  names the machine where a run has several, as MLflow does: system/node_1/cpu_utilization_percentage
    """

    def __init__(
        self,
        log: Callable[[int, Mapping[str, float]], None],
        *,
        since: float,
        node: int | None = None,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._log = log
        self._since = since
        self._prefix = PREFIX if node is None else f"{PREFIX}node_{node}/"
        self._every = every_seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-metrics", daemon=True)
        self._thread.start()

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Take a last sample and stop."""
        self._end.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        try:
            probes = _probes()
            ended = self._end.wait(min(FIRST_SECONDS, self._every))
            while not ended:
                self._sample(probes)
                ended = self._end.wait(self._every)
            self._sample(probes)
        except Exception:
            log.warning("no system metrics from here on", exc_info=True)

    def _sample(self, probes: list[Any]) -> None:
        sample: dict[str, float] = {}
        for probe in probes:
            probe.collect_metrics()
            sample |= probe.aggregate_metrics()
            probe.clear_metrics()
        step = round(time.time() - self._since)
        self._log(step, {f"{self._prefix}{name}": float(value) for name, value in sample.items()})


def _probes() -> list[Any]:
    """Return the probes that this machine has. Utilization is counted from the call to the first sample."""
    import psutil
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    probes: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    for kind in (GPUMonitor, ROCMMonitor):
        try:
            probes.append(kind())
            break
        except Exception as error:
            log.debug("no %s: %s", kind.__name__, error)
    psutil.cpu_percent()
    return probes
