"""Multi-Rate VAE: table 2 and the ablations of figure 9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from tuning.reproductions.changes import BRIEFLY, recipe
from tuning.reproductions.claims import Cell, Claim, Every, Less, Lowest, Ratio
from tuning.reproductions.entry import Column, Reproduction, Scale, Setup
from tuning.reproductions.mr_vae_curves import FEW, TEN, Terms, chosen_rates, mean, objective, terms
from tuning.reproductions.readings import At, Computed, Reading
from vae_models.config.train import TrainConfig

# --- table 2 ----------------------------------------------------------------------------------------------------------

DATA = {"binarized-mnist": "MNIST", "omniglot": "Omniglot"}
NETS = {"resnet": "ResNet", "cnn": "CNN"}
# data, net -> (-ELBO, rate, distortion) of the beta-VAE and of MR-VAE
_TABLE_2 = {
    ("binarized-mnist", "resnet"): ((89.63, 29.17, 60.46), (87.89, 27.07, 60.82)),
    ("binarized-mnist", "cnn"): ((96.35, 18.33, 78.03), (93.51, 28.50, 65.00)),
    ("omniglot", "resnet"): ((111.07, 34.98, 76.09), (107.78, 34.36, 73.41)),
    ("omniglot", "cnn"): ((114.73, 34.11, 80.62), (110.98, 34.21, 76.77)),
}
_SHORT = {"optimizer.lr": 0.001, "steps": 2_400, "batch_size": 32}
_NARROW: Mapping[str, Mapping[str, Any]] = {
    "resnet": {"model.backbone.channels": 16},
    "cnn": {"model.backbone.channels": (8, 16, 32, 64)},
}


def _table_2(scale: Scale) -> Setup:
    paper = scale == "paper"
    betas = TEN if paper else (0.5, 1.0)
    runs: dict[str, TrainConfig] = {}
    cells: dict[Cell, Reading] = {}
    chosen: dict[str, str] = {}
    first: dict[str, TrainConfig] = {}
    for data, net in product(DATA, NETS):
        changes = {} if paper else {**BRIEFLY, **_NARROW[net], **_SHORT}
        own, multi = f"{data}-{net}", f"{data}-mr-{net}"
        variants = ("", "-warmup") if paper else ("",)
        separate = {
            f"{own}{variant}-{beta:g}": recipe(f"{data}/beta-vae-{net}{variant}", {**changes, "beta.value": beta})
            for variant, beta in product(variants, betas)
        }
        runs |= {**separate, multi: recipe(f"{data}/mr-vae-{net}", {**changes, "evaluation.betas": betas})}
        cells |= _of_the_best(own, [terms(run) for run in separate])
        cells |= _of_the_best(multi, [terms(multi, beta) for beta in betas])
        chosen |= {**dict.fromkeys(separate, own), multi: multi}
        first |= {own: recipe(f"{data}/beta-vae-{net}"), multi: runs[multi]}
    return Setup(
        rows={
            f"{data}-{mr}{net}": f"{DATA[data]}, {'MR-' if mr else ''}{NETS[net]}"
            for data, mr, net in product(DATA, ("", "mr-"), NETS)
        },
        runs=runs,
        cells=cells,
        claims=_table_2_claims(),
        seeds=3 if paper else 2,
        choices=chosen_rates(first) if paper else {},
        chosen_for=chosen if paper else {},
        differs=()
        if paper
        else (
            "16 channels in place of 128 (ResNet), 8 to 64 in place of 128 to 1024 (CNN)",
            "2,400 steps of 32 in place of 200 epochs",
            "the first 2,000 test images",
            "β of 0.5 and 1 in place of ten, without KL warm-up",
            "learning rate 0.001, not chosen",
        ),
    )


def _negative_elbo(rate: float, distortion: float) -> float:
    return rate + distortion


def _of_the_best(row: str, of: Sequence[Terms]) -> dict[Cell, Reading]:
    """Return -ELBO, rate and distortion where -ELBO is lowest."""
    bounds = tuple(Computed(of=each, function=_negative_elbo) for each in of)
    return {
        (row, "elbo"): At(least=bounds, value=bounds),
        (row, "rate"): At(least=bounds, value=tuple(rate for rate, _ in of)),
        (row, "distortion"): At(least=bounds, value=tuple(distortion for _, distortion in of)),
    }


def _table_2_claims() -> tuple[Claim, ...]:
    claims: list[Claim] = [
        Less(
            text=f"{DATA[data]}, {NETS[net]}: MR-VAE's lowest −ELBO is below the β-VAEs' [nats]",
            place="table 2", low=(f"{data}-mr-{net}", "elbo"), high=(f"{data}-{net}", "elbo"),
        )
        for data, net in product(DATA, NETS)
    ]  # fmt: skip
    claims += [
        Lowest(
            text=f"{DATA[data]}: MR-ResNet's −ELBO is the lowest [nats]",
            place="table 2", cell=(f"{data}-mr-resnet", "elbo"),
            others=tuple((f"{data}-{row}", "elbo") for row in ("resnet", "cnn", "mr-cnn")),
        )
        for data in DATA
    ]  # fmt: skip
    return tuple(claims)


TABLE_2 = Reproduction(
    name="mr-vae/table-2",
    summary="The lowest test −ELBO over β of β-VAEs and of one multi-rate VAE. Binarized MNIST, Omniglot.",
    columns=tuple(
        Column(name=name, heading=f"{heading} [nats]")
        for name, heading in (("elbo", "−ELBO"), ("rate", "rate"), ("distortion", "distortion"))
    ),
    paper={
        (f"{data}-{mr}{net}", column): value
        for (data, net), both in _TABLE_2.items()
        for mr, numbers in zip(("", "mr-"), both, strict=True)
        for column, value in zip(("elbo", "rate", "distortion"), numbers, strict=True)
    },
    notes=("The paper calls −ELBO ELBO; rate and distortion add up to it.",),
    build=_table_2,
)

# --- figure 9 ---------------------------------------------------------------------------------------------------------

_DESIGNS = {"mlp": "2-layer MLP", "mlp-shared": "2-layer MLP, first layer shared", "mlp-5": "5-layer MLP"}
_GATES = {"sigmoid": "sigmoid both sides", "sqrt": "sqrt both sides", "film": "FiLM both sides"}


def _figure_9(scale: Scale) -> Setup:
    paper = scale == "paper"
    betas = TEN if paper else FEW
    changes: dict[str, Any] = {"evaluation.betas": betas}
    if not paper:
        changes |= {**BRIEFLY, **_NARROW["resnet"], **_SHORT}
    rows = {"default": "affine, sigmoid and sqrt (default)", **_DESIGNS, **_GATES}
    runs = {row: recipe(f"omniglot/mr-vae-resnet{'' if row == 'default' else f'-{row}'}", changes) for row in rows}
    cells: dict[Cell, Reading] = {}
    for row in rows:
        of = {beta: terms(row, beta) for beta in betas}
        cells[row, "curve"] = Computed(of=tuple(objective(beta, each) for beta, each in of.items()), function=mean)
        cells[row, "elbo"] = objective(1.0, terms(row))
        for beta, (rate, distortion) in of.items():
            cells |= {(row, f"rate-{beta:g}"): rate, (row, f"distortion-{beta:g}"): distortion}
    return Setup(
        rows=rows,
        runs=runs,
        cells=cells,
        claims=_figure_9_claims(),
        seeds=3 if paper else 2,
        choices=chosen_rates(runs) if paper else {},
        chosen_for={row: row for row in runs} if paper else {},
        drawings=("tuning.reproductions.pictures:ablations",),
        differs=()
        if paper
        else (
            "16 channels in place of 128",
            "2,400 steps of 32 in place of 200 epochs",
            "four β in place of ten",
            "the first 2,000 test images",
            "learning rate 0.001, not chosen",
        ),
    )


def _figure_9_claims() -> tuple[Claim, ...]:
    place, default = "appendix D, figure 9", ("default", "curve")

    def within(text: str, rows: Sequence[str], most: float, *, default_over: bool) -> Claim:
        pairs = [(default, (row, "curve")) if default_over else ((row, "curve"), default) for row in rows]
        claims = tuple(Ratio(text=text, place=place, over=over, under=under, at_most=most) for over, under in pairs)
        return Every(text=text, place=place, claims=claims)

    return (
        within(
            "No more expressive network gives a curve that is better by more than 1 %",
            tuple(_DESIGNS), 1.01, default_over=True,
        ),
        Lowest(
            text="The default gates are slightly better than the other combinations [nats]",
            place=place, cell=default, others=tuple((row, "curve") for row in _GATES),
        ),
        within(
            "The choice of gates does not matter: no curve is worse than the default's by more than 3 %",
            tuple(_GATES), 1.03, default_over=False,
        ),
    )  # fmt: skip


FIGURE_9 = Reproduction(
    name="mr-vae/figure-9",
    summary="What the gates of a multi-rate VAE are made of: networks and functions. ResNet, Omniglot.",
    columns=(
        Column(name="curve", heading="distortion + β rate, mean over β [nats]"),
        Column(name="elbo", heading="−ELBO [nats]"),
    ),
    notes=(
        "The figure has curves and no numbers: a curve's height is the mean over β of distortion + β × rate; the "
        "tolerances, 1 % and 3 %, are ours.",
    ),
    build=_figure_9,
)

REPRODUCTIONS = (TABLE_2, FIGURE_9)
