"""A digest of one study's table: two stages on the digits, in turn and in fused lanes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from tuning.local import StageResult, run_study
from tuning.study import StudyConfig

_BASE: dict[str, Any] = {
    "data": {"name": "digits"},
    "model": {
        "latent": 4,
        "backbone": {"kind": "mlp", "hidden": [32]},
        "likelihood": {"kind": "gaussian", "sigma": 0.2},
    },
    "epochs": 2,
    "batch_size": 64,
    "evaluation": {"pictures": False},
}
_RATES: dict[str, Any] = {"name": "rates", "space": {"optimizer.lr": [1e-4, 1e-3, 1e-2]}, "repeats": [0, 1]}
_BETAS: dict[str, Any] = {
    "name": "betas",
    "space": {"beta.value": {"kind": "log-uniform", "low": 0.1, "high": 2.0}},
    "search": {"kind": "random", "trials": 3, "seed": 5},
    "metric": "val/rate",
    "mode": "min",
}
_WIDTHS = {"study/in-turn": 1, "study/fused": 6}  # lanes at a time


def digests(dtype: str) -> dict[str, dict[str, str]]:
    """Return {"study/in-turn", "study/fused": {"table": SHA-256, "loss": the winner's value, to read}}."""
    torch.set_num_threads(1)
    study = StudyConfig.model_validate({"base": _BASE | {"dtype": dtype}, "stages": [_RATES, _BETAS]})
    found = {}
    for name, width in _WIDTHS.items():
        with tempfile.TemporaryDirectory(prefix="vaesvc-golden-") as folder:
            results = run_study(study, Path(folder), width=width)
        table = json.dumps([_rows(result) for result in results], sort_keys=True)
        winner = results[-1].winner
        found[name] = {
            "table": hashlib.sha256(table.encode()).hexdigest(),
            "loss": repr(None if winner is None else winner.mean),
        }
    return found


def _rows(result: StageResult) -> dict[str, Any]:
    """What a study's table is made of: the candidates in their order, and every trial's evaluations."""
    ranked = [[c.number, dict(c.assignment), c.values, c.states, c.mean, c.standard_error] for c in result.ranked]
    trials = {
        number: [outcome.state, outcome.value, outcome.steps, _evaluations(outcome.metrics)]
        for number, outcome in sorted(result.outcomes.items())
    }
    return {"stage": result.stage.name, "ranked": ranked, "trials": trials}


def _evaluations(metrics: Any) -> dict[str, float]:
    """Without speeds."""
    return {name: value for name, value in metrics.items() if name.partition("/")[0] in ("val", "test")}
