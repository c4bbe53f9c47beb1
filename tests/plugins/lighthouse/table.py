"""A reproduction: is the error of a narrower likelihood smaller?"""

from __future__ import annotations

from lighthouse.recipes import rings
from tuning.reproductions.claims import Less
from tuning.reproductions.entry import Column, Reproduction, Setup
from tuning.reproductions.readings import Evaluated, Logged
from tuning.space import with_values
from vae_models.evaluation.specs import EvaluationPlan

SCALES = {"narrow": 0.1, "wide": 1.0}


def build(scale):
    """Both, for the recipe's length or for 100 steps."""
    short = {} if scale == "paper" else {"epochs": None, "steps": 100, "evaluation.pictures": False}
    runs = {row: with_values(rings(), {**short, "model.likelihood.scale": b}) for row, b in SCALES.items()}
    low, high = (("narrow", "error"), ("wide", "error"))
    return Setup(
        rows={row: f"b = {b}" for row, b in SCALES.items()},
        runs=runs,
        cells={(row, "error"): Logged(run=row, metric="test/squared_error") for row in runs}
        | {(row, "norm"): Evaluated(run=row, value="reconstruction_norm") for row in runs},
        claims=(Less(text="a narrow likelihood reconstructs better", place="table 1", low=low, high=high),),
        plan=EvaluationPlan.model_validate({"evaluators": [{"kind": "norms"}]}),
    )


TABLE = Reproduction(
    name="lighthouse/table-1",
    summary="The likelihood's scale and the error.",
    columns=(Column(name="error", heading="squared error"), Column(name="norm", heading="|E[x|z]|")),
    build=build,
)
