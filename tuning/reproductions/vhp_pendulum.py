"""Learning hierarchical priors: figures 10 to 16, the pendulum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tuning.reproductions.changes import BRIEFLY, recipe
from tuning.reproductions.claims import Below, Cell, Claim, Less, Lowest
from tuning.reproductions.entry import Column, Reproduction, Scale, Setup
from tuning.reproductions.readings import Computed, Evaluated, Logged, Reading
from tuning.reproductions.vhp import SYSTEMS, root
from vae_models.evaluation.specs import EvaluationPlan

# With nu = 5 and kappa = 0.02 beta needs ln(1000) / (nu kappa^2) = 3,450 steps or more from its start, 1e-3, to 1.
STEPS, BATCH = 6_000, 32  # of the small scale
ANGLES = {"ols": "angle_ols_error", "neighbour": "angle_neighbour_error", "off": "angle_off_circle"}


def _pendulum(systems: Sequence[str], claims: tuple[Claim, ...], scale: Scale) -> Setup:
    changes: dict[str, Any] = {} if scale == "paper" else {**BRIEFLY, "steps": STEPS, "batch_size": BATCH}
    runs = {system: recipe(f"pendulum/{system}", changes) for system in systems}
    cells: dict[Cell, Reading] = {}
    for row in runs:
        cells |= {(row, column): Evaluated(run=row, value=value) for column, value in ANGLES.items()}
        cells |= {
            (row, "rate"): Logged(run=row, metric="test/rate"),
            (row, "rmse"): Computed(of=(Logged(run=row, metric="test/squared_error"),), function=root),
            (row, "beta"): Logged(run=row, metric="train/beta"),
        }
    return Setup(
        rows={system: SYSTEMS[system] for system in systems},
        runs=runs,
        cells=cells,
        claims=claims,
        seeds=3 if scale == "paper" else 2,
        plan=EvaluationPlan.model_validate({"evaluators": [{"kind": "angle"}]}),
        shown=("angle",),
        differs=() if scale == "paper" else (f"{STEPS:,} steps of {BATCH}",),
    )


def _informative(better: str, worse: str, text: str, place: str) -> Claim:
    return Less(text=text, place=place, low=(better, "ols"), high=(worse, "ols"))


def _of_pendulum(figure: int, summary: str, systems: Sequence[str], claims: tuple[Claim, ...]) -> Reproduction:
    return Reproduction(
        name=f"vhp/figure-{figure}",
        summary=summary,
        columns=(
            Column(name="ols", heading="OLS error (B.3) [rad]"),
            Column(name="neighbour", heading="nearest neighbour's angle [rad]"),
            Column(name="off", heading="off the circle"),
            Column(name="rate", heading="rate [nats]"),
            Column(name="rmse", heading="root squared error"),
            Column(name="beta", heading="β at the end"),
        ),
        notes=(
            "The figures are scatter plots: how well a latent tells the angle is judged by the error of B.3's OLS. The "
            "paper's pictures are not published, ours are rendered by rule; its likelihood's σ is open, ours is 1.",
        ),
        build=partial(_pendulum, systems, claims),
    )


def _less_informative(figure: int, worse: str, what: str, section: str) -> tuple[Claim, ...]:
    place = f"appendix {section}, figure {figure}"
    text = f"{what}: the latent is less informative than REWO's (OLS error [rad])"
    return (_informative("vhp-rewo", worse, text, place),)


_B1, _B2, _B3 = "appendix B.1, figure 10", "appendix B.2, figure 12", "appendix B.3, figure 14"
REPRODUCTIONS = (
    _of_pendulum(
        10, "The alternative update of β beside REWO's. Pendulum.", ("vhp-rewo", "vhp-rewo-alternative"),
        (
            _informative("vhp-rewo", "vhp-rewo-alternative", "Eq 11 gives better results than eqs 14-15 (OLS)", _B1),
            Below(text="Eqs 14-15 keep β below 1", place=_B1, cell=("vhp-rewo-alternative", "beta"), value=1.0),
        ),
    ),
    _of_pendulum(
        11, "No control of β. Pendulum.", ("vhp-rewo", "vhp"), _less_informative(11, "vhp", "β = 1", "B.2")
    ),
    _of_pendulum(
        12, "KL warm-up over 20 epochs. Pendulum.", ("vhp-rewo", "vhp-warmup-20"),
        (
            *_less_informative(12, "vhp-warmup-20", "Warm-up over 20 epochs", "B.2"),
            Less(
                text="Warm-up over 20 epochs over-regularises: less rate than REWO [nats]",
                place=_B2, low=("vhp-warmup-20", "rate"), high=("vhp-rewo", "rate"),
            ),
        ),
    ),
    _of_pendulum(
        13, "KL warm-up over 200 epochs. Pendulum.", ("vhp-rewo", "vhp-warmup-200"),
        _less_informative(13, "vhp-warmup-200", "Warm-up over 200 epochs", "B.2"),
    ),
    _of_pendulum(
        14, "OLS regression of the latents of REWO, GECO and warm-up on the angle. Pendulum.",
        ("vhp-rewo", "vhp-geco", "vhp-warmup-20"),
        (
            Lowest(
                text="REWO's OLS error is the smallest of the three [rad]",
                place=_B3, cell=("vhp-rewo", "ols"), others=(("vhp-geco", "ols"), ("vhp-warmup-20", "ols")),
            ),
        ),
    ),
    _of_pendulum(
        15, "The plain ELBO in the second stochastic layer. Pendulum.", ("vhp-rewo", "vhp-rewo-plain"),
        _less_informative(15, "vhp-rewo-plain", "The plain ELBO inside leads to poor representations", "B.4"),
    ),
    _of_pendulum(
        16, "Latents of VHP + REWO, VHP + GECO and IWAE. Pendulum.", ("vhp-rewo", "vhp-geco", "iwae"),
        _less_informative(16, "iwae", "IWAE", "B.5"),
    ),
)  # fmt: skip
