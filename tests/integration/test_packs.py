"""Packs that take a stage's trials from one queue: what one leaves another takes over, and none counts twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from service.kinds.study.board import Board
from tuning import pack
from tuning.pack import units
from tuning.pruners.rules import Memory
from tuning.study import Outcome, StudyConfig, Trial, trials
from vae_models import data
from vae_models.records import Progress
from vae_models.training.context import LocalContext
from vae_models.training.lanes import Widths
from vae_models.training.loop import train

BASE: dict[str, Any] = {
    "data": {"name": "digits"},
    "model": {
        "latent": 4, "backbone": {"kind": "mlp", "hidden": [16]}, "likelihood": {"kind": "gaussian", "sigma": 0.2},
    },
    "steps": 40,
    "batch_size": 64,
    "log_every_steps": 10,
    "evaluation": {"pictures": False, "test": False},
    "checkpoint": {"every_steps": 10},
}  # fmt: skip


class KilledError(Exception):
    """The process of a pack ends here."""


class Stage:
    """A stage and its board, as two packs see it. Trials are named on the board by their numbers."""

    def __init__(self, folder: Path, **stage: Any) -> None:
        fields = {"name": "rates", "space": {"optimizer.lr": [1e-3, 2e-3]}, "repeats": [0, 1, 2]} | stage
        study = StudyConfig.model_validate({"base": BASE, "stages": [fields]})
        self.config, self.folder = study.stages[0], folder
        self.trials = list(trials(self.config, study.base))
        self.rungs = Memory()
        self.outcomes: dict[int, Outcome] = {}
        self.ended: Counter[int] = Counter()
        self.board = Board()
        order = {id(trial): trial.number for trial in self.trials}
        shares = [
            [[order[id(trial)] for trial in unit] for unit in of_one] for of_one in units(self.trials, self.config)
        ]
        self.board.offer(shares, 2)  # type: ignore[arg-type]

    def train(self, number: int, context: type[LocalContext] = LocalContext, **more: Any) -> Widths:
        """Do what a pack's process does."""
        widths = Widths()
        begun = [self.trials[each] for each in self.board.taken(number) if each not in self.outcomes]  # type: ignore[index]

        def take(most: int, running: int) -> Sequence[Trial]:
            return [self.trials[each] for each in self.board.take(number, most, running)]  # type: ignore[index]

        def on_end(trial: Trial, outcome: Outcome) -> None:
            self.outcomes[trial.number] = outcome
            self.ended[trial.number] += 1

        pack.train(
            self.config, take, lambda trial: context(self.folder / str(trial.number)), begun=begun,
            assignments=len({trial.candidate for trial in self.trials}), load=data.load, widths=widths,
            rungs=self.rungs, stopping=lambda: False, on_end=on_end, **{"width": 1} | more,
        )  # fmt: skip
        return widths

    def values(self) -> dict[int, float | None]:
        return {number: self.outcomes[number].value for number in sorted(self.outcomes)}

    def alone(self, folder: Path) -> dict[int, float]:
        every = {t.number: train(t.config, LocalContext(folder / str(t.number))) for t in self.trials}
        return {number: result.metrics["val/elbo"] for number, result in every.items()}


def test_what_a_pack_is_slow_to_begin_the_other_trains(tmp_path: Path) -> None:
    """One is held up in its first trial until the other is through: the other has trained all the rest."""
    stage = Stage(tmp_path / "packs")
    begun, go_on = threading.Event(), threading.Event()

    class Slow(LocalContext):
        def progress(self, progress: Progress) -> None:
            begun.set()
            assert go_on.wait(120)
            super().progress(progress)

    slow = threading.Thread(target=partial(stage.train, 0, Slow))
    slow.start()
    assert begun.wait(120)
    stage.train(1)
    go_on.set()
    slow.join(120)
    assert [len(stage.board.taken(number)) for number in (0, 1)] == [1, 5]
    assert stage.ended == Counter(range(6))
    assert stage.values() == stage.alone(tmp_path / "alone")


