"""Evaluations of several runs in one pass over the data: each has what it has alone, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.data.batching import Indices, Reader, Resident
from vae_models.data.residency import Residence
from vae_models.training.context import LocalContext
from vae_models.training.evaluation import NotFinite, Subject, evaluate, evaluate_together
from vae_models.training.loop import Run
from vae_models.training.together import evaluate_runs, make_evaluations

SIZE, BATCH = 25, 10  # three batches, the last of which is not full


class Counted:
    """A split that counts the batches that are read of it."""

    def __init__(self, split: Resident) -> None:
        self._split, self.batches = split, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._split, name)

    def __len__(self) -> int:
        return len(self._split)

    def reader(self, indices: Indices, *, rows: slice = slice(None), end: int) -> Reader:
        reader, counted = self._split.reader(indices, rows=rows, end=end), self

        class Reading:
            def batch(self, step: int, noise: Mapping[str, Tensor]) -> Tensor:
                counted.batches += 1
                return reader.batch(step, noise)

            def close(self) -> None:
                reader.close()

        return Reading()


def runs(
    folder: Path,
    *,
    seeds: tuple[int, ...],
    binarize: str = "threshold",
    betas: tuple[float, ...] = (),
    stops: bool = False,
) -> list[Run]:
    """Return runs of one residence, whose weights differ; stops: the first one's context asks to stop."""
    x = torch.randint(0, 256, (SIZE, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = Dataset(name="digits", shape=(1, 8, 8), train=Split(x=x), val=Split(x=x), test=Split(x=x[:12]))
    residence: Residence | None = None
    made = []
    for number, seed in enumerate(seeds):
        config = TrainConfig.model_validate(
            {
                "data": {"name": "digits", "binarize": binarize},
                "model": {"latent": 2, "backbone": {"kind": "mlp", "hidden": [8]}, **({"gating": {}} if betas else {})},
                **({"beta": {"kind": "log-uniform"}} if betas else {}),
                "steps": 3,
                "batch_size": 10,
                "seed": seed,
                "evaluation": {"batch_size": BATCH, "every_epochs": 1, "pictures": False, "betas": betas},
            }
        )
        asked = stops and number == 0
        context = LocalContext(folder / f"{number}", stop=lambda asked=asked: asked)
        run = Run(config, context, data, residence=residence)
        residence = run.splits
        with torch.no_grad():
            for parameter in run.parameters:
                parameter.add_(0.01 * number)
        run.model.train()
        made.append(run)
    return made


@pytest.mark.parametrize(("binarize", "readings", "betas"), [("threshold", 1, (1.0, 4.0)), ("dynamic", 2, ())])
def test_each_has_what_it_has_alone_of_batches_that_are_read_once(
    binarize: str, readings: int, betas: tuple[float, ...], tmp_path: Path
) -> None:
    """Data that are drawn are other data for another seed, and read for each of the two."""
    lanes = runs(tmp_path, seeds=(0, 0, 5), binarize=binarize, betas=betas)
    alone = [
        evaluate(run.model, run.val_data, run.config.evaluation, name="val", source=run.noise, betas=run.betas_due())
        for run in lanes
    ]
    split = Counted(lanes[0].val_data)
    subjects = [Subject(model=run.model, source=run.noise, betas=run.betas_due()) for run in lanes]
    assert evaluate_together(subjects, split, name="val", size=BATCH) == alone
    assert split.batches == 3 * readings
    assert alone[0] != alone[1] != alone[2]
    assert all(run.model.training for run in lanes)


def test_one_that_is_not_finite_says_so_and_the_others_have_their_numbers(tmp_path: Path) -> None:
    lanes = runs(tmp_path, seeds=(0, 1))
    with torch.no_grad():
        lanes[0].parameters[0].fill_(float("nan"))
    subjects = [Subject(model=run.model, source=run.noise) for run in lanes]
    wrong, right = evaluate_together(subjects, lanes[0].val_data, name="val", size=BATCH) or []
    assert isinstance(wrong, NotFinite)
    assert (wrong.metric, wrong.data) == ("val/elbo", tuple(range(BATCH)))
    settings = lanes[1].config.evaluation
    assert right == evaluate(lanes[1].model, lanes[1].val_data, settings, name="val", source=lanes[1].noise)


def test_whoever_is_asked_to_stop_has_no_evaluation_and_the_others_make_theirs(tmp_path: Path) -> None:
    lanes = runs(tmp_path, seeds=(0, 1), stops=True)
    for run in lanes:
        run.at.step = 3
    evaluate_runs(lanes, "val")
    assert lanes[0].made == {"val": None}
    assert lanes[1].made == {}


def test_evaluations_that_are_not_due_are_not_made(tmp_path: Path) -> None:
    """At the end the test split is one of them; a run that has reported its own makes none."""
    lanes = runs(tmp_path, seeds=(0, 1, 2))
    make_evaluations(lanes)
    assert [run.made for run in lanes] == [{}, {}, {}]
    for run in lanes:
        run.at.step = 3
    lanes[2].at.evaluated = 3
    make_evaluations(lanes)
    assert [list(run.made) for run in lanes] == [["val", "test"], ["val", "test"], []]
