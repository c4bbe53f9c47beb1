"""A pack of trials in a process of its own on the cluster: their checkpoints to S3, their metrics to child runs.

Nothing here holds up a step: what a lane leaves goes on in threads, the newest checkpoint of each lane first, and how a
trial ended is written after its last checkpoint is in storage.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from service.artifacts import Artifacts
from service.attempt.assignment import Assignment, spool_uri_parts
from service.attempt.failures import classify
from service.data.fetch import Bucket
from service.errors import NotFoundError, VaesvcError
from service.kinds.study.orders import PackOrder, TrialOrder
from service.kinds.study.spec import StudySpec
from service.kinds.study.storage import StageStorage, TrialRecord
from service.queue.jobs import Checkpoint
from service.retry import patiently
from service.tracking import SystemMonitor, TrialRun
from tuning import pack as packs
from tuning.study import Outcome, Trial, made
from vae_models import data
from vae_models.config.train import TrainConfig
from vae_models.measures import STORED
from vae_models.records import Progress
from vae_models.training.context import Fenced
from vae_models.training.errors import CheckpointError
from vae_models.training.lanes import Widths

if TYPE_CHECKING:
    from service.tracking import RunWriter

T = TypeVar("T")

_REPORT_SECONDS = 1.0
_MLFLOW_SECONDS = 30.0  # for the last metrics of all lanes; what is left is delivered by the dispatcher
_HURRIED_SECONDS = 3.0  # the same, when the study is about to be ended
_BOARD_SECONDS = 30.0
_PATIENCE_SECONDS = 900.0  # storage may be away this long before the pack fails
_CLOSERS = 8
_GATHER_SECONDS = 2.0  # many runs share the server
_LOAD_SECONDS = 30.0  # between two samples of the machine's load, of which every run gets a copy


def train_pack(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Trains those of these trials that have not ended yet. What would fail again is told to the board."""
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
        lanes = work.contexts(process)
        by_trial = {lane.trial.number: lane for lane in lanes}
        packs.train(
            work.stage, work.left, lanes, assignments=told.assignments, dataset=dataset,
            width=work.spec.lanes, widths=widths, rungs=work.storage, stopping=lambda: process.stopping,
            on_end=lambda trial, outcome: process.end(by_trial[trial.number], outcome),
        )  # fmt: skip
        process.note(f"fused {widths.chosen} at a time; seconds for a step of all, by width: {_short(widths.seconds)}")
        for width, reason in widths.reasons.items():
            process.note(f"{width} lanes cannot be fused: {reason}")
        process.close(lanes)


class Work:
    """What a process was told to train, and what of it is left."""

    def __init__(self, told: PackOrder, share: Sequence[TrialOrder]) -> None:
        self.order = Assignment.model_validate_json(told.order)
        self.spec = StudySpec.model_validate(self.order.context.job.spec, context=STORED)
        self.stage = self.spec.study.stages[told.stage]
        self.artifacts = Artifacts(self.order.context.storage)
        self.storage = StageStorage(self.artifacts, self.order.access.job_id, self.stage.name)
        self._board = told.board
        base = TrainConfig.model_validate_json(told.base)
        self.ended = self.storage.results()
        self.left = [trial for trial in (made(base, *one) for one in share) if trial.key not in self.ended]

    def stopped(self) -> bool:
        """Whether the study was asked to stop."""
        import ray

        return bool(ray.get(self._board.report.remote(self.stage.name, {}), timeout=_BOARD_SECONDS))

    @contextlib.contextmanager
    def process(self) -> Iterator[PackProcess]:
        """Its folder goes in the end; after an error nothing more is waited for."""
        process = PackProcess(self.order, self.stage.name, self._board, self.storage)
        try:
            yield process
        except BaseException:
            process.abandon()
            raise
        finally:
            shutil.rmtree(process.scratch, ignore_errors=True)

    def contexts(self, process: PackProcess) -> list[TrialContext]:
        """One for each trial that is left; from here on the board hears of them."""
        kept = self.storage.checkpoints()
        found = [
            TrialContext(process, trial, kept.get(trial.key, []), self.spec, self.origin(trial)) for trial in self.left
        ]
        process.start(found)
        return found

    def origin(self, trial: Trial) -> Checkpoint | None:
        """Of another trial, what this one starts from. NotFoundError where it is gone: from zero it were another."""
        if trial.origin is None:
            return None
        record = self.ended.get(trial.origin)
        if record is None or record.checkpoint is None:
            raise NotFoundError(
                f"trial {trial.number} of stage {self.stage.name} goes on from trial {trial.origin}, of which no "
                "checkpoint is in storage: submit the study again"
            )
        return record.checkpoint


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


def _short(seconds: Mapping[int, float]) -> str:
    return ", ".join(f"{width}: {value:.3g}" for width, value in seconds.items()) or "not measured"


