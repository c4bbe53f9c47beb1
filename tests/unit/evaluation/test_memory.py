"""What is computed at a time keeps to the memory that a plan gives: counted, and measured of a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import high_water, subjects
from vae_models.evaluation.likelihood import estimate
from vae_models.evaluation.likelihood.nll import NllEvaluator
from vae_models.evaluation.memory import MIB, data_within, rows_within
from vae_models.evaluation.subject import Inapplicable
from vae_models.likelihoods.specs import CategoricalConfig, GaussianConfig
from vae_models.nn.meter import Meter

ROOT = Path(__file__).resolve().parents[3]
BUDGET_MIB = 64


def test_the_meter_counts_what_is_alive_at_once() -> None:
    x = torch.zeros(1000)  # made before: not counted
    with Meter() as meter:
        first = x + 1
        second = first.view(10, 100).exp()  # a view is nothing new
        del first
        third = second + x.view(10, 100)
        third += 1
        row = third[0].clone()
    assert meter.peak == second.nbytes + third.nbytes + row.nbytes == 8400


@pytest.mark.parametrize(("each", "fixed", "budget"), [(1000, 0, MIB), (70_000, 100_000, MIB), (MIB, 0, MIB)])
def test_rows_are_as_many_as_the_budget_has_room_for(each: int, fixed: int, budget: int) -> None:
    def compute(rows: int) -> None:
        kept = torch.ones(fixed, dtype=torch.uint8) if fixed else None
        made = torch.ones(rows * each, dtype=torch.uint8)
        del kept, made

    assert rows_within(budget, compute) == (budget // 3 - fixed) // each


def test_no_room_for_one_sample_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "MIB", 64)  # bytes
    with pytest.raises(Inapplicable, match="takes more than memory_mib, 64: raise it"):
        NllEvaluator(samples=2)(subjects.digits(memory_mib=BUDGET_MIB, limit=3))


PROGRAM = """
import sys
import torch
torch.set_num_threads(1)
from tests import high_water
from vae_models.backbones.specs import ConvConfig, MLPConfig
from vae_models.config.train import TrainConfig
from vae_models.data.records import Dataset, Split
from vae_models.evaluation.likelihood import estimate
from vae_models.evaluation.likelihood.nll import NllEvaluator
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Subject

backbone, budget = sys.argv[1], int(sys.argv[2])
estimate.IN_CACHE_MIB = budget  # the budget alone counts
facts = {"shape": [3, 64, 64], "axes": ["channel", "height", "width"], "support": "bytes", "sizes": [8, 8, 64]}
net = {"kind": "conv", "channels": [16, 16, 16, 16, 16]} if backbone == "conv" else {"kind": "mlp", "hidden": [64]}
config = TrainConfig.model_validate({
    "data": {"name": "mine", "digest": "0" * 64, "facts": facts},
    "model": {"latent": 8, "backbone": net, "likelihood": {"kind": "gaussian"}}, "steps": 1,
})
x = torch.randint(0, 256, (64, 3, 64, 64), dtype=torch.uint8)
split = Split(x=x)
model = config.model.build((3, 64, 64))
dataset = Dataset(name="mine", train=split, val=split, test=split, shape=(3, 64, 64))

def evaluate(limit, samples):
    plan = {"memory_mib": budget, "limit": limit}
    return NllEvaluator(samples=samples)(Subject(model, config, dataset, EvaluationPlan.model_validate(plan)))

evaluate(1, 1)  # what is loaded once is loaded
print(high_water.grown_by(lambda: evaluate(16, 20)))
"""


def grown(backbone: str, budget_mib: int) -> float:
    """MiB that a process of its own needs at most beyond what it needs anyhow, for NLL under a budget."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, backbone, str(budget_mib)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.skipif(not high_water.is_known(), reason="needs Linux's high-water mark")
@pytest.mark.parametrize("backbone", ["mlp", "conv"])
def test_a_process_keeps_to_the_budget(backbone: str) -> None:
    assert grown(backbone, BUDGET_MIB) < BUDGET_MIB
    assert grown(backbone, 4 * BUDGET_MIB) > BUDGET_MIB  # a larger budget is used: else the first says nothing


@pytest.mark.parametrize(
    ("plan", "parameters", "expected"),
    [
        ({"memory_mib": 16, "batch_size": 32768}, 1, 16 * 2**20 // (64 * 8 * 4)),
        ({"memory_mib": 16, "batch_size": 32768}, 256, 16 * 2**20 // (64 * 256 * 8 * 4)),
        ({"memory_mib": 1024, "batch_size": 100}, 1, 100),
    ],
)
def test_a_batch_is_what_the_memory_has_room_for(plan: dict[str, int], parameters: int, expected: int) -> None:
    likelihood = CategoricalConfig() if parameters == 256 else GaussianConfig()
    assert data_within(subjects.digits(likelihood=likelihood, dtype="float32", **plan), 4) == expected


def test_one_datum_is_computed_whatever_it_takes() -> None:
    assert data_within(subjects.digits(memory_mib=16), 10**9) == 1
