"""Learning hierarchical priors: figures 17, 19 and 20, motion and images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuning.reproductions.changes import BRIEFLY, mlp, recipe
from tuning.reproductions.claims import Cell, Less
from tuning.reproductions.entry import Column, Reproduction, Scale, Setup
from tuning.reproductions.readings import Computed, Evaluated, Logged, Reading
from tuning.reproductions.vhp import SYSTEMS, root
from vae_models.config.train import TrainConfig
from vae_models.evaluation.specs import EvaluationPlan

# --- figure 17: motion ------------------------------------------------------------------------------------------------


# With nu = 20 and kappa = 0.02 beta needs ln(1000) / (nu kappa^2) = 860 steps from its start to 1; with the paper's 1,
# 17,000.
_MOTION: Mapping[str, Any] = {**BRIEFLY, "steps": 4_000, "batch_size": 32}
_HIERARCHICAL = {"beta.nu": 20.0, "model.prior.importance_samples": 8}
_DIFFERS_MOTION = ("4,000 steps of 32", "ν = 20 in place of 1", "8 importance samples in VHP's prior in place of 32")


def _motion(scale: Scale) -> dict[str, TrainConfig]:
    changes: dict[str, Any] = {} if scale == "paper" else dict(_MOTION)
    more = {"vhp-rewo": {} if scale == "paper" else _HIERARCHICAL}
    systems = ("vhp-rewo", "vampprior", "iwae")
    return {system: recipe(f"cmu-motion/{system}", changes | more.get(system, {})) for system in systems}


def _figure_17(scale: Scale) -> Setup:
    runs = _motion(scale)
    cells: dict[Cell, Reading] = {}
    for row in runs:
        cells |= {
            (row, "knn"): Evaluated(run=row, value=NEIGHBOURS, factor=-1.0),
            (row, "rate"): Logged(run=row, metric="test/rate"),
            (row, "rmse"): Computed(of=(Logged(run=row, metric="test/squared_error"),), function=root),
        }
    place = "appendix C.1, figure 17"
    return Setup(
        rows={row: SYSTEMS[row] for row in runs},
        runs=runs,
        cells=cells,
        claims=tuple(
            Less(
                text=f"{SYSTEMS[row]} separates the movements better than IWAE (share told by neighbours, negated)",
                place=place, low=(row, "knn"), high=("iwae", "knn"),
            )
            for row in ("vhp-rewo", "vampprior")
        ),
        seeds=3 if scale == "paper" else 2,
        plan=EvaluationPlan.model_validate({"evaluators": [{"kind": "probes", "data": 2_000}, {"kind": "scatter"}]}),
        shown=("latent_plane",),
        differs=() if scale == "paper" else _DIFFERS_MOTION,
    )  # fmt: skip


NEIGHBOURS = "probe_knn_accuracy"
FIGURE_17 = Reproduction(
    name="vhp/figure-17",
    summary="Are movements apart in a two-dimensional latent? VHP, VampPrior, IWAE. CMU motion capture.",
    columns=(
        Column(name="knn", heading="− share of movements told by 10 neighbours"),
        Column(name="rate", heading="rate [nats]"),
        Column(name="rmse", heading="root squared error"),
    ),
    notes=(
        "The figure is a scatter plot: separation is judged by a nearest-neighbour probe. Four of the five movements.",
    ),
    build=_figure_17,
)

# --- figure 18 ------------------------------------------------------------------------------------------------------

WAYS = {"step": "step_ratio/graph", "largest": "largest_step/graph", "length": "path_length_ratio/graph"}


def _figure_18(scale: Scale) -> Setup:
    paper = scale == "paper"
    runs = _motion(scale)
    cells: dict[Cell, Reading] = {
        (row, column): Evaluated(run=row, value=value) for row in runs for column, value in WAYS.items()
    }
    place = "appendix C.2, figure 18"
    evaluator = {"kind": "interpolation", "nodes": 2_530 if paper else 300, "neighbours": 15, "pairs": 16}
    return Setup(
        rows={row: SYSTEMS[row] for row in runs},
        runs=runs,
        cells=cells,
        claims=tuple(
            Less(
                text=f"Movements between two others jump less with VHP + REWO than with {SYSTEMS[row]} (step ratio)",
                place=place, low=("vhp-rewo", "step"), high=(row, "step"),
            )
            for row in ("vampprior", "iwae")
        ),
        seeds=3 if paper else 2,
        plan=EvaluationPlan.model_validate({"evaluators": [evaluator]}),
        differs=() if paper else (*_DIFFERS_MOTION, "300 nodes in place of 2,530"),
    )  # fmt: skip


FIGURE_18 = Reproduction(
    name="vhp/figure-18",
    summary="Do movements on the shortest ways of a graph of latents jump? VHP, VampPrior, IWAE. CMU motion capture.",
    columns=(
        Column(name="step", heading="largest step over the mean step"),
        Column(name="largest", heading="largest step [rad]"),
        Column(name="length", heading="length over the straight line's"),
    ),
    notes=(
        "The figure marks discontinuities by boxes: judged is the largest of 10 steps over the mean step, mean over 16 "
        "pairs of test data.",
    ),
    build=_figure_18,
)

# --- figures 19 and 20: images ----------------------------------------------------------------------------------------

DATA = {"binarized-mnist": "static MNIST", "mnist": "dynamic MNIST", "fashion-mnist": "Fashion-MNIST",
        "omniglot": "Omniglot"}  # fmt: skip
_IMAGES: Mapping[str, Any] = {
    **BRIEFLY,
    "model.backbone": mlp(256, 256),
    "model.prior.importance_samples": 4,
    "steps": 2_000,
    "batch_size": 64,
    "optimizer.lr": 1e-3,
}
_DIFFERS_IMAGES = (
    "fully connected nets of 256 and 256 in place of gated convolutions",
    "4 importance samples in place of 16",
    "2,000 steps of 64 at a learning rate of 0.001",
    "the first 2,000 test images",
    "warm-up over 1 epoch in place of 20 (VampPrior: of 100)",
    "REWO's ν = 10 in place of 1, with which β does not get from 0.001 to 1 in so few steps",
)


def _of_images(data: str, system: str, scale: Scale) -> TrainConfig:
    changes = {} if scale == "paper" else dict(_IMAGES)
    if not system.startswith("vhp"):
        changes.pop("model.prior.importance_samples", None)
    if scale == "small" and ("warmup" in system or system == "vampprior"):
        changes["beta.epochs"] = 1.0
    if scale == "small" and system == "vhp-rewo":
        changes["beta.nu"] = 10.0
    return recipe(f"{data}/{system}", changes)


def _figure_19(scale: Scale) -> Setup:
    systems = ("vhp-rewo", "vhp-warmup-20", "vampprior", "iwae")
    runs = {system: _of_images("binarized-mnist", system, scale) for system in systems}
    cells: dict[Cell, Reading] = {}
    for row in runs:
        cells |= {
            (row, "nll"): Evaluated(run=row, value="nll_500"),
            (row, "rate"): Logged(run=row, metric="test/rate"),
            (row, "distortion"): Logged(run=row, metric="test/distortion"),
        }
    place = "appendix D.1, figure 19, whose axes alone the text at hand has"
    limit = None if scale == "paper" else 200
    return Setup(
        rows={row: SYSTEMS[row] for row in runs},
        runs=runs,
        cells=cells,
        claims=(
            Less(
                text="REWO's NLL is below that of warm-up [nats]",
                place=place, low=("vhp-rewo", "nll"), high=("vhp-warmup-20", "nll"),
            ),
        ),
        seeds=3 if scale == "paper" else 2,
        plan=EvaluationPlan.model_validate({"evaluators": [{"kind": "nll", "samples": 500}], "limit": limit}),
        differs=() if scale == "paper" else (*_DIFFERS_IMAGES, "NLL of 200 images"),
    )  # fmt: skip


FIGURE_19 = Reproduction(
    name="vhp/figure-19",
    summary="NLL, rate and distortion of VHP + REWO, warm-up, VampPrior and IWAE. Static MNIST.",
    columns=(
        Column(name="nll", heading="NLL, 500 samples [nats]"),
        Column(name="rate", heading="rate [nats]"),
        Column(name="distortion", heading="distortion [nats]"),
    ),
    build=_figure_19,
)


def _figure_20(scale: Scale) -> Setup:
    data = tuple(DATA) if scale == "paper" else ("binarized-mnist", "fashion-mnist")
    rules = {"vhp-rewo": "REWO", "vhp-warmup-20": "warm-up"}
    runs = {f"{name}-{system}": _of_images(name, system, scale) for name in data for system in rules}
    cells: dict[Cell, Reading] = {}
    for row in runs:
        cells |= {
            (row, "units"): Evaluated(run=row, value="inner_active_units_kl"),
            (row, "rate"): Logged(run=row, metric="test/rate"),
        }
    return Setup(
        rows={f"{name}-{system}": f"{DATA[name]}, {rule}" for name in data for system, rule in rules.items()},
        runs=runs,
        cells=cells,
        claims=tuple(
            Less(
                text=f"{DATA[name]}: REWO prevents over-pruning, more inner units are active than with warm-up",
                place="appendix D.2, figure 20", low=(f"{name}-vhp-warmup-20", "units"),
                high=(f"{name}-vhp-rewo", "units"),
            )
            for name in data
        ),
        seeds=3 if scale == "paper" else 2,
        plan=EvaluationPlan.model_validate(
            {"evaluators": [{"kind": "latent"}], "limit": None if scale == "paper" else 2_000}
        ),
        differs=() if scale == "paper" else (*_DIFFERS_IMAGES, "two of four data sets"),
    )  # fmt: skip


FIGURE_20 = Reproduction(
    name="vhp/figure-20",
    summary="How many inner latent units are active with REWO and with KL warm-up. Four sets of images.",
    columns=(
        Column(name="units", heading="inner units with a KL above 0.01 nats"),
        Column(name="rate", heading="rate [nats]"),
    ),
    notes=("The figure has the KL of every dimension and counts none: the threshold, 0.01 nats, is ours.",),
    build=_figure_20,
)

REPRODUCTIONS = (FIGURE_17, FIGURE_18, FIGURE_19, FIGURE_20)
