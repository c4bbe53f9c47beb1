"""What a run is at one step: what its checkpoints hold, and from which one it goes on."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vae_models import collectives
from vae_models.config.shape import shape_of
from vae_models.config.train import TrainConfig
from vae_models.protocols import BetaController, RunContext
from vae_models.records import Progress
from vae_models.training import checkpoint
from vae_models.training.checks import check_same
from vae_models.training.context import HasOrigin, HasScratch, HasWeights
from vae_models.training.errors import IncompatibleCheckpoint
from vae_models.training.schedule import Timetable
from vae_models.training.step import optimizer_tensors, restore_optimizer
from vae_models.training.window import Window


@dataclass(kw_only=True)
class Position:
    """The loop's own state: goes into state.json and comes back."""

    step: int = 0  # optimizer steps taken
    evaluated: int = 0  # the step after which the last complete evaluation was made
    latest: dict[str, float] = field(default_factory=dict)  # metric by name
    best: list[float] = field(default_factory=list)  # scores of the best evaluations, best first, larger is better
    scores: list[list[float]] = field(default_factory=list)  # [step, score] of each, where the learning rate follows

    def among_the_best(self, score: float, size: int) -> bool:
        """Keep `score` if it is one of the `size` largest so far, and return whether it is."""
        if len(self.best) >= size and score <= self.best[-1]:
            return False
        self.best = sorted([*self.best, score], reverse=True)[:size]
        return True

    def progress(self, timetable: Timetable, batch_size: int, images_per_second: float | None) -> Progress:
        """Return where the run is, for people; the time left is that of the steps at the present speed."""
        left = (timetable.total_steps - self.step) * batch_size
        return Progress(
            step=self.step,
            total_steps=timetable.total_steps,
            epoch=self.step / timetable.steps_per_epoch,
            images_per_second=images_per_second,
            seconds_left=left / images_per_second if images_per_second else None,
            metrics=dict(self.latest),
        )


@dataclass(kw_only=True)
class State:
    """Everything that the next step depends on, and nothing that follows from the configuration.

    control: the beta controller's tensors by name; window: the losses since the last log
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    control: dict[str, Tensor]
    window: Window
    at: Position

    def save(
        self,
        context: RunContext,
        config: TrainConfig,
        data_shape: tuple[int, ...],
        metrics: Mapping[str, float],
        vocabulary: str | None = None,
    ) -> None:
        """Write a checkpoint of the present step and give it to the context. vocabulary: the digest of the data's.
        Raise NoRoom, CheckpointError or Fenced.
        """
        scratch = context.scratch if isinstance(context, HasScratch) else Path(tempfile.gettempdir())
        directory = scratch / f".checkpoint-{self.at.step}-{uuid.uuid4().hex[:8]}"
        adam = optimizer_tensors(self.model, self.optimizer)
        training = {f"optimizer/{name}": value for name, value in adam.items()}
        training |= {f"control/{name}": value for name, value in self.control.items()}
        training |= {f"window/{name}": value for name, value in self.window.tensors().items()}
        state: dict[str, Any] = {
            "position": asdict(self.at),
            "window": list(self.window.names),
            "data_shape": list(data_shape),
        }
        if vocabulary is not None:
            state["vocabulary"] = vocabulary
        checkpoint.write(
            directory,
            step=self.at.step,
            config=config,
            model=self.model.state_dict(),
            training=training,
            state=state,
            metrics=metrics,
        )
        try:
            context.save_checkpoint(self.at.step, directory, metrics)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def restore(self, snapshot: checkpoint.Snapshot, device: torch.device) -> None:
        """Restore the state that `save` has written.

        Numbers whose data had other axes when they were written are taken in their order: joint angles were once images
        of one row.
        """
        shapes = {name: value.shape for name, value in self.model.state_dict().items()}
        self.model.load_state_dict({name: _in_shape(value, shapes.get(name)) for name, value in snapshot.model.items()})
        adam = _under("optimizer/", snapshot.training)
        of_parameters = {name: _in_shape(value, shapes.get(name.partition("/")[2])) for name, value in adam.items()}
        restore_optimizer(self.model, self.optimizer, of_parameters)
        for name, value in _under("control/", snapshot.training).items():
            self.control[name] = value.to(device)
        self.window.restore(snapshot.state["window"], _under("window/", snapshot.training))
        self.at = Position(**snapshot.state["position"])

    def unsound(self, device: torch.device) -> tuple[str, float] | None:
        """Return the first tensor of the weights, the optimizer or the controller that has an element which is not
        finite, and that element; None where all are. Waits for the device."""
        tensors = dict(self.model.state_dict())
        tensors |= {
            f"the optimizer's {name}": value for name, value in optimizer_tensors(self.model, self.optimizer).items()
        }
        tensors |= {f"the controller's {name}": value for name, value in self.control.items()}
        sound = torch.stack([value.isfinite().all().to(device) for value in tensors.values()])
        if bool(sound.all()):
            return None
        name = next(name for name, whole in zip(tensors, sound.tolist(), strict=True) if not whole)
        value = tensors[name]
        return name, float(value[~value.isfinite()][0])


def initial(
    config: TrainConfig,
    controller: BetaController,
    data_shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
) -> State:
    """Return the state before the first step: weights are a function of the seed, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = config.model.build(data_shape).to(device, dtype)
    return State(
        model=model,
        optimizer=config.optimizer.build(list(model.parameters())),
        control={name: value.to(device) for name, value in controller.initial().items()},
        window=Window(config.log_every_steps, device, dtype),
        at=Position(),
    )


@dataclass(frozen=True, kw_only=True)
class Start:
    """From where a run goes on. own: the checkpoint is of this run, not of the one that it begins with."""

    snapshot: checkpoint.Snapshot
    own: bool


def starting_point(context: RunContext, config: TrainConfig, device: torch.device) -> Start | None:
    """Return the checkpoint that the context has for this run, the same on all workers; None where there is none.

    Raise IncompatibleCheckpoint where workers have different ones, or where it is of a run of another configuration.
    """
    path, own = context.latest_checkpoint(), True
    if path is None and isinstance(context, HasOrigin):
        path, own = context.origin(), False
    snapshot = None if path is None else checkpoint.read(path)
    step = 0 if snapshot is None else snapshot.manifest.step
    (first,) = collectives.broadcast_integers([step], device)
    if first != step:
        raise IncompatibleCheckpoint(
            f"worker {context.rank} found a checkpoint of step {step}, worker 0 one of step {first}: "
            "all workers must go on from the same one"
        )
    if snapshot is None:
        return None
    if own:
        check_same(snapshot.config, config, path)
    elif shape_of(snapshot.config) != shape_of(config):
        raise IncompatibleCheckpoint(f"{path} is of a run whose model is another one: it cannot start this one")
    return Start(snapshot=snapshot, own=own)


def take_weights(context: RunContext, model: nn.Module) -> None:
    """Give the model the weights of the context, where it has some: on every worker, before the first step of a run
    that has no checkpoint. Raise IncompatibleCheckpoint where they are another model's."""
    path = context.weights() if isinstance(context, HasWeights) else None
    if path is None:
        return
    try:
        model.load_state_dict(checkpoint.read_model(path))
    except RuntimeError as error:
        raise IncompatibleCheckpoint(f"the weights in {path} are another model's: {error}") from error


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _in_shape(value: Tensor, shape: torch.Size | None) -> Tensor:
    """Return the same numbers in this shape, where it has as many; a single number stays as it is."""
    fits = shape is not None and value.ndim > 0 and value.numel() == shape.numel()
    return value.reshape(shape) if fits and shape is not None else value
