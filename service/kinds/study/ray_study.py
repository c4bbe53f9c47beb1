"""A study on a Ray cluster: stage after stage, its trials in packs, the packs by Ray Tune; in the end a winner.

The driver's side. What has been found out lies in storage (`storage`): an attempt looks what is there and has the
rest trained, so it does not matter where the one before it ended.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.attempt import preload, ray_cluster
from service.attempt.assignment import Assignment
from service.errors import VaesvcError
from service.kinds.study import devices
from service.kinds.study.board import Board
from service.kinds.study.orders import PackOrder, TrialOrder
from service.kinds.study.spec import StudySpec
from service.kinds.study.stage_ends import StageEnd, ended, known
from service.kinds.study.starting import train_group, train_pack
from service.kinds.study.storage import StageStorage
from service.wire import ProgressReport
from tuning import pack as packs
from tuning import ray_tune
from tuning.study import StageConfig, Trial
from vae_models.config.train import TrainConfig

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.tracking import RunWriter

RESTARTS = 8  # of one pack, whose process died
_BOARD_SECONDS = 30.0
_REPORT_SECONDS = 1.0
_MLFLOW_SECONDS = 20.0
_DRAINS_SECONDS = 3.0  # between two looks at which nodes are drained


class StudyFailed(VaesvcError):  # noqa: N818 - says what is the case
    """The study ended without a winner, or a pack gave up."""

    def __init__(self, text: str, *, retryable: bool) -> None:
        super().__init__(text)
        self.retryable = retryable


def run(order: Assignment, spec: StudySpec) -> dict[str, Any]:
    """Run the study from where it is; return its result, `stopped` when it was cancelled. Raises StudyFailed."""
    with _Driver(order, spec, order.artifacts()) as driver:
        return driver.run()


@dataclass
class _Driver:
    order: Assignment
    spec: StudySpec
    artifacts: Artifacts
    ends: list[StageEnd] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> _Driver:
        self.board: Any = _board()
        self._drained = tuple(self.order.context.drained)
        self._kept_away: tuple[str, ...] = ()  # of which the board knows
        self._next_drains = 0.0
        self.finishing = False  # asked to end with what there is
        self.cancelled = self.order.context.job.state.value == "CANCELLING"
        self.writer = self._open_run()
        self._more = False  # whether other packs follow those that train now
        self._stage: tuple[StageConfig, int, set[int]] | None = None  # the stage, its trials, those that had ended
        self._client = self.order.access.client(retry_seconds=0)
        self._end = threading.Event()
        self._reporter = threading.Thread(target=self._report, name="progress", daemon=True)
        self._reporter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._reporter.join(timeout=5.0)
        if self.writer is not None:
            self.writer.close(_MLFLOW_SECONDS)

    def _open_run(self) -> RunWriter | None:
        from service.tracking import RunWriter, open_run

        uri, job, number = self.order.context.mlflow_uri, self.order.context.job, self.order.access.number
        if uri is None:
            return None
        folder = Path(tempfile.mkdtemp(prefix="study-", dir=self.order.scratch))
        return RunWriter(uri, lambda: open_run(uri, job, number=number), folder / "spool.jsonl")

    # --- stages -----------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        base = self.spec.study.base
        for number, stage in enumerate(self.spec.study.stages):
            end = self._train(number, stage, base)
            self.ends.append(end)
            self._show(end)
            if self.cancelled:
                return self._result() | {"stopped": True}
            if self.finishing:
                break
            if end.winner is None:
                raise StudyFailed(_nobody(end), retryable=False)
            base = end.best.config
        if all(end.winner is None for end in self.ends):
            raise StudyFailed(
                "the study was stopped before any assignment was trained with every seed", retryable=False
            )
        for end in self.ends:
            if end.winner is not None and self.spec.keep == "winner":
                self._sweep(end)
        return self._result() | ({"stopped_early": True} if self.finishing else {})

    def _train(self, number: int, stage: StageConfig, base: TrainConfig) -> StageEnd:
        import ray

        storage = StageStorage(self.artifacts, self.order.access.job_id, stage.name)
        while True:
            every, records = known(stage, base, storage.results())
            left = [trial for trial in every if trial.number not in records]
            self._stage = (stage, stage.planned(), set(records))
            self._say(f"{stage.name}: {len(records)} of {stage.planned()} trials ended, {len(left)} to be trained now")
            if not left or self.cancelled or self.finishing:
                return ended(stage, every, records)
            groups = self.spec.workers_per_trial > 1
            units = packs.units(left, stage)
            processes = min(sum(map(len, units)), devices.packs(self.spec.resources))
            offered = [[[_order(trial) for trial in unit] for unit in of_one_set] for of_one_set in units]
            ray.get(self.board.offer.remote(offered, processes), timeout=_BOARD_SECONDS)
            pack_order = PackOrder(
                order=self.order.model_dump_json(), at=time.time(), stage=number, base=base.model_dump_json(),
                board=self.board, assignments=stage.side_by_side(len({trial.candidate for trial in every})),
            )  # fmt: skip
            self._more = number + 1 < len(self.spec.study.stages) or len(every) < stage.planned()
            errors = ray_tune.run_packs(
                [[_order(trial)] for trial in left] if groups else [[pack] for pack in range(processes)],
                partial(train_group if groups else train_pack, pack_order),
                name=f"{self.order.access.name}-{stage.name}",
                folder=self.order.scratch / "tune",
                bundle=ray_tune.NOTHING if groups else devices.bundle(self.spec.resources),
                at_once=self.spec.resources.workers // self.spec.workers_per_trial if groups else processes,
                restarts=RESTARTS,
                bare=not ray_cluster.needs_environment(self.spec.resources),
                labels=self._where(),
            )
            self._check(errors)

    def _where(self) -> dict[str, str] | None:
        """Return the label selector of where its processes may be: not on nodes that operators drain."""
        return ray_cluster.away_from(self._drained) if self._drained else None

    def _look_at_drains(self) -> None:
        """Learn now and then which nodes operators drain, and tell the board: no trial begins there from then on."""
        import ray

        if time.monotonic() >= self._next_drains:
            self._next_drains = time.monotonic() + _DRAINS_SECONDS
            self._drained = tuple(self._client.drained())
        if self._kept_away != self._drained:
            ray.get(self.board.keep_away.remote(self._drained), timeout=_BOARD_SECONDS)
            self._kept_away = self._drained

    def _check(self, errors: Sequence[str]) -> None:
        import ray

        failed = ray.get(self.board.failed.remote(), timeout=_BOARD_SECONDS)
        if failed is not None:
            raise StudyFailed(failed.error, retryable=failed.retryable)
        if errors:
            raise StudyFailed(f"a pack died {RESTARTS + 1} times: {errors[0]}", retryable=True)

    # --- what came out ----------------------------------------------------------------------------------------------

    def _show(self, end: StageEnd) -> None:
        """Put the stage's picture and its best value into storage and MLflow."""
        from tuning import curves

        if not end.records:
            return
        path = self.order.scratch / f"{end.stage.name}.png"
        curves.write(end.stage, end.trials, end.outcomes, path)
        if path.is_file():
            png = path.read_bytes()
            uri = self.artifacts.uri("pictures", self.order.access.job_id, f"{end.stage.name}.png")
            self.artifacts.put_bytes(uri, png, "image/png")
            self.pictures[end.stage.name] = uri
            if self.writer is not None:
                self.writer.log_picture(len(end.records), end.stage.name, png)
        if self.writer is not None and end.winner is not None and end.winner.mean is not None:
            said = {f"{end.stage.name}/best": end.winner.mean, f"{end.stage.name}/trials": float(len(end.records))}
            if end.winner.standard_error is not None:
                said[f"{end.stage.name}/standard_error"] = end.winner.standard_error
            self.writer.log_metrics(len(end.records), said)

    def _sweep(self, end: StageEnd) -> None:
        """Delete the weights of a stage that has a winner, except the winner's and those of trials that were
        stopped."""
        assert end.winner is not None
        keep = [
            record.checkpoint.uri
            for number, record in end.records.items()
            if record.checkpoint is not None and end.trials[number].candidate == end.winner.number
        ]
        storage = StageStorage(self.artifacts, self.order.access.job_id, end.stage.name)
        over = {end.trials[number].key for number in end.records}
        unended = {key: kept for key, kept in storage.checkpoints().items() if key not in over}
        keep += [uri for kept in unended.values() for _, uri in kept]
        storage.sweep(keep)

    def _result(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "stages": [_summary(end) for end in self.ends],
            "pictures": self.pictures,
            "run_id": None if self.writer is None else self.writer.run_id,
        }
        won = [end for end in self.ends if end.winner is not None]
        if won:
            record = won[-1].records[won[-1].best.number]
            result["metrics"] = dict(record.metrics)
            if record.checkpoint is not None:
                value = {} if record.value is None else {won[-1].stage.metric: record.value}
                weights = record.checkpoint.model_copy(update={"metrics": record.checkpoint.metrics | value})
                result["winner"] = winner(won[-1], weights.model_dump())
        return result

    # --- progress ---------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        print(f"[vaesvc] {text}", flush=True)  # noqa: T201

    def _report(self) -> None:
        """Report every second to the API: it answers whether to stop. An API that is away concerns the parent."""
        import ray

        speed = _Speed()
        while not self._end.wait(_REPORT_SECONDS):
            try:
                progress = self._progress(speed)
                if progress is None:
                    continue
                if self._more and progress["step"] > 0:
                    self._make_ready()
                run_id = None if self.writer is None else self.writer.run_id
                reply = self._client.progress(ProgressReport(progress=progress, run_id=run_id))
                finish = reply.finish or self._out_of_time()
                if (reply.cancel and not self.cancelled) or (finish and not self.finishing):
                    self.cancelled, self.finishing = reply.cancel, finish
                    why = "an early end was asked for"
                    if reply.cancel:
                        why = f"this attempt shall end: {reply.stop}" if reply.stop else "cancel was asked for"
                    if self._out_of_time():
                        why = f"max_seconds={self.spec.max_seconds:g} are over"
                    self._say(f"{why}: the trials write checkpoints and stop")
                    ray.get(self.board.stop.remote(), timeout=_BOARD_SECONDS)
                self._look_at_drains()
            except (VaesvcError, ray.exceptions.RayError):
                continue

    def _make_ready(self) -> None:
        """Have processes made ready, once, for the packs that follow those that train now, whose end with them."""
        self._more = False
        if not ray_cluster.needs_environment(self.spec.resources):
            preload.refill(self.spec.resources)

    def _out_of_time(self) -> bool:
        started, most = self.order.context.job.started_at, self.spec.max_seconds
        return most is not None and started is not None and time.time() - started > most

    def _progress(self, speed: _Speed) -> dict[str, Any] | None:
        import ray

        if self._stage is None:
            return None
        stage, planned, ended_before = self._stage
        known = ray.get(self.board.read.remote(stage.name), timeout=_BOARD_SECONDS)
        running = {number: progress for number, progress in known.items() if number not in ended_before}
        steps = sum(progress["step"] for progress in running.values())
        per_trial = max((progress["total_steps"] for progress in running.values()), default=0)
        total = per_trial * (planned - len(ended_before))
        over = sum(progress["step"] >= progress["total_steps"] for progress in running.values())
        return {
            "stage": stage.name,
            "trials": planned,
            "ended": len(ended_before) + over,
            "step": steps,
            "total_steps": total,
            "images_per_second": sum(progress["images_per_second"] or 0.0 for progress in running.values()) or None,
            "seconds_left": speed.seconds_left(steps, total),
            "steps": {str(number): progress["step"] for number, progress in running.items()},
            "metrics": {},
        }


