"""AR-ELBO, section 4.2, appendices D and E: what a fixed variance decides. MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuning.reproductions.changes import BRIEFLY, mlp, recipe
from tuning.reproductions.claims import Above, Below, Cell, Claim, Every, Rising
from tuning.reproductions.entry import Column, Reproduction, Scale, Setup
from tuning.reproductions.readings import Computed, Evaluated, Logged, Reading
from vae_models.config.train import TrainConfig
from vae_models.evaluation.specs import EvaluationPlan

PIXELS, LATENT = 784, 8
SMALL: Mapping[str, Any] = {**BRIEFLY, "model.backbone": mlp(400, 400), "batch_size": 128, "epochs": 2}
SMALLER = ("fully connected nets of 400 and 400 in place of convolutions", "batches of 128")
# sigma_z is one number that Adam moves by its learning rate a step at most: it has to be able to get there
MOBILE: Mapping[str, Any] = {**SMALL, "optimizer.lr": 0.003}
STARTED: Mapping[str, Any] = {**MOBILE, "model.posterior.sigma": 0.3}
OF_SECTION_4 = (
    "2 epochs in place of 200",
    "learning rate 0.003",
    "2,000 test images in place of the training set",
    "gaps and ELS of 300 images",
)


def _square(value: float) -> float:
    return value * value


def _plan(scale: Scale, *kinds: str) -> EvaluationPlan:
    """Return the evaluation of D.1: on the training split, 10,000 at a time; small: on 2,000 test images."""
    paper = scale == "paper"
    sizes = {"mutual-information": 10_000 if paper else 2_000, "smoothness": 10_000 if paper else 300}
    evaluators = [{"kind": kind, **({"data": sizes[kind]} if kind in sizes else {})} for kind in kinds]
    split, limit = ("train", 10_000) if paper else ("test", 2_000)
    return EvaluationPlan.model_validate({"evaluators": evaluators, "split": split, "limit": limit})


def _criteria(row: str, run: str, where: str, prefix: str = "") -> dict[Cell, Reading]:
    """Return MSE, gaps and ELS of a run, in columns that begin with `prefix`.

    The table's ELS is eq 6 divided by the latent dimensions, as C.7 has it and its own gaps tell (C.8).
    """
    return {
        (row, f"{prefix}mse"): Logged(run=run, metric=f"{where}/squared_error", factor=PIXELS),
        (row, f"{prefix}gap-2"): Evaluated(run=run, value="expected_gap_0.01"),
        (row, f"{prefix}gap-3"): Evaluated(run=run, value="expected_gap_0.001"),
        (row, f"{prefix}els"): Evaluated(run=run, value="els", factor=1 / LATENT),
    }


# --- table 1 ----------------------------------------------------------------------------------------------------------

# log10 sigma_x^2 -> stochastic: MSE, KL, sigma_z^2, MI, gap 1e-2, gap 1e-3, ELS; deterministic: MSE, gaps, ELS
_TABLE_1 = {
    0.0: (52.74, 0.00, 1.00, 0.03, 6.31e-5, 6.35e-6, 3.97e-4, 5.95, 74.6, 25.3, 743),
    -0.1: (18.03, 9.39, 9.56e-2, 9.7, 1.05, 0.108, 6.76, 5.69, 69.1, 22.5, 682),
    -0.2: (15.15, 10.93, 6.48e-2, 12.5, 1.30, 0.135, 8.34, 5.38, 63.4, 20.7, 637),
    -0.3: (13.08, 12.54, 4.36e-2, 16.0, 1.51, 0.157, 9.72, 5.37, 58.1, 17.9, 578),
    -0.4: (11.38, 14.13, 3.01e-2, 20.6, 1.77, 0.184, 11.4, 5.31, 58.2, 15.5, 540),
    -0.5: (10.18, 15.30, 2.14e-2, 26.3, 1.99, 0.208, 12.8, 5.26, 53.1, 12.9, 474),
    -0.6: (9.16, 16.72, 1.55e-2, 33.2, 2.16, 0.227, 14.0, 5.14, 48.9, 11.8, 442),
    -0.7: (8.25, 18.05, 1.11e-2, 42.3, 2.31, 0.244, 15.0, 5.17, 45.5, 10.1, 398),
    -0.8: (7.72, 19.27, 8.21e-3, 52.9, 2.40, 0.254, 15.6, 5.06, 43.2, 9.15, 371),
    -0.9: (7.13, 20.55, 5.97e-3, 64.9, 2.43, 0.257, 15.8, 4.98, 39.2, 7.83, 329),
    -1.0: (6.70, 21.75, 4.45e-3, 82.3, 2.57, 0.272, 16.7, 5.01, 35.3, 6.61, 289),
}
_STOCHASTIC = ("mse", "kl", "sz2", "mi", "gap-2", "gap-3", "els")
_DETERMINISTIC = ("det-mse", "det-gap-2", "det-gap-3", "det-els")
_HEADINGS = {
    "mse": "MSE", "kl": "KL [nats]", "sz2": "σ_z²", "mi": "MI [nats]", "gap-2": "gap, 1e-2", "gap-3": "gap, 1e-3",
    "els": "ELS",
}  # fmt: skip


def _row(log10: float) -> str:
    return f"{log10:+.1f}"


def _table_1(scale: Scale) -> Setup:
    paper = scale == "paper"
    logs = tuple(_TABLE_1) if paper else (0.0, -0.4, -0.7, -1.0)
    where = "train_eval" if paper else "test"
    runs: dict[str, TrainConfig] = {}
    cells: dict[Cell, Reading] = {}
    plans: dict[str, EvaluationPlan] = {}
    for log10 in logs:
        row, sigma = _row(log10), {"model.likelihood.sigma": 10 ** (log10 / 2)}
        own, det = f"stochastic{row}", f"deterministic{row}"
        runs[own] = recipe("mnist/fixed-variance", {**({} if paper else STARTED), **sigma})
        runs[det] = recipe("mnist/fixed-variance-deterministic", {**({} if paper else MOBILE), **sigma})
        plans[det] = _plan(scale, "smoothness")
        cells |= _criteria(row, own, where) | _criteria(row, det, where, "det-")
        cells |= {
            (row, "kl"): Logged(run=own, metric=f"{where}/rate"),
            (row, "sz2"): Computed(of=(Evaluated(run=own, value="posterior_std"),), function=_square),
            (row, "mi"): Evaluated(run=own, value="mi_ar_elbo"),
        }
    return Setup(
        rows={_row(log10): f"log10 σ_x² = {log10:g}" for log10 in logs},
        runs=runs,
        cells=cells,
        claims=_table_1_claims([_row(log10) for log10 in logs]),
        seeds=3 if paper else 2,
        plan=_plan(scale, "latent", "mutual-information", "smoothness"),
        plans=plans,
        differs=() if paper else (*SMALLER, *OF_SECTION_4, "σ_z starts at 0.3", "4 of the 11 variances"),
    )  # fmt: skip


def _table_1_claims(rows: list[str]) -> tuple[Claim, ...]:
    """rows: from the largest variance to the smallest."""
    place, up = "section 4.2, table 1", rows[::-1]

    def rising(text: str, column: str, along: list[str]) -> Claim:
        return Rising(text=text, place=place, along=tuple((row, column) for row in along))

    first = rows[0]
    return (
        rising("Stochastic encoding: a larger σ_x² gives a larger σ_z²", "sz2", up),
        rising("... and a smaller expected gap", "gap-2", rows),
        rising("... and a smaller ELS", "els", rows),
        rising("... and a smaller MI [nats]", "mi", rows),
        Every(
            text="σ_x² = 1: all criteria but the MSE are nearly zero (KL, MI below 0.1 nats, ELS below 0.1)",
            place=place,
            claims=tuple(
                Below(text=column, place=place, cell=(first, column), value=0.1) for column in ("kl", "mi", "els")
            ),
        ),
        rising("Deterministic encoding: ELS increases with σ_x²", "det-els", up),
    )


TABLE_1 = Reproduction(
    name="ar-elbo/table-1",
    summary="A fixed decoder variance decides about collapse and smoothness. MNIST.",
    columns=(
        *(Column(name=name, heading=_HEADINGS[name], digits=3) for name in _STOCHASTIC),
        *(
            Column(name=name, heading=f"deterministic: {_HEADINGS[name[4:]]}", digits=3)
            for name in _DETERMINISTIC
        ),
    ),
    paper={
        (_row(log10), column): value
        for log10, values in _TABLE_1.items()
        for column, value in zip((*_STOCHASTIC, *_DETERMINISTIC), values, strict=True)
    },
    notes=(
        "MI is (D.1) with d_z / 2 for its d_x / 2 and without the self term: with it no estimate from N data exceeds "
        "ln N. The paper's MI of deterministic encoding is left out: it does not say of what noise.",
    ),
    build=_table_1,
)  # fmt: skip

# --- table E.8 --------------------------------------------------------------------------------------------------------

# log10 sigma_z^2 -> MSE, KL, MI, gap 1e-2, gap 1e-3, ELS
_TABLE_E8 = {
    1.0: (52.74, 26.79, 8.0e-3, 6.20e-6, 6.15e-7, 3.81e-5), 0.9: (52.74, 19.48, 6.8e-3, 7.19e-6, 7.11e-7, 4.42e-5),
    0.8: (22.96, 134.83, 85, 2.03e-2, 2.03e-3, 0.127), 0.7: (20.50, 139.09, 100, 2.37e-2, 2.37e-3, 0.148),
    0.6: (19.30, 132.61, 120, 2.87e-2, 2.87e-3, 0.180), 0.5: (17.38, 132.05, 170, 3.44e-2, 3.44e-3, 0.216),
    0.4: (15.91, 128.96, 190, 3.94e-2, 3.94e-3, 0.247), 0.3: (14.63, 125.97, 230, 4.50e-2, 4.50e-3, 0.282),
    0.2: (13.50, 122.07, 280, 5.16e-2, 5.16e-3, 0.323), 0.1: (12.40, 118.89, 310, 5.83e-2, 5.81e-3, 0.367),
    0.0: (11.71, 112.50, 360, 6.79e-2, 6.80e-3, 0.426), -0.1: (10.97, 107.32, 400, 7.53e-2, 7.55e-3, 0.474),
    -0.2: (10.23, 103.87, 420, 8.69e-2, 8.70e-3, 0.546), -0.3: (9.63, 98.48, 460, 9.84e-2, 9.88e-3, 0.618),
    -0.4: (9.12, 93.86, 520, 0.112, 1.12e-2, 0.705), -0.5: (8.71, 88.35, 520, 0.125, 1.26e-2, 0.788),
    -0.6: (8.26, 83.68, 590, 0.142, 1.43e-2, 0.894), -0.7: (7.82, 79.70, 660, 0.162, 1.62e-2, 1.02),
    -0.8: (7.55, 74.75, 710, 0.180, 1.80e-2, 1.13), -0.9: (7.26, 70.63, 730, 0.204, 2.05e-2, 1.29),
    -1.0: (7.05, 66.14, 760, 0.228, 2.30e-2, 1.45),
}  # fmt: skip
_E8_COLUMNS = ("mse", "kl", "mi", "gap-2", "gap-3", "els")


def _table_e8(scale: Scale) -> Setup:
    paper = scale == "paper"
    logs = tuple(_TABLE_E8) if paper else (1.0, 0.5, 0.0, -0.5, -1.0)
    where = "train_eval" if paper else "test"
    runs: dict[str, TrainConfig] = {}
    cells: dict[Cell, Reading] = {}
    for log10 in logs:
        row = _row(log10)
        sigma = {"model.posterior.sigma": 10 ** (log10 / 2)}
        runs[row] = recipe("mnist/fixed-posterior-variance", {**({} if paper else MOBILE), **sigma})
        cells |= _criteria(row, row, where)
        cells |= {
            (row, "kl"): Logged(run=row, metric=f"{where}/rate"),
            (row, "mi"): Evaluated(run=row, value="mi_ar_elbo"),
        }
    return Setup(
        rows={_row(log10): f"log10 σ_z² = {log10:g}" for log10 in logs},
        runs=runs,
        cells=cells,
        claims=_table_e8_claims([_row(log10) for log10 in logs]),
        seeds=3 if paper else 2,
        plan=_plan(scale, "mutual-information", "smoothness"),
        differs=() if paper else (*SMALLER, *OF_SECTION_4, "5 of the 21 variances"),
    )  # fmt: skip


def _table_e8_claims(rows: list[str]) -> tuple[Claim, ...]:
    place, first = "appendix E, table E.8", rows[0]
    cells = {column: tuple((row, column) for row in rows) for column in _E8_COLUMNS}
    return (
        Rising(text="A larger σ_z² gives a smaller ELS", place=place, along=cells["els"]),
        Rising(text="A larger σ_z² gives a smaller expected gap", place=place, along=cells["gap-2"]),
        Rising(text="A larger σ_z² gives a smaller MI [nats]", place=place, along=cells["mi"]),
        Every(
            text="log10 σ_z² = 1: collapse of the information (MI below 0.1 nats) without collapse of the KL "
            "(over 10 nats)",
            place=place,
            claims=(
                Below(text="MI", place=place, cell=(first, "mi"), value=0.1),
                Above(text="KL", place=place, cell=(first, "kl"), value=10.0),
            ),
        ),
    )


TABLE_E8 = Reproduction(
    name="ar-elbo/table-e8",
    summary="A fixed posterior variance smooths the decoder; the KL does not show its collapse. MNIST.",
    columns=tuple(Column(name=name, heading=_HEADINGS[name], digits=3) for name in _E8_COLUMNS),
    paper={
        (_row(log10), column): value
        for log10, values in _TABLE_E8.items()
        for column, value in zip(_E8_COLUMNS, values, strict=True)
    },
    notes=("MI is that of table 1: (D.1) with d_z / 2 for its d_x / 2 and without the self term.",),
    build=_table_e8,
)

# --- figure D.4 -------------------------------------------------------------------------------------------------------


def _figure_d4(scale: Scale) -> Setup:
    paper = scale == "paper"
    changes = {} if paper else STARTED
    runs = {
        _row(log10): recipe("mnist/fixed-variance", {**changes, "model.likelihood.sigma": 10 ** (log10 / 2)})
        for log10 in (0.0, -1.0)
    }
    cells: dict[Cell, Reading] = {}
    for row in runs:
        cells |= {
            (row, "kl"): Logged(run=row, metric="test/rate"),
            (row, "means"): Evaluated(run=row, value="posterior_mean_variance"),
            (row, "std"): Evaluated(run=row, value="posterior_std"),
        }
    place = "appendix D.2, figure D.4"
    unit, tenth = runs
    return Setup(
        rows={unit: "σ_x² = 1", tenth: "σ_x² = 0.1"},
        runs=runs,
        cells=cells,
        claims=(
            Every(
                text="σ_x² = 1: the latent space collapses, q(z) is p(z) (KL and variance of the means below 0.05)",
                place=place,
                claims=tuple(
                    Below(text=column, place=place, cell=(unit, column), value=0.05) for column in ("kl", "means")
                ),
            ),
            Above(
                text="σ_x² = 0.1: data are told apart (variance of the means above 0.5)",
                place=place, cell=(tenth, "means"), value=0.5,
            ),
        ),
        seeds=3 if paper else 2,
        plan=EvaluationPlan.model_validate(
            {"evaluators": [{"kind": "latent"}, {"kind": "scatter"}], "limit": None if paper else 2_000}
        ),
        shown=("latent_tsne",),
        differs=() if paper else (*SMALLER, "2 epochs in place of 200", "learning rate 0.003", "σ_z starts at 0.3",
                                  "2,000 test images"),
    )  # fmt: skip


FIGURE_D4 = Reproduction(
    name="ar-elbo/figure-d4",
    summary="The latent space with a decoder variance of 1 (collapsed) and of 0.1. MNIST.",
    columns=(
        Column(name="kl", heading="KL [nats]"),
        Column(name="means", heading="variance of the posterior means"),
        Column(name="std", heading="σ_z"),
    ),
    notes=("The figure is a t-SNE; judged are the numbers behind it.",),
    build=_figure_d4,
)

REPRODUCTIONS = (TABLE_1, TABLE_E8, FIGURE_D4)