class TrialContext:
    """A `RunContext` for one trial in this process; for the first rank of a group that trains one."""

    rank = 0
    world_size = 1

    def __init__(
        self,
        shared: PackProcess,
        trial: Trial,
        kept: Sequence[tuple[int, str]],
        spec: StudySpec,
        origin: Checkpoint | None,
    ) -> None:
        """kept: (step, address) of the trial's checkpoints, newest first. origin: see `Work.origin`."""
        self.trial = trial
        self.device = torch.device("cuda" if spec.resources.gpus_per_worker > 0 else "cpu")
        self.scratch = shared.scratch / f"trial-{trial.number:04d}"
        self.scratch.mkdir()
        self.run = trial_run(shared.stage, trial)
        self.writer = shared.writer(self.run)
        self.latest: Progress | None = None
        self.resumed_from = ""  # the address of the checkpoint that it goes on from
        self.first_step = 0 if origin is None else origin.step
        self._shared = shared
        self._kept = kept
        self._origin = origin

    def latest_checkpoint(self) -> Path | None:
        for step, uri in self._kept:
            try:
                found = self._shared.storage.fetch(uri, self._shared.number, self.scratch / "resume")
            except (VaesvcError, CheckpointError) as error:
                self._shared.note(f"trial {self.trial.number}: the checkpoint of step {step} is not used: {error}")
            else:
                self._shared.note(f"trial {self.trial.number} goes on from step {step} ({uri})")
                self._shared.uploads.resumed(self.trial.key, found)
                self.resumed_from = uri
                return self.scratch / "resume"
        return None

    def origin(self) -> Path | None:
        if self._origin is None:
            return None
        self._shared.note(f"trial {self.trial.number} starts from trial {self.trial.origin} at step {self.first_step}")
        return self._shared.storage.copy(self._origin, self.scratch / "origin")

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


class PackProcess:
    """What the trials of one process have in common."""

    def __init__(self, order: Assignment, stage: str, board: Any, storage: StageStorage) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="vaesvc-pack-", dir=Path.cwd()))
        self.artifacts = Artifacts(order.context.storage)
        self.storage = storage
        self.uploads = _Uploads(self.storage, order.access.number, self.note)
        self.stopping = order.context.job.state.value == "CANCELLING"
        self.stage = stage
        self.number = order.access.number
        self._order = order
        self._board = board
        self._lanes: list[TrialContext] = []
        self._lost: str | None = None
        self._end = threading.Event()
        self._monitor: SystemMonitor | None = None
        self._reporter = threading.Thread(target=self._report, name="board", daemon=True)

    def start(self, lanes: Sequence[TrialContext]) -> None:
        """From here on the board hears how far they are, and these hear when to stop."""
        self._lanes = list(lanes)
        self._reporter.start()
        if self._order.context.mlflow_uri is not None:
            since = self._order.context.job.created_at
            self._monitor = SystemMonitor(self._log_load, since=since, every_seconds=_LOAD_SECONDS)

    def note(self, text: str) -> None:
        """To the attempt's log."""
        print(f"[vaesvc] {self.stage}: {text}", flush=True)  # noqa: T201

    def check(self) -> None:
        """Raises what an upload failed with, or that the driver is gone."""
        if self._lost is not None:
            raise Fenced(self._lost)
        self.uploads.check()

    def writer(self, run: TrialRun) -> RunWriter | None:
        """To the trial's child run in MLflow, which is opened in the background."""
        from service.tracking import RunWriter, open_trial

        spool = self.scratch / f"trial-{run.number:04d}.jsonl"
        uri, job, number = self._order.context.mlflow_uri, self._order.context.job, self._order.access.number
        if uri is None:
            return None
        return RunWriter(uri, lambda: open_trial(uri, job, run, number=number), spool, gather_seconds=_GATHER_SECONDS)

    def end(self, lane: TrialContext, outcome: Outcome) -> None:
        """The trial's last word, behind its last checkpoint."""
        self.uploads.result(lane.trial.key, outcome)
        if outcome.error is not None:
            self.note(f"trial {lane.trial.number} failed: {outcome.error}")

    def close(self, lanes: Sequence[TrialContext]) -> None:
        """Waits until all of it is in storage and, for a bounded time, in MLflow."""
        self.uploads.close()
        self._end.set()
        if self._monitor is not None:
            self._monitor.close()
        deadline = time.monotonic() + (_HURRIED_SECONDS if self.stopping else _MLFLOW_SECONDS)
        with ThreadPoolExecutor(_CLOSERS) as closers:
            list(closers.map(lambda lane: self._deliver(lane, deadline), lanes))
        self._tell()

    def abandon(self) -> None:
        self._end.set()
        if self._monitor is not None:
            self._monitor.close()
        self.uploads.abandon()

    def _deliver(self, lane: TrialContext, deadline: float) -> None:
        from service.tracking import end_trial

        uri, access = self._order.context.mlflow_uri, self._order.access
        if lane.writer is None or uri is None:
            return
        spool = lane.writer.close(max(1.0, deadline - time.monotonic()))
        state = self.uploads.states.get(lane.trial.key)
        if spool is None:
            if lane.writer.run_id is not None and state is not None:
                try:
                    end_trial(uri, lane.writer.run_id, state)
                except VaesvcError as error:  # the dispatcher closes it with the study
                    self.note(f"the run of trial {lane.trial.number} is still open: {error}")
        elif spool.is_file():
            name = f"{self.stage}-{lane.trial.number}-{access.number}-{time.time_ns()}"
            folder = spool_uri_parts(access.job_id, trials=True)
            run = json.dumps(asdict(lane.run)).encode()
            self.artifacts.put_bytes(self.artifacts.uri(*folder, f"{name}.run.json"), run, "application/json")
            points = spool.read_bytes()
            self.artifacts.put_bytes(self.artifacts.uri(*folder, f"{name}.jsonl"), points, "application/jsonl")

    def _log_load(self, step: int, load: Mapping[str, float]) -> None:
        """The machine is the same for all trials of the pack."""
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
    """Of what it was to do itself."""
    return {
        "step": progress.step - first_step,
        "total_steps": progress.total_steps - first_step,
        "images_per_second": progress.images_per_second,
    }


