"""How far a run is and what it left behind, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.cli.output import duration, number, whole
from service.cli.progress import summary

SHOWN = (("elbo", "ELBO"), ("rate", "rate"), ("distortion", "distortion"))  # nats per datum


def progress(progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (label with its unit, value) of everything that a progress report holds."""
    metrics: Mapping[str, float] = progress.get("metrics") or {}
    step, total = progress.get("step"), progress.get("total_steps")
    items = [("step", "-" if step is None else f"{step:,}/{total:,}" if total else f"{step:,}")]
    items.append(("epoch", number(progress.get("epoch"))))
    for split in ("train", "val"):
        items += [
            (f"{split} {label} [nats]", number(metrics[f"{split}/{name}"]))
            for name, label in SHOWN
            if f"{split}/{name}" in metrics
        ]
    items.append(("images/s", whole(progress.get("images_per_second"))))
    items.append(("left [h:mm:ss]", duration(progress.get("seconds_left"))))
    return items


def outcome(result: Mapping[str, Any]) -> list[str]:
    """Return the final metrics, a line each."""
    return summary(result.get("metrics") or {})
