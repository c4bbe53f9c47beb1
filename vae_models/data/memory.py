"""How much memory is left: of a GPU, of this machine, and of what this process was given of it."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # bytes; version 1 writes a number near 2^63


def free_bytes(device: torch.device) -> int:
    """Return how many bytes can be allocated on the device: on the CPU, without swapping or being killed."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return free_host_bytes()


def free_host_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Return the bytes that the machine has available or, where that is less, that the limits of this process leave.

    They are those of its control groups, where what a group holds of files that it has read counts as free (it gives
    way), and its own (`ulimit -d` and `-v`).
    """
    return min([_available(proc), *_left_in_groups(proc, cgroup), *_left_to_process(proc)])


def _left_to_process(proc: Path) -> list[int]:
    left = []
    for limit, held in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY:
            left.append(max(0, most - _kilobytes(proc / "self" / "status", held) * 1024))
    return left


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise OSError(f"{path} has no line {name}")


def _available(proc: Path) -> int:
    return _kilobytes(proc / "meminfo", "MemAvailable") * 1024


def _left_in_groups(proc: Path, cgroup: Path) -> list[int]:
    """Return the free bytes of each memory control group of this process, from its own to the root:
    versions 1 and 2.
    """
    left = []
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, limit, usage, inactive = cgroup, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, usage = cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            inactive = "total_inactive_file"
        else:
            continue
        own = root / path.lstrip("/")
        # inside a container the path may be the host's, and the group is the root of what is mounted
        for group in dict.fromkeys((own, *own.parents, root)):
            if group == root or root in group.parents:
                left += _left(group, limit, usage, inactive)
    return left


def _left(group: Path, limit: str, usage: str, inactive: str) -> list[int]:
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    if most == "max" or int(most) > _UNLIMITED:
        return []
    return [max(0, int(most) - used + int(stat.get(inactive, 0)))]
