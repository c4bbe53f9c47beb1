"""A study in this process: one pack for each stage, everything in a folder, and a second call goes on from there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tuning import winners
from tuning.pruning import Halver
from tuning.study import Halving, StageConfig, StudyConfig, Trial, trials
from tuning.winners import Candidate, Outcome
from vae_models import data
from vae_models.config import TrainConfig
from vae_models.training.context import LocalContext
from vae_models.training.lanes import Decide, Lane, Widths, train_pack

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


def run_study(
    study: StudyConfig,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    dataset: data.Dataset | None = None,
    width: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda text: None,
) -> list[StageResult]:
    """Every stage, each from the winner of the one before; ends early at a stage that nobody won, or when stopped.

    out: `<stage>/trial-0007/` is the folder of one trial as `vaesvc run` keeps it. A trial that has ended is not run
    again. dataset: instead of loading those that the configurations name. width: see `train_pack`.
    """
    results: list[StageResult] = []
    base = study.base
    for stage in study.stages:
        result = _run_stage(stage, base, out / stage.name, device, dataset, width, stop, say)
        results.append(result)
        if result.winner is None or stop():
            break
        base = next(t.config for t in result.trials if t.candidate == result.winner.number)
    return results


def folder_of(out: Path, trial: Trial) -> Path:
    return out / f"trial-{trial.number:04d}"


def _run_stage(
    stage: StageConfig,
    base: TrainConfig,
    out: Path,
    device: torch.device | str,
    given: data.Dataset | None,
    width: int | None,
    stop: Callable[[], bool],
    say: Callable[[str], None],
) -> StageResult:
    every = list(trials(stage, base))
    outcomes = {trial.number: found for trial in every if (found := _read(folder_of(out, trial))) is not None}
    widths = Widths()
    for pack in _packs([trial for trial in every if trial.number not in outcomes]):
        if stop():
            break
        dataset = given or data.load(pack[0].config.data)
        contexts = [_context(folder_of(out, trial), trial.config, device, stop, say) for trial in pack]
        lanes = train_pack(
            [trial.config for trial in pack], contexts, dataset=dataset, width=width,
            decide=_decide(stage, pack, len({trial.candidate for trial in every}), dataset), widths=widths,
        )  # fmt: skip
        for trial, lane in zip(pack, lanes, strict=True):
            outcome = _outcome(lane, stage.metric, stopped_by_user=stop())
            if outcome.state != "missing":
                _write(folder_of(out, trial), outcome)
                outcomes[trial.number] = outcome
    ranked = winners.rank(every, outcomes, stage.mode)
    won = winners.winner(ranked)
    return StageResult(stage=stage, trials=every, outcomes=outcomes, ranked=ranked, winner=won, widths=widths)


def _packs(left: Sequence[Trial]) -> Iterator[list[Trial]]:
    """Trials of one data set in one process."""
    by_data: dict[str, list[Trial]] = {}
    for trial in left:
        by_data.setdefault(trial.config.data.model_dump_json(), []).append(trial)
    yield from by_data.values()


def _context(
    folder: Path, config: TrainConfig, device: torch.device | str, stop: Callable[[], bool], say: Callable[[str], None]
) -> LocalContext:
    kept = config.checkpoint
    return LocalContext(
        folder, device=device, keep_best=kept.keep_best, metric=kept.metric, mode=kept.mode, stop=stop, say=say
    )


def _decide(stage: StageConfig, pack: Sequence[Trial], assignments: int, dataset: data.Dataset) -> Decide:
    if not isinstance(stage.pruning, Halving):
        return lambda step, metrics: ()
    return Halver(
        stage.pruning, pack, metric=stage.metric, mode=stage.mode,
        steps_per_epoch=len(dataset.train.images) / pack[0].config.batch_size, assignments=assignments,
    )  # fmt: skip


def _outcome(lane: Lane, metric: str, *, stopped_by_user: bool) -> Outcome:
    if lane.error is not None:
        return Outcome(state="failed", error=str(lane.error))
    assert lane.result is not None
    value = lane.result.metrics.get(metric)
    if lane.result.stopped:
        return Outcome(state="missing" if stopped_by_user else "pruned", value=value)
    if value is None:
        return Outcome(state="failed", error=f"{metric} was not measured, or not finite")
    return Outcome(state="done", value=value)


def _read(folder: Path) -> Outcome | None:
    try:
        return Outcome(**json.loads((folder / RESULT).read_text()))
    except FileNotFoundError:
        return None


def _write(folder: Path, outcome: Outcome) -> None:
    partial = folder / f".{RESULT}"
    partial.write_text(json.dumps(vars(outcome)) + "\n")
    partial.replace(folder / RESULT)
