"""Pictures of reproductions: functions of their results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuning.reproductions.claims import Cell
from tuning.reproductions.results import Results
from vae_models.evaluation.findings import Picture
from vae_models.evaluation.pictures.style import plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = ("o-", "s--", "^:", "D-.", "v-", "P--", "X:")


def _medians(results: Results, cells: Sequence[Cell]) -> list[float]:
    """Return the median over the seeds of each cell that is there."""
    return [statistics.median(results.cells[cell]) for cell in cells if cell in results.cells]


def rate_distortion(results: Results) -> Picture:
    """Return a curve for each system that has the columns SYSTEM-rate and SYSTEM-distortion."""
    names = [column.name for column in results.entry.columns]
    systems = [name.removesuffix("-rate") for name in names if name.endswith("-rate")]

    def draw(axes: Axes) -> None:
        for mark, system in zip(MARKS, systems, strict=False):
            rows = [row for row in results.setup.rows if (row, f"{system}-rate") in results.cells]
            curve = [_medians(results, [(row, f"{system}-{what}") for row in rows]) for what in ("rate", "distortion")]
            axes.plot(*curve, mark, label=_heading(results, f"{system}-rate"))
        axes.set_xlabel("rate [nats per datum]")
        axes.set_ylabel("distortion [nats per datum]")
        axes.legend()

    return plot("rate-distortion", draw, caption="Rate against distortion, test split, medians over seeds")


def ablations(results: Results) -> Picture:
    """Return a curve for each row that has cells rate-BETA and distortion-BETA."""

    def draw(axes: Axes) -> None:
        for mark, (row, heading) in zip(MARKS, results.setup.rows.items(), strict=False):
            at = [column.removeprefix("rate-") for of, column in results.cells if of == row and "rate-" in column[:5]]
            curve = [_medians(results, [(row, f"{what}-{beta}") for beta in at]) for what in ("rate", "distortion")]
            axes.plot(*curve, mark, label=heading)
        axes.set_xlabel("rate [nats per datum]")
        axes.set_ylabel("distortion [nats per datum]")
        axes.legend()

    return plot("ablations", draw, caption="Rate against distortion, test split, medians over seeds", inches=(6, 4.2))


def _heading(results: Results, name: str) -> str:
    return next(column.heading for column in results.entry.columns if column.name == name).partition(":")[0]