def test_on_a_node_that_is_drained_no_trial_begins_and_the_other_pack_has_them_all(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "packs")
    first = stage.board.take(0, 1, 0, "drained")
    stage.board.keep_away(["drained"])
    assert stage.board.drained() == ["drained"]
    assert [stage.board.take(0, 3, running, "drained") for running in (1, 0)] == [[], []]
    assert [stage.board.closed(node) for node in ("drained", "other")] == [True, False]
    others = list[Any]()
    while handed := stage.board.take(1, 3, 0, "other"):
        others += handed
    assert sorted([*first, *others]) == list(range(6))
    stage.board.keep_away([])
    assert not stage.board.closed("drained")


@pytest.mark.parametrize("width", [1, 3])
def test_a_killed_pack_has_its_own_again_and_the_other_the_rest(tmp_path: Path, width: int) -> None:
    """Killed in its second checkpoint: what it had begun waits for its next process, what it had not is taken over."""
    stage = Stage(tmp_path / "packs")

    class Mortal(LocalContext):
        def save_checkpoint(self, step: int, *rest: Any, **more: Any) -> None:
            super().save_checkpoint(step, *rest, **more)
            if step == 20:
                raise KilledError

    with pytest.raises(KilledError):
        stage.train(0, Mortal, width=width)
    had = stage.board.taken(0)
    assert len(had) == width
    stage.train(1, width=width)
    assert stage.ended == Counter(set(range(6)) - set(had))  # type: ignore[arg-type]
    stage.train(0, width=width)
    assert stage.ended == Counter(range(6))
    expected = stage.alone(tmp_path / "alone")
    assert stage.values() == pytest.approx(expected, rel=0 if width == 1 else 1e-4)


def test_lengths_that_differ_are_shared_out_by_what_is_left(tmp_path: Path) -> None:
    """The longest begins first; with it in hand for as long as all others take, one pack trains it alone."""
    stage = Stage(tmp_path / "packs", space={"steps": [20, 40, 200]}, repeats=[0, 1])
    first = stage.board.take(0, 1, 0)
    assert [stage.trials[each].config.steps for each in first] == [200]  # type: ignore[index]
    stage.train(1)
    stage.train(0)
    assert stage.ended == Counter(range(6))
    assert [outcome.steps for _, outcome in sorted(stage.outcomes.items())] == [20, 20, 40, 40, 200, 200]
    assert len(stage.board.taken(0)) == 1


def test_assignments_that_come_to_a_rung_one_after_another(tmp_path: Path) -> None:
    """Under ASHA the seeds of an assignment begin together, the next when they have ended, with all rungs known."""
    space = {"optimizer.lr": [3e-3, 1e-7, 2e-7]}
    stage = Stage(tmp_path / "packs", space=space, repeats=[0, 1], pruning={"kind": "asha", "epochs": 0.5, "factor": 2})
    stage.train(0)
    assert [stage.outcomes[number].state for number in range(6)] == ["done"] * 2 + ["pruned"] * 4


@pytest.mark.parametrize("gains", [False, True])
def test_no_more_is_begun_than_fusing_gains_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, gains: bool
) -> None:
    """Where stacks of two and of four gain nothing, the next trial begins when these have ended; else the whole share
    is one stack.
    """
    ticks = count()
    monkeypatch.setattr("vae_models.training.lanes._clock", lambda runs: lambda: float(next(ticks)) if gains else 0.0)
    stage = Stage(tmp_path / "packs", repeats=[0, 1, 2, 3, 4])
    take, taken = stage.board.take, list[tuple[int, int]]()

    def noted(number: int, most: int, running: int) -> Any:
        handed = take(number, most, running)
        taken.append((running, len(handed)))
        return handed

    monkeypatch.setattr(stage.board, "take", noted)
    widths = stage.train(0, width=None)
    assert stage.ended == Counter(range(10))
    assert [many for _, many in taken][:4] == [1, 1, 2, 1]
    assert [running for running, _ in taken][:4] == ([0, 1, 2, 4] if gains else [0, 1, 2, 0])
    assert widths.chosen == (5 if gains else 1)
