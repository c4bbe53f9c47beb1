"""What this machine can do at most, measured on the spot: products, copies, and who it is."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

CLOCKS = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit"
ADAM_BYTES = 28  # of memory for each float32 parameter: p, g, m and v are read; p, m and v are written


@dataclass(frozen=True, kw_only=True)
class Limits:
    """flops: of float32 matrix products, operations a second; bandwidth: bytes a second, read and written."""

    flops: float
    bandwidth: float

    def seconds(self, operations: float, parameters: int) -> float:
        """Return the least seconds of a step: its products, and then Adam's way through memory."""
        return operations / self.flops + ADAM_BYTES * parameters / self.bandwidth


def limits(device: torch.device, *, rounds: int = 5) -> Limits:
    """Measure: the best of so many rounds, which other programs disturb least."""
    side = 1024 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    out = torch.empty_like(a)
    source = torch.ones((64 if device.type == "cpu" else 1024) * 2**18, device=device)  # 64 MiB, beyond caches; 1 GiB
    target = torch.empty_like(source)
    product, copy = [], []
    for _ in range(rounds + 1):
        product.append(_seconds(device, lambda: torch.mm(a, b, out=out)))
        copy.append(_seconds(device, lambda: target.copy_(source)))
    return Limits(flops=2 * side**3 / min(product[1:]), bandwidth=2 * 4 * source.numel() / min(copy[1:]))


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    began = clock(device)
    work()
    return clock(device) - began


def finish(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock(device: torch.device) -> float:
    """Return seconds: of the processor, which other programs disturb less, on a CPU; of the wall on a device."""
    finish(device)
    return time.process_time() if device.type == "cpu" else time.perf_counter()


def about(device: torch.device) -> dict[str, str]:
    """Return who the machine is: name, clocks, versions."""
    said = {"torch": torch.__version__, "python": platform.python_version(), "system": platform.platform()}
    if device.type == "cpu":
        return {"device": f"CPU: {_processor()}", "threads": str(torch.get_num_threads()), **said}
    return {"device": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda), **said, **_clocks()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _clocks() -> dict[str, str]:
    """Return what nvidia-smi says of the first GPU; why not, where it says nothing."""
    command = ["nvidia-smi", f"--query-gpu={CLOCKS}", "--format=csv,noheader"]
    try:
        line = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        return {"clocks": f"unknown: {error}"}
    return dict(zip(CLOCKS.split(","), (value.strip() for value in line.split(",")), strict=False))


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)
