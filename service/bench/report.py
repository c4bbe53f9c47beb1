"""What was measured, as tables; and two of them beside each other."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.errors import UsageError

MIB = 2**20
HEADER = (
    "family", "parameters", "batch", "step [ms]", "plain loop / ours", "by hand / ours", "pythae / ours",
    "of the limit", "memory [MiB]",
)  # fmt: skip
COMPILED = ("ours / compiled", "plain loop / compiled", "by hand / compiled", "pythae / compiled", "to compile [s]")
COMPARED = ("family", "step of A [ms]", "step of B [ms]", "A / B", "plain / ours of A", "of B")


def header(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the table's columns: `HEADER`, and `COMPILED` where that was measured."""
    return HEADER + (COMPILED if any(each.get("times_compiled") for each in report["families"]) else ())


def row(measured: Mapping[str, Any]) -> list[str]:
    """Return a family's row of `header`; a ratio above 1: this package is faster. "-": not measured."""
    ours = measured["seconds"]["vaesvc"]
    ratios = [_times(measured["times_ours"].get(who)) for who in ("plain loop", "by hand", "pythae")]
    memory = (measured["weights"] + measured["step"]) / MIB
    return [
        measured["family"], f"{measured['parameters']:,}", f"{measured['batch']}", f"{ours * 1e3:.2f}", *ratios,
        f"{measured['limit'] / ours:.0%}", f"{memory:,.0f}", *_compiled(measured.get("times_compiled"), measured),
    ]  # fmt: skip


def _compiled(times: Mapping[str, float] | None, measured: Mapping[str, Any]) -> list[str]:
    if not times:
        return []
    ratios = [_times(times.get(who)) for who in ("vaesvc", "plain loop", "by hand", "pythae")]
    return [*ratios, f"{measured['compile_seconds']:.0f}"]


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f} x"


def notes(report: Mapping[str, Any]) -> list[str]:
    """Return what the table is of, in sentences."""
    machine, limits = report["machine"], report["limits"]
    threads = f", {machine['threads']} threads" if "threads" in machine else ""
    pythae = f"pythae {report['pythae']}" if report["pythae"] else "pythae is not installed: not measured"
    return [
        f"{machine['device']}{threads}, torch {machine['torch']}; {pythae}.",
        f"Medians of {report['rounds']} rounds that alternate. The limit is {limits['flops'] / 1e9:.0f} GFLOP/s of "
        f"matrix products and {limits['bandwidth'] / 1e9:.1f} GB/s of memory, measured here: what a step's products "
        "and the optimizer's reads and writes need.",
    ]


def read(path: Path) -> dict[str, Any]:
    """Return what `vaesvc bench --json` or `--save` wrote. Raise UsageError where the file is something else."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if report["format"] == 1 and isinstance(report["families"], list):
            return report
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{path} is not what `vaesvc bench --json` writes: make it with vaesvc bench --json > {path.name}")


def write(path: Path, report: Mapping[str, Any]) -> None:
    """Write what `read` reads; the file is whole at every moment. Raise UsageError where it cannot be written."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[list[str]]:
    """Return a row of `COMPARED` for each family that both have.

    Seconds of two runs differ by what else the machine does; the ratio beside the plain loop of the same run does not.
    """
    theirs = {each["family"]: each for each in after["families"]}
    rows = []
    for a in before["families"]:
        if (b := theirs.get(a["family"])) is not None:
            first, second = a["seconds"]["vaesvc"], b["seconds"]["vaesvc"]
            plain = [_times(each["times_ours"].get("plain loop")) for each in (a, b)]
            rows.append([a["family"], f"{first * 1e3:.2f}", f"{second * 1e3:.2f}", _times(first / second), *plain])
    return rows
