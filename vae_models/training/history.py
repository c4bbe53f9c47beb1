"""What a run in a folder logged while it trained."""

from __future__ import annotations

import json
from pathlib import Path

from vae_models.training.context import METRICS


def read(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return (step, value) of each metric that `LocalContext` logged to the run's folder, in its order; nothing where
    there is no log. Values that were not finite are left out, and so is a last line that was not written to its end.
    """
    history: dict[str, list[tuple[int, float]]] = {}
    try:
        lines = (run / METRICS).read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return history
    for line in lines:
        if not line.endswith("\n"):
            break
        row = json.loads(line)
        for name, value in row["metrics"].items():
            if value is not None:
                history.setdefault(name, []).append((int(row["step"]), float(value)))
    return history