def _board() -> Any:
    """Start the board, on the driver's own node: it ends with the driver, and holds no other node up."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # with an environment of its own it does not take a process that waits, which is for packs
    environment = {"env_vars": {"STUDY_BOARD": "1"}}
    actor = ray.remote(num_cpus=0, max_restarts=0, runtime_env=environment, scheduling_strategy=here)(Board)
    return actor.remote()


def _order(trial: Trial) -> TrialOrder:
    return (trial.number, trial.candidate, trial.seed, dict(trial.assignment), trial.epochs, trial.origin)


class _Speed:
    """Steps of all trials together, since the first that were seen."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def seconds_left(self, steps: int, total: int) -> float | None:
        now = time.monotonic()
        if self._first is None or steps < self._first[1]:
            self._first = (now, steps)
        began, first = self._first
        return (now - began) / (steps - first) * (total - steps) if steps > first else None


def winner(end: StageEnd, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is registered: the weights, the configuration, and why these."""
    won = end.winner
    assert won is not None
    others = [candidate for candidate in end.ranked if candidate.number != won.number and candidate.mean is not None]
    reason = (
        f"best mean {end.stage.metric} ({end.stage.mode}) of {len(end.ranked)} assignments, {len(won.values)} seeds"
    )
    if others:
        reason += f"; next: {others[0].mean:.6g} with {json.dumps(dict(others[0].assignment), sort_keys=True)}"
    before = _before(end)
    if before:
        reason += "; it went on from " + ", ".join(
            f"trial {trial.number} with {json.dumps(dict(trial.assignment), sort_keys=True)}" for trial in before
        )
    return {
        "stage": end.stage.name,
        "trial": end.best.number,
        "seed": end.best.seed,
        "assignment": dict(won.assignment),
        "metric": end.stage.metric,
        "mode": end.stage.mode,
        "mean": won.mean,
        "standard_error": won.standard_error,
        "reason": reason,
        "checkpoint": dict(checkpoint),
        "config": end.best.config.model_dump(mode="json"),
    }


def _before(end: StageEnd) -> list[Trial]:
    """Return the trials whose weights the best one went on from, the last of them first."""
    by_key = {trial.key: trial for trial in end.trials}
    stages, at = [], end.best
    while at.origin is not None:
        at = by_key[at.origin]
        stages.append(at)
    return stages


def _summary(end: StageEnd) -> dict[str, Any]:
    won = end.winner
    return {
        "name": end.stage.name,
        "trials": len(end.trials),
        "ended": len(end.records),
        "failed": sum(record.state == "failed" for record in end.records.values()),
        "winner": None if won is None else {"assignment": dict(won.assignment), "mean": won.mean,
                                            "standard_error": won.standard_error, "trial": won.best_trial},
    }  # fmt: skip


def _nobody(end: StageEnd) -> str:
    errors = sorted({record.error for record in end.records.values() if record.error})
    first = f"; the first error: {errors[0]}" if errors else ""
    return (
        f"stage {end.stage.name}: none of {len(end.ranked)} assignments was trained to its end with every seed: "
        f"there is no winner and nothing is registered{first}"
    )
