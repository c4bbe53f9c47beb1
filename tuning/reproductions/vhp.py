"""Learning hierarchical priors: what its systems are called, and figure 9, how beta moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from tuning.reproductions.claims import Above, Below, Cell, Claim, Every
from tuning.reproductions.entry import Column, Reproduction, Scale, Setup
from tuning.reproductions.readings import Computed, Reading

SYSTEMS = {
    "vhp-rewo": "VHP + REWO",
    "vhp-geco": "VHP + GECO",
    "vhp-rewo-alternative": "VHP + REWO, eqs 14-15",
    "vhp-rewo-plain": "VHP + REWO, plain ELBO inside",
    "vhp": "VHP, β = 1",
    "vhp-warmup-20": "VHP + warm-up, 20 epochs",
    "vhp-warmup-200": "VHP + warm-up, 200 epochs",
    "vampprior": "VampPrior",
    "iwae": "IWAE",
}


def root(value: float) -> float:
    """Return the square root."""
    return math.sqrt(value)


_BETAS = (0.25, 0.5, 1.0, 1.5)
_DELTAS = {"holds": -0.5, "violated": 0.5}


def _step(rule: str, beta: float, delta: float) -> float:
    from tuning.reproductions.measures import beta_step

    return beta_step(rule, beta, delta)


def _figure_9(scale: Scale) -> Setup:
    cells: dict[Cell, Reading] = {
        (f"{beta:g}", f"{rule}-{name}"): Computed(of=(), function=partial(_step, rule, beta, delta))
        for beta in _BETAS
        for rule in ("rewo", "geco")
        for name, delta in _DELTAS.items()
    }
    place = "appendix A, figure 9"
    low, high = [f"{beta:g}" for beta in _BETAS if beta < 1], [f"{beta:g}" for beta in _BETAS if beta > 1]
    rows = [f"{beta:g}" for beta in _BETAS]

    def every(text: str, claims: Sequence[Claim]) -> Claim:
        return Every(text=text, place=place, claims=tuple(claims))

    def above(row: str, column: str) -> Claim:
        return Above(text=row, place=place, cell=(row, column), value=0.0)

    def below(row: str, column: str) -> Claim:
        return Below(text=row, place=place, cell=(row, column), value=0.0)

    return Setup(
        rows={row: f"β = {row}" for row in rows},
        cells=cells,
        claims=(
            every(
                "REWO: while the constraint holds β goes to 1 from both sides",
                [*(above(row, "rewo-holds") for row in low), *(below(row, "rewo-holds") for row in high)],
            ),
            every(
                "GECO: while the constraint holds β rises on, also above 1",
                [above(row, "geco-holds") for row in rows],
            ),
            every(
                "Both: β falls while the constraint is violated",
                [below(row, f"{rule}-violated") for row in rows for rule in ("rewo", "geco")],
            ),
        ),
    )  # fmt: skip


FIGURE_9 = Reproduction(
    name="vhp/figure-9",
    summary="One step of β by REWO and by GECO, ν = 1 and τ = 3. Nothing is trained.",
    columns=tuple(
        Column(name=f"{rule}-{name}", heading=f"{rule.upper()}: Δβ at Ĉ − κ² = {delta:g}")
        for rule in ("rewo", "geco")
        for name, delta in _DELTAS.items()
    ),
    build=_figure_9,
)

REPRODUCTIONS = (FIGURE_9,)
