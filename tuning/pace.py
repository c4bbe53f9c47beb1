"""How long a step takes here, before anything is trained."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch

from vae_models.config.train import TrainConfig
from vae_models.data.records import Dataset, Split
from vae_models.training.context import LocalContext
from vae_models.training.loop import Run

STEPS = 10
SECONDS = 2.0  # at most, but for one step


def seconds_per_step(config: TrainConfig) -> float:
    """Median of a few steps on the CPU, on random bytes of the data's shape; one worker, no evaluations."""
    facts = config.data.facts
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (config.batch_size, *facts.shape), dtype=torch.uint8, generator=generator)
    split = Split(x=images, labels=torch.zeros(config.batch_size, dtype=torch.int64))
    dataset = Dataset(name=config.data.name, train=split, val=split, test=split, shape=facts.shape)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, LocalContext(Path(folder)), dataset)
        began = time.perf_counter()
        seconds: list[float] = []
        while len(seconds) < STEPS and time.perf_counter() - began < SECONDS:
            before = time.perf_counter()
            run.step()
            seconds.append(time.perf_counter() - before)
    return statistics.median(seconds[1:] or seconds)  # the first one builds what the others find