class _Uploads:
    """Checkpoints and results on their way to storage, in one thread: of each trial the newest checkpoint, then how it
    ended. A checkpoint that is replaced is deleted."""

    def __init__(self, storage: StageStorage, number: int, note: Callable[[str], None]) -> None:
        self.states: dict[str, str] = {}  # of the trials that have ended
        self._storage = storage
        self._number = number
        self._note = note
        self._checkpoints: dict[str, tuple[int, Path, Mapping[str, float]]] = {}  # waiting
        self._results: dict[str, Outcome] = {}  # waiting
        self._last: dict[str, Checkpoint] = {}  # the committed checkpoint of each trial
        self._changed = threading.Condition()
        self._closing = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()

    def resumed(self, trial: str, found: Checkpoint) -> None:
        """What the trial goes on from: its last checkpoint until it has written another."""
        self._last[trial] = found

    def checkpoint(self, trial: str, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        """Takes over the directory; returns at once."""
        with self._changed:
            replaced = self._checkpoints.pop(trial, None)
            self._checkpoints[trial] = (step, directory, metrics)
            self._changed.notify_all()
        if replaced is not None:
            shutil.rmtree(replaced[1], ignore_errors=True)

    def result(self, trial: str, outcome: Outcome) -> None:
        with self._changed:
            self._results[trial] = outcome
            self._changed.notify_all()

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Waits until everything is in storage. Raises what prevented it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self.check()

    def abandon(self) -> None:
        with self._changed:
            self._closing = True
            self._checkpoints.clear()
            self._results.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while self._next():
                pass
        except Exception as error:
            self._error = error

    def _next(self) -> bool:
        """One thing done; False when nothing more will come."""
        with self._changed:
            while not (self._checkpoints or self._results or self._closing):
                self._changed.wait()
            ready = next((trial for trial in self._results if trial not in self._checkpoints), None)
            if ready is None and not self._checkpoints:
                return False
            trial = ready or next(iter(self._checkpoints))
            outcome = self._results.pop(trial) if ready is not None else None
            waiting = self._checkpoints.pop(trial) if ready is None else None
        if outcome is not None:
            self._keep(trial, outcome)
        elif waiting is not None:
            self._store(trial, *waiting)
        return True

    def _store(self, trial: str, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        stored = self._patiently(
            trial, lambda: self._storage.put_checkpoint(trial, self._number, step, directory, _finite(metrics))
        )
        replaced, self._last[trial] = self._last.get(trial), stored
        shutil.rmtree(directory, ignore_errors=True)
        if replaced is not None:
            self._storage.delete(replaced.uri)

    def _keep(self, trial: str, outcome: Outcome) -> None:
        assert outcome.state != "missing"
        record = TrialRecord(
            state=outcome.state, value=outcome.value, error=outcome.error, steps=outcome.steps,
            metrics=dict(outcome.metrics), checkpoint=self._last.get(trial),
        )  # fmt: skip
        self._patiently(trial, lambda: self._storage.keep(trial, record))
        self.states[trial] = outcome.state

    def _patiently(self, trial: str, call: Callable[[], T]) -> T:
        return patiently(call, seconds=_PATIENCE_SECONDS, what=f"what trial {trial} has left", say=self._note)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
