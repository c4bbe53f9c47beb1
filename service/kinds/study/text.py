"""How far a study is and what it left behind, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.cli.output import duration, whole
from service.cli.progress import summary


def progress(progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label with its unit, value) of everything that a progress report holds."""
    step, total = progress.get("step", 0), progress.get("total_steps", 0)
    return [
        ("stage", str(progress.get("stage"))),
        ("trials ended", f"{progress.get('ended')}/{progress['trials']}"),
        ("steps of all", f"{step:,}/{total:,}"),
        ("images/s", whole(progress.get("images_per_second"))),
        ("left [h:mm:ss]", duration(progress.get("seconds_left"))),
    ]


def outcome(result: Mapping[str, Any]) -> list[str]:
    """Return a line for each stage, then the metrics of the winner."""
    return [_stage(stage) for stage in result.get("stages", ())] + summary(result.get("metrics") or {})


def _stage(stage: Mapping[str, Any]) -> str:
    won = stage.get("winner")
    count = f"{stage['ended']}/{stage['trials']} trials" + (f", {stage['failed']} failed" if stage["failed"] else "")
    if not won:
        return f"{stage['name']:<20} {count}, no winner"
    error = won.get("standard_error")
    return f"{stage['name']:<20} {count}, winner {assignment(won['assignment'])}: {won['mean']:.6g}" + (
        "" if error is None else f" +- {error:.2g}"
    )


def assignment(values: Mapping[str, Any]) -> str:
    """Return what a trial tried: path=value, ..."""

    def short(value: Any) -> str:
        if isinstance(value, dict):
            inner = ", ".join(f"{k}={short(v)}" for k, v in value.items() if k != "kind")
            return f"{value.get('kind', '')}({inner})"
        return f"{value:g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{path}={short(value)}" for path, value in values.items())
