"""A study in this process, whose trials one pack takes: all in a folder, and a second call goes on from there."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from tuning import curves, pack, winners
from tuning.pruners.rules import Memory
from tuning.study import Outcome, StageConfig, StudyConfig, Trial, known, planned_steps
from tuning.winners import Candidate
from tuning.work_queue import WorkQueue
from vae_models import data
from vae_models.config.train import TrainConfig
from vae_models.records import Progress
from vae_models.training.context import LocalContext
from vae_models.training.errors import TrainingError
from vae_models.training.lanes import Widths

RESULT = "result.json"


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """ranked: best first; winner: None when no assignment was trained to its end with every seed."""

    stage: StageConfig
    trials: Sequence[Trial]
    outcomes: Mapping[int, Outcome]
    ranked: Sequence[Candidate]
    winner: Candidate | None
    widths: Widths = field(default_factory=Widths)


@dataclass(frozen=True, kw_only=True)
class StudyProgress:
    """Of one stage: steps and total_steps are sums over its trials that have not ended before; width: lanes at a time,
    0 before it is known; seconds_left: None before the first steps."""

    stage: str
    ended: int
    trials: int
    steps: int
    total_steps: int
    width: int
    seconds_left: float | None


def run_study(
    study: StudyConfig,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    dataset: data.Dataset | None = None,
    width: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[StudyProgress], None] = lambda progress: None,
) -> list[StageResult]:
    """Run every stage, each from the winner of the one before; end early at a stage without a winner, or when stopped.

    out: `<stage>/trial-0007/` is the folder of one trial as `vaesvc run` keeps it. A trial that has ended is not run
    again. dataset: instead of loading those that the configurations name. width: see `train_pack`.
    """
    run = _Runner(out=out, device=device, dataset=dataset, width=width, stop=stop, say=say, on_progress=on_progress)
    results: list[StageResult] = []
    base = study.base
    for stage in study.stages:
        result = run.stage(stage, base)
        results.append(result)
        curves.write(result.stage, result.trials, result.outcomes, out / stage.name / "curve.png")
        if result.winner is None or stop():
            break
        base = next(t.config for t in result.trials if t.candidate == result.winner.number)
    return results


def read_study(study: StudyConfig, out: Path) -> list[StageResult]:
    """Return what `run_study` has left in `out` so far; run nothing."""
    results: list[StageResult] = []
    base = study.base
    for stage in study.stages:
        every, outcomes = _known(stage, base, out / stage.name)
        result = _result(stage, every, outcomes, Widths())
        results.append(result)
        if result.winner is None:
            break
        base = next(t.config for t in every if t.candidate == result.winner.number)
    return results


def folder_of(out: Path, trial: Trial) -> Path:
    return out / f"trial-{trial.number:04d}"


@dataclass(frozen=True, kw_only=True)
class _Runner:
    out: Path
    device: torch.device | str
    dataset: data.Dataset | None
    width: int | None
    stop: Callable[[], bool]
    say: Callable[[str], None]
    on_progress: Callable[[StudyProgress], None]

    def stage(self, stage: StageConfig, base: TrainConfig) -> StageResult:
        out = self.out / stage.name
        widths = Widths()
        while True:
            every, outcomes = _known(stage, base, out)
            left = [trial for trial in every if trial.number not in outcomes]
            if not left or self.stop():
                return _result(stage, every, outcomes, widths)
            self._train(stage, every, outcomes, left, widths)

    def _train(
        self,
        stage: StageConfig,
        every: Sequence[Trial],
        outcomes: Mapping[int, Outcome],
        left: Sequence[Trial],
        widths: Widths,
    ) -> None:
        out = self.out / stage.name
        progress = _Progress(stage.name, len(outcomes), stage.planned(), left, widths, self.on_progress)
        queue = WorkQueue(pack.units(left, stage), 1)
        pack.train(
            stage, partial(queue.take, 0), lambda trial: self._context(folder_of(out, trial), trial, progress),
            assignments=stage.side_by_side(len({trial.candidate for trial in every})),
            load=lambda config: self.dataset or data.load(config), width=self.width, widths=widths,
            rungs=FileRungs(out / "rungs.jsonl"), stopping=self.stop,
            on_end=lambda trial, outcome: _write(folder_of(out, trial), outcome),
        )  # fmt: skip

    def _context(self, folder: Path, trial: Trial, progress: _Progress) -> LocalContext:
        kept = trial.config.checkpoint
        return LocalContext(
            folder,
            start_from=None if trial.origin is None else folder.parent / f"trial-{trial.origin.partition('-')[0]}",
            device=self.device,
            keep_best=kept.keep_best,
            goal=kept.goal,
            stop=self.stop,
            say=self.say,
            on_progress=partial(progress.of, trial.number),
        )


class _Progress:
    """The lanes' reports, added up. left: the trials that are to be trained, begun or not."""

    def __init__(
        self,
        stage: str,
        ended: int,
        trials: int,
        left: Sequence[Trial],
        widths: Widths,
        tell: Callable[[StudyProgress], None],
    ) -> None:
        self._stage, self._ended, self._trials, self._widths, self._tell = stage, ended, trials, widths, tell
        self._planned = {trial.number: planned_steps(trial.config) for trial in left}
        self._reports: dict[int, Progress] = {}
        self._began: tuple[float, int] | None = None

    def of(self, number: int, report: Progress) -> None:
        self._reports[number] = report
        known = list(self._reports.values())
        steps = sum(progress.step for progress in known)
        begun = sum(progress.total_steps for progress in known)
        total = round(begun / max(1, sum(self._planned[each] for each in self._reports)) * sum(self._planned.values()))
        now = time.monotonic()
        if self._began is None:
            self._began = (now, steps)
        began, first = self._began
        done = steps - first
        self._tell(
            StudyProgress(
                stage=self._stage,
                ended=self._ended + sum(progress.step >= progress.total_steps for progress in known),
                trials=self._trials,
                steps=steps,
                total_steps=total,
                width=self._widths.chosen or 0,
                seconds_left=(now - began) / done * (total - steps) if done > 0 else None,
            )
        )


class FileRungs:
    """Rungs that the next call finds again: a line of JSON for each record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory = Memory()
        if path.exists():
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):  # cut off by a crash
                    self._memory.record(*json.loads(line))

    def record(self, rung: int, candidate: int, score: float) -> Sequence[float]:
        with self._path.open("a") as file:
            file.write(json.dumps([rung, candidate, score]) + "\n")
        return self._memory.record(rung, candidate, score)


def _known(stage: StageConfig, base: TrainConfig, out: Path) -> tuple[list[Trial], dict[int, Outcome]]:
    return known(stage, base, lambda trial: _read(folder_of(out, trial)))


def _result(stage: StageConfig, every: Sequence[Trial], outcomes: Mapping[int, Outcome], widths: Widths) -> StageResult:
    ranked = winners.rank(every, outcomes, stage.goal)
    won = winners.winner(ranked)
    return StageResult(stage=stage, trials=every, outcomes=outcomes, ranked=ranked, winner=won, widths=widths)


def _read(folder: Path) -> Outcome | None:
    """Return how the trial ended; None while it has not. Raise TrainingError where the file is damaged."""
    path = folder / RESULT
    try:
        return Outcome(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(
            f"{path} is damaged ({error}): delete it, and the trial is trained to its end again"
        ) from error


def _write(folder: Path, outcome: Outcome) -> None:
    partial = folder / f".{RESULT}"
    partial.write_text(json.dumps(vars(outcome)) + "\n")
    partial.replace(folder / RESULT)
