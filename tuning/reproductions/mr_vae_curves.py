"""Multi-Rate VAE: rate-distortion curves, and how a point of one is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tuning.reproductions.changes import BRIEFLY, mlp, recipe
from tuning.reproductions.claims import Cell, Claim, Every, Less, Ratio
from tuning.reproductions.entry import Choice, Column, Reproduction, Scale, Setup
from tuning.reproductions.readings import Computed, Duration, Logged, Reading
from tuning.searches.mr_vae import rates
from vae_models.config.train import TrainConfig
from vae_models.measures import of_beta

TEN = tuple(float(f"{0.01 * 1000 ** (i / 9):.4g}") for i in range(10))  # beta of C.2, log-spaced in [0.01, 10]
FEW = (0.01, 0.1, 1.0, 10.0)
Terms = tuple[Logged, Logged]


def terms(run: str, beta: float | None = None) -> Terms:
    """Return (rate, distortion) of the test split; beta: of a multi-rate run, None of a run of one beta."""
    at = "test" if beta is None else f"test/{of_beta(beta)}"
    return Logged(run=run, metric=f"{at}/rate"), Logged(run=run, metric=f"{at}/distortion")


def mean(*values: float) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def objective(beta: float, of: Terms) -> Reading:
    """Return distortion + beta x rate, what training at beta minimises."""
    return Computed(of=of, function=partial(_objective, beta))


def _objective(beta: float, rate: float, distortion: float) -> float:
    return distortion + beta * rate


def chosen_rates(configs: Mapping[str, TrainConfig]) -> dict[str, Choice]:
    """Return the paper's choice of each learning rate: seven, three seeds, by the validation ELBO at beta = 1."""
    return {name: Choice(base=config, stage=rates()) for name, config in configs.items()}


# --- rate-distortion curves -------------------------------------------------------------------------------------------

SYSTEMS = {"separate": "β-VAEs", "multi": "MR-VAE", "longer": "MR-VAE, three times the epochs"}


def _curves(scale: Scale) -> Setup:
    betas = TEN if scale == "paper" else FEW
    small = {**BRIEFLY, "model.backbone": mlp(400, 400), "optimizer.lr": 0.003, "epochs": 3}
    changes: dict[str, Any] = small if scale == "small" else {}
    base = recipe("binarized-mnist/beta-vae-cnn", changes)
    multi = recipe("binarized-mnist/mr-vae-cnn", {**changes, "evaluation.betas": betas})
    longer = recipe(
        "binarized-mnist/mr-vae-cnn", {**changes, "evaluation.betas": betas, "epochs": 3 * (multi.epochs or 0.0)}
    )
    separate = {
        f"beta-{beta:g}": recipe("binarized-mnist/beta-vae-cnn", {**changes, "beta.value": beta}) for beta in betas
    }
    cells: dict[Cell, Reading] = {("time", "separate-objective"): Duration(of=tuple(separate))}
    cells |= {("time", f"{run}-objective"): Duration(of=(run,)) for run in ("multi", "longer")}
    for beta in betas:
        of = {"separate": terms(f"beta-{beta:g}"), **{run: terms(run, beta) for run in ("multi", "longer")}}
        for system, (rate, distortion) in of.items():
            row = f"beta-{beta:g}"
            cells |= {(row, f"{system}-rate"): rate, (row, f"{system}-distortion"): distortion}
            cells[row, f"{system}-objective"] = objective(beta, (rate, distortion))
    paper = scale == "paper"
    return Setup(
        rows={**{f"beta-{beta:g}": f"β = {beta:g}" for beta in betas}, "time": "training [s]"},
        runs={**separate, "multi": multi, "longer": longer},
        cells=cells,
        claims=tuple(_curve_claims([f"beta-{beta:g}" for beta in betas])),
        seeds=3 if paper else 2,
        choices=chosen_rates({"β-VAE": base, "MR-VAE": multi}) if paper else {},
        chosen_for={**dict.fromkeys(separate, "β-VAE"), "multi": "MR-VAE", "longer": "MR-VAE"} if paper else {},
        drawings=("tuning.reproductions.pictures:rate_distortion",),
        differs=()
        if paper
        else (
            "fully connected nets of 400 and 400 in place of the CNN",
            "3 epochs in place of 200",
            "four β in place of ten",
            "the first 2,000 test images",
            "learning rate 0.003 for both, which of 0.01, 0.003 and 0.001 was best at β = 1",
        ),
    )  # fmt: skip


def _curve_claims(rows: Sequence[str]) -> list[Claim]:
    place = "main text, of which the appendix has the experiment (C.2)"
    claims: list[Claim] = []
    for system, most in (("multi", 1.02), ("longer", 1.0)):
        claims += [
            Every(
                text=f"{SYSTEMS[system]}: distortion + β × rate at every β is "
                + ("within 2 % of a separate β-VAE's, or below it" if most > 1 else "below a separate β-VAE's"),
                place=place,
                claims=tuple(
                    Ratio(
                        text=row, place=place, over=(row, f"{system}-objective"), under=(row, "separate-objective"),
                        at_most=most,
                    )
                    for row in rows
                ),
            ),
            Less(
                text=f"{SYSTEMS[system]}: −ELBO (β = 1) is below a separate β-VAE's [nats]",
                place=place, low=("beta-1", f"{system}-objective"), high=("beta-1", "separate-objective"),
            ),
            Less(
                text=f"{SYSTEMS[system]}: trained in less time than all the β-VAEs [s]",
                place="B.3", low=("time", f"{system}-objective"), high=("time", "separate-objective"),
            ),
        ]  # fmt: skip
    return claims


CURVES = Reproduction(
    name="mr-vae/rate-distortion",
    summary="One multi-rate run for the whole rate-distortion curve, beside a β-VAE for each β. Binarized MNIST.",
    columns=tuple(
        Column(name=f"{system}-{what}", heading=f"{heading}: {words} [nats]")
        for system, heading in SYSTEMS.items()
        for what, words in (("rate", "rate"), ("distortion", "distortion"), ("objective", "distortion + β rate"))
    ),
    notes=(
        "Test split, nats per datum. The paper's curves are in its main text, which has no numbers of them in the text "
        "at hand: its claims are judged, not values.",
    ),
    build=_curves,
)

REPRODUCTIONS = (CURVES,)
