"""What moved while a run trained: log sigma and beta, and the two terms of the bound that they weigh."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from vae_models.evaluation.findings import Picture
from vae_models.evaluation.pictures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = Sequence[tuple[int, float]]  # (step, value)
PANELS: Mapping[str, Mapping[str, str]] = {  # label of the axis, with its unit -> metric -> label of the line
    "log σ [log of units of x]": {"train/log_sigma": "log σ"},
    "β [1]": {"train/beta": "β"},
    "distortion, rate [nats per datum]": {"val/distortion": "distortion", "val/rate": "rate"},
}
MOVES = ("train/log_sigma", "train/beta")  # without one of them that changes there is nothing to show
FEW = 20  # points of a line: up to so many are marked, and one alone is seen
WIDE = 20.0  # from here on, largest over smallest, an axis is logarithmic


def histories(history: Mapping[str, Series]) -> tuple[Picture, ...]:
    """Return log sigma, beta, rate and distortion over the steps, those that are known; nothing where neither of the
    first two has moved. history: as a run logged it, by metric.
    """
    known = {metric: series for metric, series in history.items() if series}
    if not any(len({value for _, value in known.get(metric, ())}) > 1 for metric in MOVES):
        return ()
    panels: list[Callable[[Axes], None]] = []
    for label, metrics in PANELS.items():
        lines = {name: known[metric] for metric, name in metrics.items() if metric in known}
        if lines:
            panels.append(partial(_panel, lines, label))
    caption = "Over training: log sigma and beta of the training batches, rate and distortion of the validation split."
    return (style.panels("history", panels, caption=caption),)


def _panel(lines: Mapping[str, Series], label: str, axes: Axes) -> None:
    for name, series in lines.items():
        axes.plot(*zip(*series, strict=True), marker="o" if len(series) <= FEW else None, label=name)
    values = [value for series in lines.values() for _, value in series]
    if min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_yscale("log")
    axes.set_xlabel("step [1]")
    axes.set_ylabel(label)
    if len(lines) > 1:
        axes.legend()
