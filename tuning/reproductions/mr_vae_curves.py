"""Multi-Rate VAE: rate-distortion curves, and how a point of one is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from tuning.reproductions.changes import BRIEFLY, mlp, recipe
from tuning.reproductions.claims import Cell, Claim, Every, Less, Ratio
from tuning.reproductions.entry import Choice, Column, Reproduction, Scale, Setup
from tuning.reproductions.readings import Computed, Duration, Logged, Reading
from tuning.searches.mr_vae import rates
from tuning.space import with_values
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


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The models that a curve is of.

    one, multi: recipes of a model of one beta, and of the multi-rate one
    of_one:     changes of the first beside those of both
    called:     a model of one beta, in the singular
    systems:    headings of the table's three systems
    """

    one: str
    multi: str
    called: str
    systems: Mapping[str, str]
    of_one: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def setup(
        self, scale: Scale, betas: Sequence[float], changes: Mapping[str, Any], differs: tuple[str, ...]
    ) -> Setup:
        """Return a run for each beta, a multi-rate one and one of three times the epochs. changes: of all of them."""
        base = recipe(self.one, {**changes, **self.of_one})
        multi = recipe(self.multi, {**changes, "evaluation.betas": tuple(betas)})
        longer = with_values(multi, {"epochs": 3 * (multi.epochs or 0.0)})
        separate = {f"beta-{beta:g}": with_values(base, {"beta.value": beta}) for beta in betas}
        cells: dict[Cell, Reading] = {("time", "separate-objective"): Duration(of=tuple(separate))}
        cells |= {("time", f"{run}-objective"): Duration(of=(run,)) for run in ("multi", "longer")}
        for beta in betas:
            of = {"separate": terms(f"beta-{beta:g}"), **{run: terms(run, beta) for run in ("multi", "longer")}}
            for system, (rate, distortion) in of.items():
                row = f"beta-{beta:g}"
                cells |= {(row, f"{system}-rate"): rate, (row, f"{system}-distortion"): distortion}
                cells[row, f"{system}-objective"] = objective(beta, (rate, distortion))
        paper, (of_one, of_many, _) = scale == "paper", self.systems.values()
        return Setup(
            rows={**{f"beta-{beta:g}": f"β = {beta:g}" for beta in betas}, "time": "training [s]"},
            runs={**separate, "multi": multi, "longer": longer},
            cells=cells,
            claims=tuple(self._claims([f"beta-{beta:g}" for beta in betas])),
            seeds=3 if paper else 2,
            choices=chosen_rates({of_one: base, of_many: multi}) if paper else {},
            chosen_for={**dict.fromkeys(separate, of_one), "multi": of_many, "longer": of_many} if paper else {},
            drawings=("tuning.reproductions.pictures:rate_distortion",),
            differs=() if paper else differs,
        )

    def columns(self) -> tuple[Column, ...]:
        """Return the table's columns, three for each system."""
        return tuple(
            Column(name=f"{system}-{what}", heading=f"{heading}: {words} [nats]")
            for system, heading in self.systems.items()
            for what, words in (("rate", "rate"), ("distortion", "distortion"), ("objective", "distortion + β rate"))
        )

    def _claims(self, rows: Sequence[str]) -> list[Claim]:
        place = "main text, of which the appendix has the experiment (C.2)"
        claims: list[Claim] = []
        for system, most in (("multi", 1.02), ("longer", 1.0)):
            claims += [
                Every(
                    text=f"{self.systems[system]}: distortion + β × rate at every β is "
                    + (
                        f"within 2 % of a separate {self.called}'s, or below it"
                        if most > 1
                        else f"below a separate {self.called}'s"
                    ),
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
                    text=f"{self.systems[system]}: −ELBO (β = 1) is below a separate {self.called}'s [nats]",
                    place=place, low=("beta-1", f"{system}-objective"), high=("beta-1", "separate-objective"),
                ),
                Less(
                    text=f"{self.systems[system]}: trained in less time than all the {self.called}s [s]",
                    place="B.3", low=("time", f"{system}-objective"), high=("time", "separate-objective"),
                ),
            ]  # fmt: skip
        return claims


MLPS = Compared(
    one="binarized-mnist/beta-vae-cnn",
    multi="binarized-mnist/mr-vae-cnn",
    called="β-VAE",
    systems={"separate": "β-VAEs", "multi": "MR-VAE", "longer": "MR-VAE, three times the epochs"},
)


def _curves(scale: Scale) -> Setup:
    if scale == "paper":
        return MLPS.setup(scale, TEN, {}, ())
    changes = {**BRIEFLY, "model.backbone": mlp(400, 400), "optimizer.lr": 0.003, "epochs": 3}
    differs = (
        "fully connected nets of 400 and 400 in place of the CNN",
        "3 epochs in place of 200",
        "four β in place of ten",
        "the first 2,000 test images",
        "learning rate 0.003 for both, which of 0.01, 0.003 and 0.001 was best at β = 1",
    )
    return MLPS.setup(scale, FEW, changes, differs)


def _ladders(data: str, one: str, multi: str) -> Compared:
    """Return NVAEs. Those of one beta are not balanced, as the multi-rate one is not: below 1 they would always be."""
    return Compared(
        one=f"{data}/{one}",
        multi=f"{data}/{multi}",
        called="NVAE",
        systems={"separate": "NVAEs", "multi": "MR-NVAE", "longer": "MR-NVAE, three times the epochs"},
        of_one={"objective.balanced": False},
    )


LADDERS: Mapping[Scale, Compared] = {
    "small": _ladders("digits", "nvae-tiny", "mr-nvae-tiny"),
    "paper": _ladders("binarized-mnist", "nvae-16", "mr-nvae-16"),
}


def _of_ladders(scale: Scale) -> Setup:
    if scale == "paper":
        return LADDERS[scale].setup(scale, TEN, {}, ())
    differs = (
        "scikit-learn's digits, 8×8, black or white by a threshold, in place of 28×28",
        "three groups of 4 channels in place of 15 of 20",
        "20 epochs in place of 400",
        "learning rate 0.01 for both, not chosen",
    )
    bits = {"data.binarize": "threshold", "model.likelihood": {"kind": "bernoulli"}}
    return LADDERS[scale].setup(scale, TEN, {**BRIEFLY, **bits}, differs)


NOTE = (
    "Test split, nats per datum. The paper's curves are in its main text, which has no numbers of them in the text at "
    "hand: its claims are judged, not values."
)
CURVES = Reproduction(
    name="mr-vae/rate-distortion",
    summary="One multi-rate run for the whole rate-distortion curve, beside a β-VAE for each β. Binarized MNIST.",
    columns=MLPS.columns(),
    notes=(NOTE,),
    build=_curves,
)
CURVES_OF_LADDERS = Reproduction(
    name="mr-vae/rate-distortion-nvae",
    summary="One multi-rate NVAE for the whole rate-distortion curve, beside an NVAE for each of ten β.",
    columns=LADDERS["small"].columns(),
    notes=(NOTE,),
    build=_of_ladders,
)

REPRODUCTIONS = (CURVES, CURVES_OF_LADDERS)
