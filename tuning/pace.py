"""How long a step takes here and how much memory, before anything is trained."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vae_models.config.train import TrainConfig
from vae_models.data.records import Dataset, Split
from vae_models.data.spec import DataSpec
from vae_models.nn.meter import Meter
from vae_models.training.context import LocalContext
from vae_models.training.loop import Run

STEPS = 10
SECONDS = 2.0  # at most, but for one step


def seconds_per_step(config: TrainConfig) -> float:
    """Return the median of a few steps on the CPU, on random data of the set's shape; one worker, no evaluations."""
    dataset = random_data(config, config.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, LocalContext(Path(folder)), dataset)
        began = time.perf_counter()
        seconds: list[float] = []
        while len(seconds) < STEPS and time.perf_counter() - began < SECONDS:
            before = time.perf_counter()
            run.step()
            seconds.append(time.perf_counter() - before)
    return statistics.median(seconds[1:] or seconds)  # the first one builds what the others find


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes of tensors. weights: parameters, buffers and the optimizer's state; step: what a step makes beside them at
    most, the batch, activations and gradients; both of one configuration, counted and not asked of a device.
    """

    weights: int
    step: int

    @property
    def total(self) -> int:
        """Return bytes of both."""
        return self.weights + self.step


def footprint(run: Run) -> Footprint:
    """Return the memory of a run's step, which is taken; convolutions' own copies are not seen."""
    run.step()  # afterwards the optimizer has its state
    tensors = [*run.model.parameters(), *run.model.buffers()]
    tensors += [
        value for state in run.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)
    ]
    with Meter() as meter:
        run.step()
    return Footprint(weights=sum(tensor.numel() * tensor.element_size() for tensor in tensors), step=meter.peak)


def random_data(config: TrainConfig, count: int) -> Dataset:
    """Return so many random data of the shape of the configuration's set, the same in every split."""
    split = _random(config.data.facts, count)
    return Dataset(name=config.data.name, train=split, val=split, test=split, shape=config.data.facts.shape)


def _random(facts: DataSpec, count: int) -> Split:
    """Return random tokens where the set has them, else bytes, which cost a step the same as reals;
    of maximal length.
    """
    generator = torch.Generator().manual_seed(0)
    shape, tokens = (count, *facts.shape), facts.support == "tokens"
    values = torch.randint(0, facts.vocabulary or 256, shape, generator=generator)
    lengths = torch.full((count,), facts.shape[facts.axes.index("time")]) if facts.lengths else None
    x = values.to(torch.int32 if tokens else torch.uint8)
    return Split(x=x, labels=torch.zeros(count, dtype=torch.int64), lengths=lengths)
