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


def log_sigma(results: Results) -> Picture:
    """Return ln sigma over the epochs of the first seed's fitted runs, and of variances fixed by beta (sigma-VAE)."""

    def draw(axes: Axes) -> None:
        for mark, (run, of) in zip(("-", "--"), list(results.trained[0].items())[:2], strict=False):
            logged = [metrics for _, metrics in of.history if metrics.get("train/log_sigma") is not None]
            points = [(metrics["epoch"], metrics["train/log_sigma"]) for metrics in logged]
            axes.plot(*zip(*points, strict=True), mark, label=results.setup.rows[run])
        for (row, column), values in results.cells.items():
            if column == "end" and row.startswith("beta-"):
                axes.axhline(values[0], color="grey", lw=0.8, ls=":")
                axes.annotate(row.replace("beta-", "β = "), (0.99, values[0]), xycoords=("axes fraction", "data"),
                              ha="right", va="bottom", fontsize=7)  # fmt: skip
        axes.set_xlabel("epoch")
        axes.set_ylabel("ln σ [units of x]")
        axes.legend()

    return plot("log-sigma", draw, caption="ln σ while training, seed 0; dotted: variances that β stands for")
