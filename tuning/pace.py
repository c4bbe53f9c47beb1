"""How long a step takes here, before anything is trained."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch

from vae_models.config.train import TrainConfig
from vae_models.data.records import Dataset, Split
from vae_models.data.spec import DataSpec
from vae_models.training.context import LocalContext
from vae_models.training.loop import Run

STEPS = 10
SECONDS = 2.0  # at most, but for one step


def seconds_per_step(config: TrainConfig) -> float:
    """Return the median of a few steps on the CPU, on random data of the set's shape; one worker, no evaluations."""
    split = _random(config.data.facts, config.batch_size)
    dataset = Dataset(name=config.data.name, train=split, val=split, test=split, shape=config.data.facts.shape)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, LocalContext(Path(folder)), dataset)
        began = time.perf_counter()
        seconds: list[float] = []
        while len(seconds) < STEPS and time.perf_counter() - began < SECONDS:
            before = time.perf_counter()
            run.step()
            seconds.append(time.perf_counter() - before)
    return statistics.median(seconds[1:] or seconds)  # the first one builds what the others find


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
