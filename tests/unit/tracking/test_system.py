"""System metrics without a server: what is sampled, under which names, and that nothing of it can stop a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from service.tracking import system
from tests.servers import wait_for

Samples = list[tuple[int, Mapping[str, float]]]
NAMES = {  # those that MLflow's monitor writes, and its pages group
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "disk_usage_percentage",
    "disk_usage_megabytes",
    "disk_available_megabytes",
    "network_receive_megabytes",
    "network_transmit_megabytes",
}


def collect(**options: Any) -> tuple[Samples, system.SystemMonitor]:
    samples: Samples = []
    since = time.time() - 100
    return samples, system.SystemMonitor(lambda step, values: samples.append((step, values)), since=since, **options)


def test_fault_13b_a_machine_is_sampled_under_mlflows_names() -> None:
    samples, monitor = collect(every_seconds=1.0)
    wait_for(lambda: len(samples) >= 2, 60, "two samples")
    monitor.close()
    step, values = samples[0]
    assert {f"system/{name}" for name in NAMES} <= values.keys()
    assert 0 < values["system/system_memory_usage_percentage"] <= 100
    assert step >= 100  # seconds since then: the next attempt goes on where this one ended
    assert samples[1][0] > step


def test_fault_13b_of_several_machines_each_has_its_name() -> None:
    samples, monitor = collect(node=1)
    monitor.close(60)
    assert {name.rpartition("/")[0] for name in samples[-1][1]} == {"system/node_1"}


def test_a_short_run_has_a_sample_and_is_not_held_up() -> None:
    samples, monitor = collect()
    wait_for(lambda: bool(samples), 60, "a sample")
    began = time.monotonic()
    monitor.close(60)
    assert time.monotonic() - began < system.EVERY_SECONDS  # it does not wait for the next turn
    assert len(samples) == 2


def test_probes_that_fail_stop_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> list[Any]:
        raise OSError("/proc is not mounted")

    monkeypatch.setattr(system, "_probes", fail)
    samples, monitor = collect()
    monitor.close()
    assert samples == []
    assert "no system metrics from here on" in caplog.text
