"""The queue's numbers in Prometheus' text format. All are read from SQL, so that several APIs, and one that was
restarted, say the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service import wire
from service.queue.figures import Figures


class _Queue(Collector):
    def __init__(self, figures: Figures, cluster: wire.ClusterStatus) -> None:
        self._figures = figures
        self._cluster = cluster

    def collect(self) -> Iterable[Metric]:
        at, there = self._figures, self._cluster
        yield _gauges("vaesvc_jobs", "Jobs by state.", "state", at.jobs)
        yield _gauges("vaesvc_queue_jobs", "Jobs that wait, by class of priority.", "class", at.waiting)
        oldest = "Seconds that the job has waited that has waited longest, by class of priority."
        yield _gauges("vaesvc_queue_oldest_wait_seconds", oldest, "class", at.oldest)
        waits = HistogramMetricFamily("vaesvc_wait_seconds", "Seconds from a job's submit to its first attempt.")
        counted = [(str(float(bucket)), float(number)) for bucket, number in at.waits.items()]
        waits.add_metric([], [*counted, ("+Inf", float(at.started))], at.waited)
        yield waits
        admitted = CounterMetricFamily("vaesvc_admissions", "Attempts that were admitted.")
        admitted.add_metric([], float(sum(at.attempts.values())))
        yield admitted
        yield _gauges("vaesvc_attempts", "Attempts by state, of all time.", "state", at.attempts)
        failures = CounterMetricFamily(
            "vaesvc_failures", "Attempts that failed or were lost, by cause.", labels=["cause"]
        )
        for cause, number in sorted(at.failures.items()):
            failures.add_metric([cause], float(number))
        yield failures
        requeues = CounterMetricFamily(
            "vaesvc_requeues", "Attempts that checkpointed and gave way, by why.", labels=["why"]
        )
        for why, number in sorted(at.requeues.items()):
            requeues.add_metric([why], float(number))
        yield requeues
        lag = "Seconds since the last sign of life of the running attempt that has been silent longest."
        yield GaugeMetricFamily("vaesvc_heartbeat_lag_seconds", lag, value=at.lag)
        yield _gauges("vaesvc_cluster_total", "What the cluster has, memory in bytes.", "resource", there.total)
        yield _gauges("vaesvc_cluster_used", "What jobs hold of it, memory in bytes.", "resource", there.used_by_jobs)
        yield GaugeMetricFamily("vaesvc_ray_up", "1 if Ray answered the dispatcher last.", value=float(there.ray_ok))
        yield GaugeMetricFamily("vaesvc_notices_pending", "Messages that are still to be delivered.", value=at.pending)
        for name, what in (
            ("plan_seconds", "Seconds that the dispatcher's last plan took."),
            ("plan_seconds_most", "Seconds that the longest of the dispatcher's last plans took."),
            ("expected_start_within", "Part of the expected starts that came to pass within the range that was told."),
            ("expected_start_judged", "How many expected starts that is of, the newest."),
        ):
            if name in at.measured:
                yield GaugeMetricFamily(f"vaesvc_{name}", what, value=at.measured[name])


def _gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], float(value))
    return family


def text(figures: Figures, cluster: wire.ClusterStatus) -> bytes:
    """Return the numbers in Prometheus' text format, version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Queue(figures, cluster))
    return generate_latest(registry)
