"""A pack of trials in a process of its own on the cluster, side by side.

Nothing here holds up a step: what a lane leaves goes on in threads, the newest checkpoint of each lane first, and how a
trial ended is written after its last checkpoint is in storage.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch

from service.attempt import preload
from service.attempt.assignment import Assignment
from service.attempt.context import Copies, WorkerContext
from service.attempt.failures import classify
from service.data.fetch import Bucket
from service.errors import NotFoundError
from service.kinds.study import devices
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
from vae_models.data.config import DataConfig
from vae_models.measures import STORED
from vae_models.training.lanes import Widths

_BOARD_SECONDS = 30.0


def train_pack(told: PackOrder, pack: int) -> None:
    """Train what the board hands to this pack. What would fail again is reported to it."""
    import ray

    try:
        _train_pack(told, pack)
    except Exception as error:
        failure = classify(error)
        if not failure.ends_attempt:
            raise  # the process is started again
        ray.get(told.board.fail.remote(failure.text, failure.retryable))


def _train_pack(told: PackOrder, pack: int) -> None:
    import ray

    work = Work(told)
    device = devices.device(work.spec.resources, ray.get_gpu_ids())
    torch.set_num_threads(max(1, int(devices.bundle(work.spec.resources)["CPU"])))
    if work.closed():
        return
    widths = Widths()
    by_trial: dict[int, TrialReports] = {}
    with work.process() as process:
        ready = "waited ready" if preload.waited(told.at) else "is new"
        process.note(f"pack {pack}: process {os.getpid()}, which {ready}, on {device} of node {work.node[:12]}")

        def take(most: int, running: int) -> list[Trial]:
            orders = ray.get(told.board.take.remote(pack, most, running, work.node), timeout=_BOARD_SECONDS)
            if orders:
                process.note(f"pack {pack} takes trials {', '.join(str(number) for number, *_ in orders)}")
            return work.made(orders)

        def context(trial: Trial) -> WorkerContext:
            by_trial[trial.number] = reports = work.reports(process, trial)
            return work.context(reports, device)

        begun = work.unended(ray.get(told.board.taken.remote(pack), timeout=_BOARD_SECONDS))
        packs.train(
            work.stage, take, context, begun=begun, assignments=told.assignments, load=work.load,
            width=work.spec.lanes, widths=widths, rungs=work.storage, stopping=lambda: process.stopping,
            on_end=lambda trial, outcome: process.end(by_trial[trial.number], outcome),
        )  # fmt: skip
        if by_trial:
            process.note(
                f"fused {widths.chosen} at a time; seconds for a lane's step, by width: {_short(widths.seconds)}"
            )
        for width, reason in widths.reasons.items():
            process.note(f"{width} lanes cannot be fused: {reason}")
        process.close()


class Work:
    """What the processes of a stage have been told."""

    def __init__(self, told: PackOrder) -> None:
        self.order = Assignment.model_validate_json(told.order)
        self.spec = StudySpec.model_validate(self.order.context.job.spec, context=STORED)
        self.stage = self.spec.study.stages[told.stage]
        self.artifacts = self.order.artifacts()
        self.storage = StageStorage(self.artifacts, self.order.access.job_id, self.stage.name)
        self._board = told.board
        self.ended = self.storage.results()
        self._base = TrainConfig.model_validate_json(told.base)

    @cached_property
    def kept(self) -> dict[str, list[tuple[int, str]]]:
        """Return the checkpoints of trials that an attempt or a process before this one began, by their keys."""
        return self.storage.checkpoints()

    def made(self, orders: Sequence[TrialOrder]) -> list[Trial]:
        """Return the trials that the orders name."""
        return [made(self._base, *order) for order in orders]

    def unended(self, orders: Sequence[TrialOrder]) -> list[Trial]:
        """Return those of these trials that have not ended."""
        return [trial for trial in self.made(orders) if trial.key not in self.ended]

    def load(self, config: DataConfig) -> data.Dataset:
        """Return the data of this configuration, fetched where they lie in the bucket."""
        return data.load(config, fetch=Bucket(artifacts=self.artifacts))

    @cached_property
    def node(self) -> str:
        """Return Ray's id of the node that this process is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def closed(self) -> bool:
        """Return whether no trial begins here: the study was asked to stop, or this node is drained. What is left then
        the driver has trained elsewhere."""
        import ray

        return bool(ray.get(self._board.closed.remote(self.node), timeout=_BOARD_SECONDS))

    @contextlib.contextmanager
    def process(self) -> Iterator[PackProcess]:
        """Yield the pack's process, of whose trials the board hears. Its folder goes in the end; after an error
        nothing more is waited for.
        """
        process = PackProcess(self.order, self.stage.name, self._board, self.storage)
        try:
            process.start()
            yield process
        except BaseException:
            process.abandon()
            raise
        finally:
            shutil.rmtree(process.scratch, ignore_errors=True)

    def reports(self, process: PackProcess, trial: Trial) -> TrialReports:
        """Return the reports of a trial that begins."""
        reports = TrialReports(process, trial, self.kept.get(trial.key, []), self.start_from(trial))
        process.add(reports)
        return reports

    def context(self, reports: TrialReports, device: torch.device) -> WorkerContext:
        """Return the context of a trial that this process trains alone."""
        return WorkerContext(
            rank=0, world_size=1, scratch=reports.scratch, reports=reports, device=device,
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
