"""Where a number of a reproduction's table comes from: what a run logged, what evaluators found out, or a count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vae_models.config.train import TrainConfig

if TYPE_CHECKING:
    from vae_models.evaluation.findings import Picture

History = Sequence[tuple[int, Mapping[str, float]]]


class Unmeasured(LookupError):  # noqa: N818 - says what is the case
    """A number that there is not, and why."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one run of one seed left.

    history: (step, metrics) of every log; values: of evaluators and measures; pictures: of evaluators, by name;
    seconds: that training took; folder: with its checkpoints
    """

    config: TrainConfig
    folder: Path
    seconds: float
    steps: int
    history: History
    values: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)

    def latest(self, metric: str) -> float:
        """Return the last value of a metric. Raise Unmeasured where it was not logged."""
        for _, metrics in reversed(self.history):
            if metrics.get(metric) is not None:
                return metrics[metric]
        raise Unmeasured(f"{metric} was not logged")


class Reading(Protocol):
    """A number of one seed. runs: the names of the runs that it needs."""

    @property
    def runs(self) -> tuple[str, ...]: ...

    def __call__(self, trained: Mapping[str, Trained]) -> float:
        """Return the number. Raise Unmeasured where there is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Logged:
    """The last value of a metric, or the one at `epoch` (the first that is logged then or later), times `factor`."""

    run: str
    metric: str
    factor: float = 1.0
    epoch: float | None = None

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.run,)

    def __call__(self, trained: Mapping[str, Trained]) -> float:
        run = trained[self.run]
        if self.epoch is None:
            return self.factor * run.latest(self.metric)
        for _, metrics in run.history:
            if metrics.get(self.metric) is not None and metrics.get("epoch", -math.inf) >= self.epoch:
                return self.factor * metrics[self.metric]
        raise Unmeasured(f"{self.metric} was not logged at epoch {self.epoch:g} or later")


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A value of the run's evaluation, times `factor`."""

    run: str
    value: str
    factor: float = 1.0

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.run,)

    def __call__(self, trained: Mapping[str, Trained]) -> float:
        values = trained[self.run].values
        if self.value not in values:
            raise Unmeasured(f"{self.value} was not found out")
        return self.factor * values[self.value]


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """How long training took per epoch, in seconds of the clock."""

    run: str

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.run,)

    def __call__(self, trained: Mapping[str, Trained]) -> float:
        run = trained[self.run]
        return run.seconds / (run.steps * run.config.batch_size / run.config.data.facts.sizes[0])


@dataclass(frozen=True, kw_only=True)
class Duration:
    """How long the training of some runs took together, in seconds of the clock."""

    of: tuple[str, ...]

    @property
    def runs(self) -> tuple[str, ...]:
        return self.of

    def __call__(self, trained: Mapping[str, Trained]) -> float:
        return sum(trained[run].seconds for run in self.of)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The number of trained parameters of a configuration's model. Nothing is trained for it."""

    config: TrainConfig

    @property
    def runs(self) -> tuple[str, ...]:
        return ()

    def __call__(self, trained: Mapping[str, Trained]) -> float:
        return float(parameters(self.config))


@dataclass(frozen=True, kw_only=True)
class Computed:
    """A function of other readings. function: of their numbers, in their order."""

    of: tuple[Reading, ...]
    function: Callable[..., float]

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run for reading in self.of for run in reading.runs))

    def __call__(self, trained: Mapping[str, Trained]) -> float:
        return self.function(*(reading(trained) for reading in self.of))


@dataclass(frozen=True, kw_only=True)
class At:
    """The number that belongs to the least of several: `value[i]` with i where `least[i]` is smallest."""

    least: tuple[Reading, ...]
    value: tuple[Reading, ...]

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run for reading in (*self.least, *self.value) for run in reading.runs))

    def __call__(self, trained: Mapping[str, Trained]) -> float:
        place = min(range(len(self.least)), key=lambda index: self.least[index](trained))
        return self.value[place](trained)


def parameters(config: TrainConfig) -> int:
    """Return how many numbers the configuration's model trains: shapes alone, no memory is taken for them."""
    import torch

    with torch.device("meta"):
        model = config.model.build(config.data.facts.shape)
    return sum(parameter.numel() for parameter in model.parameters())
