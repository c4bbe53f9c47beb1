"""The digests of the commit before the seams, as a file: which machine and torch they are of, and what they are.

Bits depend on the processor (which kernels are chosen) and on torch's build, so the file says both, and digests of
another machine are compared only where somebody asks for it.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

KEPT = Path(__file__).with_name("before.json")
SHOWN = 12  # hexadecimal digits of a digest
LOSS = "loss"  # the key that is a number, to read

Digests = Mapping[str, Mapping[str, str]]


def machine() -> dict[str, str]:
    """Return what the bits of a sum depend on."""
    return {"processor": _processor(), "torch": torch.__version__, "kernels": torch.backends.cpu.get_cpu_capability()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def differences(kept: Mapping[str, Any]) -> list[str]:
    """Return in what this machine is not the file's: a sentence each."""
    ours = machine()
    return [
        f"{key} here is {ours[key]}, the file's {theirs}"
        for key, theirs in kept["machine"].items()
        if ours[key] != theirs
    ]


def read(path: Path = KEPT) -> dict[str, Any]:
    """Return {"commit", "machine", "digests": {"float32.1": {recipe: {"losses", ...}}}, "renewed": {recipe: why}}."""
    kept: dict[str, Any] = json.loads(path.read_text())
    for group in kept["digests"].values():
        for name, line in group.items():
            group[name] = dict(part.split("=", 1) for part in line.split())
    return kept


def write(
    groups: Mapping[str, Digests], commit: str, path: Path = KEPT, *, renewed: Mapping[str, str] | None = None
) -> None:
    """Write digests, shortened, a line for each recipe. groups: by type and number of workers, "float32.1".

    renewed: recipes whose digests are of later code than `commit`, and why.
    """
    lines = {
        group: {
            name: " ".join(f"{key}={shortened(key, value)}" for key, value in sorted(each.items()))
            for name, each in digests.items()
        }
        for group, digests in groups.items()
    }
    kept = {"commit": commit, "machine": machine(), "digests": lines, "renewed": dict(renewed or {})}
    text = json.dumps(kept, indent=0, sort_keys=True)
    path.write_text(f"{text}\n")


def renew(groups: Mapping[str, Digests], why: str, path: Path = KEPT) -> None:
    """Put digests of later code in place of those of the same recipes, whose numbers were changed on purpose.

    why: the commit or the reason, which the file says of each of them. Raise ValueError where a recipe is not in the
    file, or this machine is not the file's.
    """
    kept = read(path)
    if lines := differences(kept):
        raise ValueError("; ".join(lines))
    for group, digests in groups.items():
        if unknown := digests.keys() - kept["digests"].get(group, {}).keys():
            raise ValueError(f"{group} has no {sorted(unknown)[0]}: --keep writes the whole file")
        kept["digests"][group].update(digests)
    names = {name for digests in groups.values() for name in digests}
    write(kept["digests"], kept["commit"], path, renewed=kept.get("renewed", {}) | dict.fromkeys(sorted(names), why))


def shortened(key: str, value: str) -> str:
    """Return what the file keeps of a digest."""
    return value if key == LOSS else value[:SHOWN]


def compare(before: Digests, after: Digests) -> list[str]:
    """Return which of `after` differ from `before`, and in what; what is only in one of the two is told, too."""
    lines = [f"{name}: new" for name in after if name not in before]
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        different = [key for key in old if shortened(key, old[key]) != shortened(key, new.get(key, ""))]
        if different:
            lines.append(f"{name}: {', '.join(different)} ({old[LOSS]} -> {new[LOSS]})")
    return lines
