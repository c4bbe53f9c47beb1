"""What one trial reports: its metrics to its own run in MLflow, its checkpoints to the study's storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.attempt.context import own_folder
from service.errors import NotFoundError
from service.queue.jobs import Checkpoint
from service.tracking import TrialRun
from tuning.study import Trial
from vae_models.records import Progress
from vae_models.training.errors import CorruptCheckpoint

if TYPE_CHECKING:
    from service.kinds.study.ray_process import PackProcess


def trial_run(stage: str, trial: Trial) -> TrialRun:
    return TrialRun(
        stage=stage,
        number=trial.number,
        key=trial.key,
        candidate=trial.candidate,
        seed=trial.seed,
        assignment=trial.assignment,
        config=trial.config.model_dump(mode="json"),
    )


class TrialReports:
    """The `Reports` of one trial in this process; of the first rank of a group that trains one."""

    def __init__(
        self, shared: PackProcess, trial: Trial, kept: Sequence[tuple[int, str]], start_from: Checkpoint | None
    ) -> None:
        """Keep the trial. kept: (step, address) of its checkpoints, newest first. start_from: see `Work.start_from`."""
        self.trial = trial
        self.scratch = own_folder(shared.scratch / f"trial-{trial.number:04d}")
        self.run = trial_run(shared.stage, trial)
        self.writer = shared.writer(self.run)
        self.latest: Progress | None = None
        self.first_step = 0 if start_from is None else start_from.step
        self._shared = shared
        self._kept = kept

    def candidates(self) -> Iterator[Checkpoint]:
        for step, uri in self._kept:
            try:
                yield self._shared.storage.described(uri, self._shared.number)
            except (NotFoundError, CorruptCheckpoint) as error:
                self.note(f"the checkpoint of step {step} is not used: {error}")

    def resumed(self, chosen: Checkpoint) -> None:
        self.note(f"goes on from step {chosen.step} ({chosen.uri})")
        self._shared.uploads.resumed(self.trial.key, chosen)

    def note(self, text: str) -> None:
        self._shared.note(f"trial {self.trial.number}: {text}")

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.writer is not None:
            self.writer.log_metrics(step, metrics)

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        if self.writer is not None:
            self.writer.log_picture(step, name, png)

    def progress(self, progress: Progress) -> None:
        self.latest = progress

    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        self._shared.check()
        self._shared.uploads.checkpoint(self.trial.key, step, directory, metrics)

    def stop_requested(self) -> bool:
        self._shared.check()
        return self._shared.stopping
