"""A run in a folder: the context of `vaesvc run`, of tests and of notebooks."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from vae_models.measures import Goal
from vae_models.records import Progress
from vae_models.training import checkpoint
from vae_models.training.checkpoint import Manifest, room_for
from vae_models.training.errors import CheckpointError, Fenced

__all__ = ["Fenced", "HasOrigin", "HasScratch", "HasWeights", "LocalContext"]

METRICS = "metrics.jsonl"  # in a run's folder
_log = logging.getLogger(__name__)
_PREFIX = "step-"


@runtime_checkable
class HasScratch(Protocol):
    """A context may say where checkpoints are first written: on the disk where it keeps them, so moving is cheap."""

    @property
    def scratch(self) -> Path: ...


@runtime_checkable
class HasOrigin(Protocol):
    """A context may name a checkpoint of another run, with other numbers in its configuration, to start from."""

    def origin(self) -> Path | None: ...


@runtime_checkable
class HasWeights(Protocol):
    """A context may name a model's folder, verified, whose weights a run of the same architecture starts from.

    They are in place of those that the seed gives; steps, optimizer and beta begin as ever.
    """

    def weights(self) -> Path | None: ...


class LocalContext:
    """Keeps everything under `directory`, and goes on from what it finds there:

        metrics.jsonl                  one line per log: {"step": 50, "metrics": {"train/loss": 98.3, ...}}
        pictures/NAME-0000000470.png
        checkpoints/step-0000000500/     the last `keep_last`, and the `keep_best` by `goal`

    Two of the last are kept, so that there is one to fall back to when the newest is damaged. `say` is called with
    messages for the user, `stop` about once a second. start_from: the directory of another run, from whose newest
    checkpoint this one starts while it has none of its own.
    """

    def __init__(
        self,
        directory: Path,
        *,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        keep_best: int = 1,
        keep_last: int = 2,
        goal: Goal = Goal(),  # noqa: B008 - frozen
        on_progress: Callable[[Progress], None] | None = None,
        say: Callable[[str], None] = _log.warning,
        stop: Callable[[], bool] = lambda: False,
        start_from: Path | None = None,
    ) -> None:
        self.rank = rank
        self.world_size = world_size
        self.device = torch.device(device)
        self.directory = directory
        self.checkpoints = directory / "checkpoints"
        self.metrics_file = directory / METRICS
        self.scratch = self.checkpoints
        self._keep_best = keep_best
        self._keep_last = keep_last
        self._goal = goal
        self._on_progress = on_progress
        self._say = say
        self._stop = stop
        self._start_from = start_from
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        (directory / "pictures").mkdir(exist_ok=True)

    def latest_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that verifies; report and pass over damaged ones.
        Metrics logged after it are dropped.
        """
        newest = self._newest_verified(self.checkpoints)
        if self.rank == 0:
            for partial in self.checkpoints.glob(".*"):
                shutil.rmtree(partial, ignore_errors=True)  # what a killed run was writing
            self._forget_metrics_after(checkpoint.verify(newest).step if newest else -1)
        return newest

    def origin(self) -> Path | None:
        if self._start_from is None:
            return None
        checkpoint = self._newest_verified(self._start_from / "checkpoints")
        if checkpoint is None:
            raise CheckpointError(f"{self._start_from} has no whole checkpoint to start from")
        return checkpoint

    def _newest_verified(self, checkpoints: Path) -> Path | None:
        for path in _newest_first(checkpoints):
            try:
                checkpoint.verify(path)
            except CheckpointError as error:
                self._say(f"{error}. Going on from the checkpoint before it.")
            else:
                return path
        return None

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with room_for(self.metrics_file), self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "metrics": values}) + "\n")

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        path = self.directory / "pictures" / f"{name}-{step:010d}.png"
        with room_for(path):
            path.write_bytes(png)

    def progress(self, progress: Progress) -> None:
        if self._on_progress is not None:
            self._on_progress(progress)

    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        """Move `directory` in, replacing one of the same step, then drop what retention does not keep.

        It must lie on the disk of `scratch`: only there is a move atomic.
        """
        target = self.checkpoints / f"{_PREFIX}{step:010d}"
        if target.exists():
            replaced = self.checkpoints / f".replaced-{target.name}"
            target.rename(replaced)
            directory.rename(target)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            directory.rename(target)
        self._retain()

    def stop_requested(self) -> bool:
        return self._stop()

    def _retain(self) -> None:
        kept = _newest_first(self.checkpoints)
        keep = set(kept[: self._keep_last])
        scored = [(self._score(path), path) for path in kept]
        ranked = sorted((pair for pair in scored if pair[0] is not None), reverse=True)
        keep.update(path for _, path in ranked[: self._keep_best])
        for path in kept:
            if path not in keep:
                shutil.rmtree(path, ignore_errors=True)

    def _score(self, path: Path) -> float | None:
        """Return the checkpoint's score, larger is better; None if it carries no such metric."""
        try:
            manifest: Manifest = checkpoint.read_manifest(path)
        except CheckpointError:
            return None
        value = manifest.metrics.get(self._goal.metric)
        return None if value is None else self._goal.score(value)

    def _forget_metrics_after(self, step: int) -> None:
        """Drop the metrics of steps that will be done again, and a last line that was cut off."""
        if not self.metrics_file.exists():
            return
        text = self.metrics_file.read_text(encoding="utf-8")
        kept = "".join(line for line in text.splitlines(keepends=True) if _is_line_until(step, line))
        if kept == text:
            return
        partial = self.metrics_file.with_suffix(".partial")
        with room_for(partial):
            partial.write_text(kept, encoding="utf-8")
        partial.replace(self.metrics_file)


def _is_line_until(step: int, line: str) -> bool:
    try:
        return line.endswith("\n") and int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError):
        return False


def _newest_first(checkpoints: Path) -> list[Path]:
    return sorted(checkpoints.glob(f"{_PREFIX}*"), reverse=True)
