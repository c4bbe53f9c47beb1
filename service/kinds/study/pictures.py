"""Pictures of several studies in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import NotFoundError
from service.kinds.study.messages import StudyDetail, StudyStage

if TYPE_CHECKING:
    from tuning.curves import Curve


def compare(studies: Sequence[StudyDetail], out: Path) -> Path:
    """Draw one picture of several studies. Raises NotFoundError where one has no rates over beta."""
    from tuning import curves

    lines = []
    for study in studies:
        last = [curve for stage in study.stages if (curve := _curve(f"{study.job.name} {study.job.id}", stage))][-1:]
        if not last:
            raise NotFoundError(
                f"study {study.job.id} has no rates over beta yet: it needs trials that ended, of a stage over "
                "beta.value or of a multi-rate model that is evaluated at several beta (evaluation.betas)"
            )
        lines += last
    path = out / f"{'-with-'.join(study.job.id for study in studies)}.png"
    curves.compare(lines, path)
    return path


def _curve(name: str, stage: StudyStage) -> Curve | None:
    """Return the curve of all trials trained for a beta of their own; of multi-rate trials the winner's."""
    from tuning import curves

    done = [trial for trial in stage.trials if trial.state == "done"]
    every = curves.curve(name, [(trial.assignment, trial.metrics) for trial in done])
    if every is None or not every.continuous:
        return every
    return curves.curve(name, [(t.assignment, t.metrics) for t in done if t.candidate == stage.winner])
