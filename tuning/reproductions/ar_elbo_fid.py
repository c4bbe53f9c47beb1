"""AR-ELBO, section 6: FID of samples and of interpolations. MNIST, CelebAHQ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuning.reproductions.ar_elbo_section_4 import PIXELS
from tuning.reproductions.ar_elbo_section_6 import DIFFERS, OTHERS, PROPOSED, SYSTEMS, VAE, runs_of
from tuning.reproductions.changes import recipe
from tuning.reproductions.claims import Cell, Claim, Every, Less, Lowest
from tuning.reproductions.entry import Column, Reproduction, Scale, Setup
from tuning.reproductions.readings import Evaluated, Logged, Reading
from vae_models.config.train import TrainConfig
from vae_models.evaluation.specs import EvaluationPlan

# system -> MSE, FID: prior, 2nd stage, GMM-10
_TABLE_4: Mapping[str, tuple[float, float | None, float, float]] = {
    "gaussian-vae": (20.25, 55.85, 182.64, 58.96), "bernoulli-vae": (7.26, 19.16, 19.65, 17.49),
    "ae": (4.31, None, 20.66, 13.20), "wae-mmd": (4.34, 22.76, 15.00, 13.70), "rae": (4.28, None, 18.54, 13.68),
    "rae-gp": (4.30, None, 18.89, 13.71), "trained-iso-i": (4.28, 20.93, 14.83, 13.39),
    "trained-diag-i": (5.70, 26.08, 18.44, 15.72), "trained-iso-d": (4.45, 27.40, 16.38, 13.67),
    "trained-diag-d": (5.33, 146.43, 26.02, 27.90), "ar-elbo-iso-i": (4.40, 22.78, 15.77, 12.21),
    "ar-elbo-diag-i": (5.35, 24.15, 17.18, 13.38), "ar-elbo-iso-d": (4.31, 22.94, 17.57, 12.89),
    "ar-elbo-diag-d": (6.80, 16.64, 10.49, 10.05),
}  # fmt: skip
_TABLE_5 = {
    "gaussian-vae": (62.18, 63.86), "bernoulli-vae": (18.20, 18.08), "ae": (18.49, 12.81), "wae-mmd": (17.27, 12.41),
    "rae": (17.71, 12.99), "rae-gp": (17.98, 12.96), "trained-iso-i": (15.66, 12.73), "trained-diag-i": (17.34, 14.77),
    "trained-iso-d": (17.03, 13.33), "trained-diag-d": (51.65, 31.66), "ar-elbo-iso-i": (14.77, 11.27),
    "ar-elbo-diag-i": (17.24, 13.08), "ar-elbo-iso-d": (15.30, 12.01), "ar-elbo-diag-d": (11.96, 8.68),
}  # fmt: skip
# system -> MSE, FID: prior, 2nd stage, GMM-10, GMM-100
_TABLE_6: Mapping[str, tuple[float | None, ...]] = {
    "ae": (199.51, None, 157.46, 94.53, 85.70), "wae-mmd": (207.82, 246.79, 98.77, 96.26, 88.15),
    "gaussian-vae": (404.66, 99.71, 139.12, 89.54, 88.62), "rae": (197.84, None, 95.47, 94.54, 89.14),
    "rae-gp": (202.09, None, 100.33, 103.63, 94.91), "ar-elbo-iso-i": (203.90, 227.72, 87.95, 85.24, 78.15),
    "ar-elbo-diag-i": (206.56, 255.48, 88.63, 87.11, 78.98), "ar-elbo-iso-d": (203.43, 222.87, 88.15, 84.77, 76.28),
    "ar-elbo-diag-d": (211.68, 257.42, 82.50, 79.00, 71.46),
}  # fmt: skip
SAMPLERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "prior": ("prior", {"kind": "prior"}),
    "second-stage": ("2nd VAE", {"kind": "second-stage"}),
    "gmm-10": ("GMM10", {"kind": "gmm", "components": 10}),
    "gmm-100": ("GMM100", {"kind": "gmm", "components": 100}),
}
FEATURES: Mapping[Scale, str] = {"small": "random-conv", "paper": "inception"}
_OTHER_FEATURES = "features of a random convolutional network in place of Inception's: no FID of it is the paper's"


def _distances(kind: str, scale: Scale, samplers: Sequence[str]) -> EvaluationPlan:
    """Return the evaluation by FID: of the paper's features, or of the small scale's."""
    evaluator = {
        "kind": kind, "features": {"kind": FEATURES[scale]}, "count": 2_000 if scale == "small" else 10_000,
    }  # fmt: skip
    return EvaluationPlan.model_validate(
        {
            "evaluators": [evaluator],
            "samplers": [SAMPLERS[name][1] for name in samplers],
            "limit": 2_000 if scale == "small" else None,
        }
    )


def _fid(run: str, of: str, scale: Scale) -> Evaluated:
    return Evaluated(run=run, value=f"fid_{FEATURES[scale].replace('-', '_')}/{of}")


def _sampled(
    runs: Mapping[str, TrainConfig], elements: int, scale: Scale, samplers: Sequence[str]
) -> dict[Cell, Reading]:
    """Return MSE and FIDs; an autoencoder has no prior to sample from."""
    cells: dict[Cell, Reading] = {}
    for row in runs:
        cells[row, "mse"] = Logged(run=row, metric="test/squared_error", factor=elements)
        for name in samplers:
            if name != "prior" or row not in ("ae", "rae", "rae-gp"):
                cells[row, name] = _fid(row, name, scale)
    return cells


def _table_4(scale: Scale) -> Setup:
    paper = scale == "paper"
    systems = tuple(SYSTEMS) if paper else (*VAE, *OTHERS, "ae", "wae-mmd", "trained-iso-i", *PROPOSED)
    runs = runs_of(systems, scale)
    samplers = ("prior", "second-stage", "gmm-10") if paper else ("prior", "gmm-10")
    place = "section 6.1, table 4"
    others = tuple(row for row in runs if row not in ("ar-elbo-diag-d", "gaussian-vae"))
    claims: list[Claim] = [
        Every(
            text="The VAE with σ_x² = 1 has the largest MSE",
            place=place,
            claims=tuple(
                Less(text=row, place=place, low=(row, "mse"), high=("gaussian-vae", "mse"))
                for row in runs
                if row != "gaussian-vae"
            ),
        ),
        Lowest(
            text="Diag-D by MLE has the best FID of all, by GMM10",
            place=place, cell=("ar-elbo-diag-d", "gmm-10"), others=tuple((row, "gmm-10") for row in others),
        ),
        Less(
            text="Iso-I: maximum likelihood has a better FID than a trained variance, by GMM10",
            place=place, low=("ar-elbo-iso-i", "gmm-10"), high=("trained-iso-i", "gmm-10"),
        ),
        Less(
            text="Iso-I: GMM10 has a better FID than the prior",
            place=place, low=("ar-elbo-iso-i", "gmm-10"), high=("ar-elbo-iso-i", "prior"),
        ),
    ]  # fmt: skip
    return Setup(
        rows={row: SYSTEMS[row] for row in runs},
        runs=runs,
        cells=_sampled(runs, PIXELS, scale, samplers),
        claims=tuple(claims),
        seeds=3 if paper else 2,
        plan=_distances("fid", scale, samplers),
        differs=() if paper else (*DIFFERS, _OTHER_FEATURES, "2,000 samples", "no second-stage VAE", "9 of 14 models"),
    )


def _columns(samplers: Sequence[str]) -> tuple[Column, ...]:
    return (
        Column(name="mse", heading="MSE"),
        *(Column(name=name, heading=f"FID, {SAMPLERS[name][0]}") for name in samplers),
    )


def _printed(table: Mapping[str, Sequence[float | None]], columns: Sequence[str]) -> dict[Cell, float]:
    return {
        (row, column): value
        for row, values in table.items()
        for column, value in zip(columns, values, strict=True)
        if value is not None
    }


TABLE_4 = Reproduction(
    name="ar-elbo/table-4",
    summary="Reconstruction and FID of samples: fitted variances beside other models. MNIST.",
    columns=_columns(("prior", "second-stage", "gmm-10")),
    paper=_printed(_TABLE_4, ("mse", "prior", "second-stage", "gmm-10")),
    build=_table_4,
)


def _table_5(scale: Scale) -> Setup:
    paper = scale == "paper"
    systems = tuple(SYSTEMS) if paper else (*VAE, *OTHERS, "ae", "wae-mmd", "trained-iso-i", *PROPOSED)
    runs = runs_of(systems, scale)
    cells: dict[Cell, Reading] = {}
    for row in runs:
        cells[row, "mid"] = _fid(row, "interpolation_midpoint", scale)
        cells[row, "random"] = _fid(row, "interpolation_random", scale)
    place = "section 6.2, table 5"
    return Setup(
        rows={row: SYSTEMS[row] for row in runs},
        runs=runs,
        cells=cells,
        claims=tuple(
            Lowest(
                text=f"Diag-D by MLE has the best FID of interpolations at a {words}",
                place=place, cell=("ar-elbo-diag-d", column),
                others=tuple((row, column) for row in runs if row != "ar-elbo-diag-d"),
            )
            for column, words in (("mid", "mid-point"), ("random", "random point"))
        ),
        seeds=3 if paper else 2,
        plan=_distances("interpolation-fid", scale, ("prior",)),
        differs=() if paper else (*DIFFERS, _OTHER_FEATURES, "2,000 pairs", "9 of 14 models"),
    )  # fmt: skip


TABLE_5 = Reproduction(
    name="ar-elbo/table-5",
    summary="FID of spherical interpolations. MNIST.",
    columns=(
        Column(name="mid", heading="FID, mid-point"),
        Column(name="random", heading="FID, random point"),
    ),
    paper=_printed(_TABLE_5, ("mid", "random")),
    build=_table_5,
)


def _table_6(scale: Scale) -> Setup:
    runs = {row: recipe(f"celeba-hq/{row}") for row in _TABLE_6}
    place = "section 6.3, table 6"
    samplers = tuple(SAMPLERS)
    return Setup(
        rows={row: SYSTEMS[row] for row in runs},
        runs=runs,
        cells=_sampled(runs, 3 * 128 * 128, scale, samplers),
        claims=tuple(
            Lowest(
                text=f"Diag-D by MLE has the best FID by {SAMPLERS[name][0]}",
                place=place, cell=("ar-elbo-diag-d", name),
                others=tuple((row, name) for row in runs if row != "ar-elbo-diag-d"),
            )
            for name in samplers[1:]
        ),
        seeds=3,
        plan=_distances("fid", scale, samplers),
    )  # fmt: skip


TABLE_6 = Reproduction(
    name="ar-elbo/table-6",
    summary="Reconstruction and FID of samples on CelebAHQ, 128 x 128. For a machine with GPUs.",
    columns=_columns(tuple(SAMPLERS)),
    paper=_printed(_TABLE_6, ("mse", *SAMPLERS)),
    build=_table_6,
    scales=("paper",),
)

REPRODUCTIONS = (TABLE_4, TABLE_5, TABLE_6)
