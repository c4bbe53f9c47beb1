"""Batches one after another, with progress on stderr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

BATCH = 256  # data, or samples, between two looks at the clock; results do not depend on it


def in_batches(
    function: Callable[[int, int], Mapping[str, Any]], total: int, *, what: str, unit: str = "data", size: int = BATCH
) -> dict[str, Any]:
    """Return what `function` makes of (start, end), an array with a row for each, by name: [total, ...].

    what, unit: of the progress that is shown from the second second on: `encoding 12,800 of 70,000 data  0:00:04 left`
    """
    import numpy as np

    from service.cli.data import steps
    from vae_models.data.ingest.meter import Meter

    made: list[Mapping[str, Any]] = []
    with steps() as show:
        meter = Meter(what, total, unit, show)
        for start in range(0, total, size):
            end = min(start + size, total)
            made.append({name: np.asarray(values) for name, values in function(start, end).items()})
            meter.at(end)
    return {name: np.concatenate([rows[name] for rows in made]) for name in made[0]}
