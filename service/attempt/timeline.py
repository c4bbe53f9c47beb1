"""Where the seconds go from submission to the first step: moments of an attempt, in the order in which they come."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

# moment -> what was waited for until then, since the one before it
STAGES = {
    "admitted": "queue: until admitted",
    "submitted": "dispatcher: until Ray has it",
    "claimed": "Ray job: until its runner claims",
    "driver_started": "runner: until its driver runs",
    "ray_joined": "driver: until it joined the cluster",
    "placed": "gang: until there is room for it",
    "workers_ready": "gang: until its processes have their imports",
    "worker_started": "gang: until it is joined and begins to work",
    "data_ready": "worker: until it has the data",
    "first_progress": "worker: model, checkpoint; the first step",
}
TOTAL = "submit to first step"


def seconds(submitted: float, moments: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds [s] of every stage whose moment is known, by its description, and last the whole.

    submitted, moments: seconds since 1970, of clocks that agree
    """
    marks = [("", submitted), *((STAGES[name], moments[name]) for name in STAGES if name in moments)]
    spans = {name: at - before for (_, before), (name, at) in itertools.pairwise(marks)}
    return spans | ({TOTAL: moments["first_progress"] - submitted} if "first_progress" in moments else {})


def line(submitted: float, moments: Mapping[str, float]) -> str:
    """Return the stages as one line of an attempt's log; a stage that is not known is part of the next one."""
    return "; ".join(f"{name} {span:.1f} s" for name, span in seconds(submitted, moments).items())
