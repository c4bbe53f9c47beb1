"""What a stage has measured, as a picture: the metric over the value that was searched, rate against distortion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuning.study import Outcome, StageConfig, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write(stage: StageConfig, trials: Sequence[Trial], outcomes: Mapping[int, Outcome], path: Path) -> None:
    """A PNG: one panel for each path of numbers, every trial a point, the mean over seeds a line with its spread where
    one path alone was searched; and rate against distortion [nats per datum] where they were measured. Nothing where
    nothing was measured."""
    from matplotlib.figure import Figure

    done = [(trial, outcomes[trial.number]) for trial in trials if trial.number in outcomes]
    measured = [(trial, outcome) for trial, outcome in done if outcome.value is not None]
    paths = [name for name in stage.space if all(_is_number(t.assignment[name]) for t, _ in measured)]
    planes = [
        (trial, outcome) for trial, outcome in measured if {"val/rate", "val/distortion"} <= outcome.metrics.keys()
    ]
    panels = len(paths) + bool(planes)
    if not measured or not panels:
        return
    figure = Figure(figsize=(4.2 * panels, 3.4), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)
    for axis, name in zip(axes[0], paths, strict=False):
        _metric(axis, name, measured, stage, line=len(stage.space) == 1)
    if planes:
        _plane(axes[0][-1], planes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _metric(
    axis: Axes, name: str, measured: Sequence[tuple[Trial, Outcome]], stage: StageConfig, *, line: bool
) -> None:
    points: dict[float, list[float]] = {}
    for trial, outcome in measured:
        assert outcome.value is not None
        points.setdefault(float(trial.assignment[name]), []).append(outcome.value)
    xs = sorted(points)
    axis.plot([x for x in xs for _ in points[x]], [y for x in xs for y in points[x]], "o", ms=3, alpha=0.6)
    if line:
        axis.plot(xs, [sum(points[x]) / len(points[x]) for x in xs], "-", lw=1)
        axis.fill_between(xs, [min(points[x]) for x in xs], [max(points[x]) for x in xs], alpha=0.2, lw=0)
    if xs[0] > 0 and xs[-1] / xs[0] > 20:
        axis.set_xscale("log")
    axis.set_xlabel(name)
    axis.set_ylabel(stage.metric)


def _plane(axis: Axes, planes: Sequence[tuple[Trial, Outcome]]) -> None:
    rates = [outcome.metrics["val/rate"] for _, outcome in planes]
    distortions = [outcome.metrics["val/distortion"] for _, outcome in planes]
    axis.scatter(rates, distortions, c=[trial.candidate for trial, _ in planes], cmap="viridis", s=14)
    axis.set_xlabel("rate [nats per datum]")
    axis.set_ylabel("distortion [nats per datum]")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
