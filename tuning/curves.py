"""The results of a stage as a picture: the metric over the searched paths, rate and distortion, parallel axes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tuning.study import Outcome, StageConfig, Trial
from vae_models.evaluation.pictures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write(stage: StageConfig, trials: Sequence[Trial], outcomes: Mapping[int, Outcome], path: Path) -> None:
    """Write a PNG: one panel for each path of numbers, every trial a point, the mean over seeds a line with its spread
    where one path alone was searched; rate against distortion [nats per datum] with the Pareto front where they were
    measured; parallel axes where several paths were searched. Write nothing where nothing was measured.
    """
    done = [(trial, outcomes[trial.number]) for trial in trials if trial.number in outcomes]
    measured = [(trial, outcome) for trial, outcome in done if outcome.value is not None]
    paths = [name for name in stage.space if all(_is_number(t.assignment[name]) for t, _ in measured)]
    planes = [
        (trial, outcome) for trial, outcome in measured if {"val/rate", "val/distortion"} <= outcome.metrics.keys()
    ]
    several = len(stage.space) > 1
    panels = len(paths) + bool(planes) + several
    if not measured or not panels:
        return
    width, height = style.PANEL_INCHES

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, panels, squeeze=False)[0]
        for axis, name in zip(axes, paths, strict=False):
            _metric(axis, name, measured, stage, line=len(stage.space) == 1)
        if planes:
            _plane(axes[len(paths)], planes)
        if several:
            _parallel(axes[-1], measured, stage)

    style.write_png(path, draw, (width * panels, height))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Rate and distortion over beta. points: beta -> (rate, distortion) [nats per datum] of each seed; continuous: of
    one model that was evaluated at every beta, not of one model for each."""

    name: str
    points: Mapping[float, Sequence[tuple[float, float]]]
    continuous: bool


def curve(name: str, runs: Iterable[tuple[Mapping[str, Any], Mapping[str, float]]]) -> Curve | None:
    """Return the rate-distortion curve of trials that belong together; runs: their (assignment, metrics).

    Return None where neither their gates nor `beta.value` says which beta their rates belong to.
    """
    points: dict[float, list[tuple[float, float]]] = {}
    continuous = False
    for assignment, metrics in runs:
        gated = [gates for gates in map(_GATED.fullmatch, metrics) if gates]
        continuous = continuous or bool(gated)
        if gated:
            at = {float(gates[1]): f"val/beta_{gates[1]}" for gates in gated}
        else:
            at = {float(assignment["beta.value"]): "val"} if "beta.value" in assignment else {}
        for beta, prefix in at.items():
            pair = (metrics.get(f"{prefix}/rate", math.nan), metrics.get(f"{prefix}/distortion", math.nan))
            if all(map(math.isfinite, pair)):
                points.setdefault(beta, []).append(pair)
    return Curve(name=name, points=dict(sorted(points.items())), continuous=continuous) if points else None


_GATED = re.compile(r"val/beta_([^/]+)/rate")


def compare(curves: Sequence[Curve], path: Path) -> None:
    """Write a PNG: rate against distortion, and the ELBO over beta. A model for each beta gives points with the spread
    over seeds; one model that was trained for all of them gives a line through its means, with its spread as a band.
    """
    style.write_png(path, lambda figure: _compare(figure, curves), (9.0, 3.8))


