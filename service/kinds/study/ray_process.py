"""What the trials of one process on the cluster have in common: the board, uploads, the machine's load, the end."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.attempt.assignment import Assignment, spool_uri_parts
from service.errors import VaesvcError
from service.kinds.study.storage import StageStorage
from service.kinds.study.uploads import TrialUploads
from service.tracking import SystemMonitor, TrialRun
from tuning.study import Outcome
from vae_models.records import Progress
from vae_models.training.context import Fenced

if TYPE_CHECKING:
    from service.kinds.study.trial import TrialReports
    from service.tracking import LaneWriter, PackWriter

_REPORT_SECONDS = 1.0
_MLFLOW_SECONDS = 30.0  # for the last metrics of all lanes; what is left is delivered by the dispatcher
_HURRIED_SECONDS = 3.0  # the same, when the study is about to be ended
_BOARD_SECONDS = 30.0
_CLOSERS = 8
_GATHER_SECONDS = 2.0  # many runs share the server
_LOAD_SECONDS = 30.0  # between two samples of the machine's load, of which every run gets a copy


class PackProcess:
    """What the trials of one process have in common."""

    def __init__(self, order: Assignment, stage: str, board: Any, storage: StageStorage) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="vaesvc-pack-", dir=Path.cwd()))
        self.artifacts = order.artifacts()
        self.storage = storage
        self.uploads = TrialUploads(self.storage, order.access.number, self.note)
        self.stopping = order.context.job.state.value == "CANCELLING"
        self.stage = stage
        self.number = order.access.number
        self._order = order
        self._board = board
        self._lanes: list[TrialReports] = []
        self._lost: str | None = None
        self._end = threading.Event()
        self._monitor: SystemMonitor | None = None
        self._writer: PackWriter | None = None
        self._reporter = threading.Thread(target=self._report, name="board", daemon=True)

    def start(self) -> None:
        """Start reporting to the board how far the trials are, and learning from it when to stop."""
        self._reporter.start()
        if self._order.context.mlflow_uri is not None:
            since = self._order.context.job.created_at
            self._monitor = SystemMonitor(self._log_load, since=since, every_seconds=_LOAD_SECONDS)

    def add(self, lane: TrialReports) -> None:
        """Take in a trial that begins: from here on the board hears of it."""
        self._lanes.append(lane)

    def note(self, text: str) -> None:
        """Write a line to the attempt's log."""
        print(f"[vaesvc] {self.stage}: {text}", flush=True)  # noqa: T201

    def check(self) -> None:
        """Raise the error of a failed upload, or that the driver is gone."""
        if self._lost is not None:
            raise Fenced(self._lost)
        self.uploads.check()

    def writer(self, run: TrialRun) -> LaneWriter | None:
        """Return a writer to the trial's child run in MLflow, which is opened in the background."""
        from service.tracking import PackWriter, open_trial

        uri, job, number = self._order.context.mlflow_uri, self._order.context.job, self._order.access.number
        if uri is None:
            return None
        if self._writer is None:
            self._writer = PackWriter(uri, self.scratch / "spool.jsonl", gather_seconds=_GATHER_SECONDS)
        return self._writer.add(lambda: open_trial(uri, job, run, number=number))

    def end(self, lane: TrialReports, outcome: Outcome) -> None:
        """Put the trial's final record behind its last checkpoint."""
        self.uploads.result(lane.trial.key, outcome)
        if outcome.error is not None:
            self.note(f"trial {lane.trial.number} failed: {outcome.error}")

    def close(self) -> None:
        """Wait until all of it is in storage and, for a bounded time, in MLflow."""
        self.uploads.close()
        self._end.set()
        if self._monitor is not None:
            self._monitor.close()
        if self._writer is not None:
            spools = self._writer.close(_HURRIED_SECONDS if self.stopping else _MLFLOW_SECONDS)
            with ThreadPoolExecutor(_CLOSERS) as closers:
                list(closers.map(lambda lane: self._deliver(lane, spools), self._lanes))
        self._tell()

    def abandon(self) -> None:
        self._end.set()
        if self._monitor is not None:
            self._monitor.close()
        if self._writer is not None:
            self._writer.abandon()
        self.uploads.abandon()

    def _deliver(self, lane: TrialReports, spools: Mapping[LaneWriter, Path]) -> None:
        """End the trial's run; where something of it is not delivered, leave that in storage for the dispatcher."""
        from service.tracking import end_trial

        uri, access = self._order.context.mlflow_uri, self._order.access
        if lane.writer is None or uri is None:
            return
        spool = spools.get(lane.writer)
        state = self.uploads.states.get(lane.trial.key)
        if spool is None:
            if lane.writer.run_id is not None and state is not None:
                try:
                    end_trial(uri, lane.writer.run_id, state)
                except VaesvcError as error:  # the dispatcher closes it with the study
                    self.note(f"the run of trial {lane.trial.number} is still open: {error}")
        else:
            name = f"{self.stage}-{lane.trial.number}-{access.number}-{time.time_ns()}"
            folder = spool_uri_parts(access.job_id, trials=True)
            run = json.dumps(asdict(lane.run)).encode()
            self.artifacts.put_bytes(self.artifacts.uri(*folder, f"{name}.run.json"), run, "application/json")
            points = spool.read_bytes()
            self.artifacts.put_bytes(self.artifacts.uri(*folder, f"{name}.jsonl"), points, "application/jsonl")

    def _log_load(self, step: int, load: Mapping[str, float]) -> None:
        """Log the machine's load to every trial's run: the machine is the same for all trials of the pack."""
        for lane in self._lanes:
            if lane.writer is not None:
                lane.writer.log_metrics(step, load)

    def _report(self) -> None:
        while not self._end.wait(_REPORT_SECONDS):
            self._tell()

    def _tell(self) -> None:
        import ray

        report = {
            lane.trial.number: _brief(lane.latest, lane.first_step) for lane in self._lanes if lane.latest is not None
        }
        try:
            self.stopping = (
                ray.get(self._board.report.remote(self.stage, report), timeout=_BOARD_SECONDS) or self.stopping
            )
        except ray.exceptions.RayActorError:
            self._lost = "the study's driver is gone"
        except ray.exceptions.RayError:
            return


def _brief(progress: Progress, first_step: int) -> dict[str, Any]:
    """Return the trial's progress, of the steps that it was to do itself."""
    return {
        "step": progress.step - first_step,
        "total_steps": progress.total_steps - first_step,
        "images_per_second": progress.images_per_second,
    }
