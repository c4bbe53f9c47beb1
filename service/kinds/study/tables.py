"""Stages of a study as tables of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.cli import output
from service.kinds.study.messages import StudyStage
from service.kinds.study.text import assignment
from service.wire import Table

if TYPE_CHECKING:
    from tuning.local import StageResult

OVER = ("done", "pruned", "failed")


def of_results(results: Sequence[StageResult]) -> list[StudyStage]:
    from service.kinds.study.stages import view

    return [view(result.stage, result.trials, result.outcomes, result.ranked, result.winner) for result in results]


def of(stage: StudyStage) -> Table:
    """Return the stage's trials as a table, best first."""
    rows = tuple(
        (
            str(trial.number),
            trial.state,
            output.number(trial.value, 4),
            f"{trial.steps:,}",
            str(trial.seed),
            assignment(trial.assignment) + ("" if trial.origin is None else f", from trial {trial.origin}"),
        )
        for trial in stage.trials
    )
    return Table(title=_title(stage), header=("TRIAL", "STATE", stage.metric, "STEPS", "SEED", "VALUES"), rows=rows)


def _title(stage: StudyStage) -> str:
    over = [trial for trial in stage.trials if trial.state in OVER]
    return f"{stage.name}: {len(over)} of {len(stage.trials)} trials ended, best {stage.metric} first ({stage.mode})"


def show(stages: Sequence[StudyStage], *, json: bool) -> None:
    if json:
        output.as_json([stage.model_dump(mode="json") for stage in stages])
        return
    for stage in stages:
        output.data(_title(stage))
        table = of(stage)
        output.table(table.header, table.rows)
        for error in dict.fromkeys(trial.error for trial in stage.trials if trial.error):
            output.data(f"failed: {error}")
        _show_means(stage)
        output.data("")


def _show_means(stage: StudyStage) -> None:
    if any(len(candidate.values) > 1 for candidate in stage.candidates):
        output.data("")
        rows = [
            (
                output.number(each.mean, 4),
                output.number(each.standard_error, 4),
                str(len(each.values)),
                "" if each.complete else "incomplete",
                assignment(each.assignment),
            )
            for each in stage.candidates
        ]
        output.table(("MEAN", "STANDARD ERROR", "SEEDS", "", "VALUES"), rows)
    won = next((each for each in stage.candidates if each.number == stage.winner), None)
    if won is not None:
        error = "" if won.standard_error is None else f" +- {won.standard_error:.2g}"
        output.data(f"winner: {assignment(won.assignment)}, mean {output.number(won.mean, 4)}{error}")
    elif all(trial.state in OVER for trial in stage.trials):
        output.data("winner: none, no assignment was trained to its end with every seed")