def _compare(figure: Figure, curves: Sequence[Curve]) -> None:
    plane, elbo = figure.subplots(1, 2)
    for number, curve in enumerate(curves):
        color = f"C{number}"
        betas = list(curve.points)
        means = [(fmean(rate for rate, _ in points), fmean(d for _, d in points)) for points in curve.points.values()]
        elbos = [[-rate - distortion for rate, distortion in points] for points in curve.points.values()]
        middle = [fmean(points) for points in elbos]
        low, high = [min(points) for points in elbos], [max(points) for points in elbos]
        if curve.continuous:
            plane.plot(*zip(*means, strict=True), "-", color=color, label=curve.name)
            elbo.plot(betas, middle, "-", color=color, label=curve.name)
            elbo.fill_between(betas, low, high, color=color, alpha=0.2, lw=0)
        else:
            every = [pair for points in curve.points.values() for pair in points]
            plane.plot(*zip(*every, strict=True), "o", ms=4, alpha=0.7, color=color, label=curve.name)
            below = [mean - least for mean, least in zip(middle, low, strict=True)]
            above = [most - mean for mean, most in zip(middle, high, strict=True)]
            elbo.errorbar(betas, middle, [below, above], fmt="o", ms=4, capsize=2, color=color, label=curve.name)
    plane.set_xlabel("rate [nats per datum]")
    plane.set_ylabel("distortion [nats per datum]")
    elbo.set_xlabel("beta")
    elbo.set_ylabel("ELBO [nats per datum]")
    elbo.set_xscale("log")
    for axis in (plane, elbo):
        axis.legend()


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
    axis.scatter(rates, distortions, c=[trial.candidate for trial, _ in planes], cmap=style.SEQUENTIAL, s=14)
    front = pareto(list(zip(rates, distortions, strict=True)))
    axis.plot(*zip(*front, strict=True), "-", lw=1, color="grey", label="Pareto front", zorder=0)
    axis.legend()
    axis.set_xlabel("rate [nats per datum]")
    axis.set_ylabel("distortion [nats per datum]")


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the Pareto front, by the first coordinate; smaller is better.

    No other point beats one of it in one coordinate without being worse in the other.
    """
    front: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def _parallel(axis: Axes, measured: Sequence[tuple[Trial, Outcome]], stage: StageConfig) -> None:
    """Draw a line for each trial over one axis for each path and one for the metric; the best trials come last."""
    from matplotlib import colormaps

    best_last = sorted(measured, key=lambda pair: stage.goal.score(pair[1].value))
    names = [*stage.space, stage.metric]
    columns = [_places([trial.assignment[name] for trial, _ in best_last]) for name in stage.space]
    columns.append(_places([outcome.value for _, outcome in best_last]))
    for place, heights in enumerate(zip(*columns, strict=True)):
        shade = place / max(1, len(best_last) - 1)
        axis.plot(
            range(len(names)),
            heights,
            lw=0.6 + shade,
            alpha=0.3 + 0.7 * shade,
            color=colormaps[style.SEQUENTIAL](shade),
        )
    for at, name in enumerate(names):
        values = (
            [t.assignment[name] for t, _ in best_last] if at < len(stage.space) else [o.value for _, o in best_last]
        )
        for height, text in _ends(values):
            axis.annotate(text, (at, height), fontsize=7, ha="center", va="bottom" if height else "top")
        axis.axvline(at, color="black", lw=0.5)
    axis.set_xticks(range(len(names)), [name.rpartition(".")[2] for name in names])
    axis.set_yticks([])
    axis.margins(y=0.1)


def _places(values: Sequence[object]) -> list[float]:
    """Return heights in [0, 1]: of numbers by size (by the logarithm where they span more than 20),
    of others by order.
    """
    if not all(_is_number(value) for value in values):
        known = list(dict.fromkeys(map(repr, values)))
        return [known.index(repr(value)) / max(1, len(known) - 1) for value in values]
    numbers = [float(value) for value in values]  # type: ignore[arg-type]
    if min(numbers) > 0 and max(numbers) / min(numbers) > 20:
        numbers = [math.log(number) for number in numbers]
    low, high = min(numbers), max(numbers)
    return [(number - low) / (high - low) if high > low else 0.5 for number in numbers]


def _ends(values: Sequence[object]) -> list[tuple[float, str]]:
    """Return (height, text) of the axis's lowest and highest value."""
    places = _places(values)
    ends = {}
    for place, value in zip(places, values, strict=True):
        if place in (0.0, 1.0):
            kind = value.get("kind", "") if isinstance(value, Mapping) else value
            ends[place] = f"{kind:.4g}" if isinstance(kind, float) else str(kind)
    return list(ends.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
