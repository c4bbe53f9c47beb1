"""Originals over their reconstructions, and, of a multi-rate model, reconstructions over beta."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_models.evaluation.averages import finite
from vae_models.evaluation.findings import Picture
from vae_models.evaluation.pictures import shown
from vae_models.evaluation.subject import Rows, Subject


def reconstructions(subject: Subject, *, columns: int, rows: int) -> Picture:
    """Return rows of originals x, each over its row of E[x|z], z ~ q(z|x)."""
    x, mean = means(subject, columns * rows, None)
    count = len(x) // min(columns, len(x))
    pairs = [half for start in range(count) for half in _row((x, mean), start, min(columns, len(x)))]
    return shown.rows(
        "reconstructions", subject.config, pairs, ["x", "E[x|z]"] * count, group=2, column_name="datum",
        caption="Originals x over their reconstructions E[x|z], z ~ q(z|x).",
    )  # fmt: skip


def over_betas(subject: Subject, *, columns: int, betas: int) -> Picture:
    """Return originals over the reconstructions at each beta of the plan, else at so many over the model's range."""
    asked = subject.plan.betas or _spread(subject, betas)
    made = [means(subject, columns, beta) for beta in asked]
    labels = ["x", *(f"β = {beta:.3g}" for beta in asked)]
    return shown.rows(
        "reconstructions-beta", subject.config, [made[0][0], *(mean for _, mean in made)], labels, column_name="datum",
        caption="Originals x over E[x|z], z ~ q(z|x) from the same noise, of a multi-rate model at each beta.",
    )  # fmt: skip


def means(subject: Subject, count: int, beta: float | None) -> tuple[Tensor, Tensor]:
    """Return x and E[x|z], z ~ q(z|x), of the first `count` data, each [count, *data], on the CPU.

    Raise NotFinite where a reconstruction is not.
    """
    gates = subject.gates(beta)

    def reconstruct(rows: Rows) -> dict[str, Tensor]:
        trace = subject.model(rows.x, rows.noise, gates, rows.mask)
        return {"x": trace.target, "mean": trace.mean}

    made = subject.map(
        reconstruct, what="reconstructions", noise=subject.model.noise(), stream="reconstruction", first=count
    )
    finite("E[x|z]", made["mean"])
    return made["x"], made["mean"]


def _row(both: tuple[Tensor, Tensor], row: int, columns: int) -> tuple[Tensor, Tensor]:
    x, mean = (each[row * columns : (row + 1) * columns] for each in both)
    return x, mean


def _spread(subject: Subject, count: int) -> list[float]:
    """Return values of beta over the model's range, their logarithms at equal distances."""
    reads = subject.config.model.beta_range()
    assert reads is not None, "asked of multi-rate models alone"
    low, high = (math.log(value) for value in reads)
    inside = torch.linspace(low, high, count, dtype=torch.float64)[1:-1].exp().tolist()
    return [reads[0], *inside, reads[1]]
