"""A pack of trials in a process of its own on the cluster, side by side.

Nothing here holds up a step: what a lane leaves goes on in threads, the newest checkpoint of each lane first, and how a
trial ended is written after its last checkpoint is in storage.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence

import torch

from service.attempt.assignment import Assignment
from service.attempt.context import Copies, WorkerContext
from service.attempt.failures import classify
from service.data.fetch import Bucket
from service.errors import NotFoundError
from service.kinds.study.orders import PackOrder, TrialOrder
from service.kinds.study.ray_process import PackProcess
from service.kinds.study.spec import StudySpec
from service.kinds.study.storage import StageStorage
from service.kinds.study.trial import TrialReports
from service.queue.jobs import Checkpoint
from tuning import pack as packs
from tuning.study import Trial, made
from vae_models import data
from vae_models.config.train import TrainConfig
from vae_models.measures import STORED
from vae_models.training.lanes import Widths

_BOARD_SECONDS = 30.0


def train_pack(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Train those of these trials that have not ended yet. What would fail again is reported to the board."""
    import ray

    try:
        _train_pack(told, share)
    except Exception as error:
        failure = classify(error)
        if not failure.ends_attempt:
            raise  # the process is started again
        ray.get(told.board.fail.remote(failure.text, failure.retryable))


def _train_pack(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    work = Work(told, share)
    torch.set_num_threads(max(1, int(work.spec.resources.cpus_per_worker)))
    if not work.left or work.stopped():
        return
    dataset = data.load(work.left[0].config.data, fetch=Bucket(artifacts=work.artifacts))
    widths = Widths()
    with work.process() as process:
        reports = work.reports(process)
        by_trial = {each.trial.number: each for each in reports}
        contexts = [work.context(each) for each in reports]
        packs.train(
            work.stage, work.left, contexts, assignments=told.assignments, dataset=dataset,
            width=work.spec.lanes, widths=widths, rungs=work.storage, stopping=lambda: process.stopping,
            on_end=lambda trial, outcome: process.end(by_trial[trial.number], outcome),
        )  # fmt: skip
        process.note(f"fused {widths.chosen} at a time; seconds for a step of all, by width: {_short(widths.seconds)}")
        for width, reason in widths.reasons.items():
            process.note(f"{width} lanes cannot be fused: {reason}")
        process.close(reports)


class Work:
    """What a process was ordered to train, and what of it is left."""

    def __init__(self, told: PackOrder, share: Sequence[TrialOrder]) -> None:
        self.order = Assignment.model_validate_json(told.order)
        self.spec = StudySpec.model_validate(self.order.context.job.spec, context=STORED)
        self.stage = self.spec.study.stages[told.stage]
        self.artifacts = self.order.artifacts()
        self.storage = StageStorage(self.artifacts, self.order.access.job_id, self.stage.name)
        self._board = told.board
        base = TrainConfig.model_validate_json(told.base)
        self.ended = self.storage.results()
        self.left = [trial for trial in (made(base, *order) for order in share) if trial.key not in self.ended]

    def stopped(self) -> bool:
        """Return whether the study was asked to stop."""
        import ray

        return bool(ray.get(self._board.report.remote(self.stage.name, {}), timeout=_BOARD_SECONDS))

    @contextlib.contextmanager
    def process(self) -> Iterator[PackProcess]:
        """Yield the pack's process. Its folder goes in the end; after an error nothing more is waited for."""
        process = PackProcess(self.order, self.stage.name, self._board, self.storage)
        try:
            yield process
        except BaseException:
            process.abandon()
            raise
        finally:
            shutil.rmtree(process.scratch, ignore_errors=True)

    def reports(self, process: PackProcess) -> list[TrialReports]:
        """Return the reports of each trial that is left; from here on the board hears of them."""
        kept = self.storage.checkpoints()
        reports = [TrialReports(process, trial, kept.get(trial.key, []), self.start_from(trial)) for trial in self.left]
        process.start(reports)
        return reports

    def context(self, reports: TrialReports) -> WorkerContext:
        """Return the context of a trial that this process trains alone."""
        return WorkerContext(
            rank=0, world_size=1, scratch=reports.scratch, reports=reports,
            device=torch.device("cuda" if self.spec.resources.gpus_per_worker > 0 else "cpu"),
            copies=Copies(self.artifacts, reports.scratch / "copies"), start_from=self.start_from(reports.trial),
        )  # fmt: skip

    def start_from(self, trial: Trial) -> Checkpoint | None:
        """Return another trial's checkpoint that this one starts from. Raises NotFoundError if gone: from zero it were
        another."""
        if trial.origin is None:
            return None
        record = self.ended.get(trial.origin)
        if record is None or record.checkpoint is None:
            raise NotFoundError(
                f"trial {trial.number} of stage {self.stage.name} goes on from trial {trial.origin}, of which no "
                "checkpoint is in storage: submit the study again"
            )
        return record.checkpoint


def _short(seconds: Mapping[int, float]) -> str:
    return ", ".join(f"{width}: {value:.3g}" for width, value in seconds.items()) or "not measured"
