"""What precision and compilation make of a training step: processor time beside the plain float32 step, alternating.

    python -m tests.benchmarks.step [--models mlp cnn] [--ways bf16 compile micro-batch] [--rounds 7] [--steps 10]

MR-VAE's nets for MNIST (mlp: 400-400), batch 128, one thread, on random bytes. Medians over rounds of seconds of
processor time per step (of all threads, what other programs do left out), and the ratio of the plain step to each way:
above 1 it is faster. Compiling, a minute or more, is not in it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.lanes import BACKBONES, BATCH, dataset
from vae_models.config.train import TrainConfig
from vae_models.training.context import LocalContext
from vae_models.training.loop import Run

WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bf16": {"precision": "bf16"},
    "compile": {"compile": "step"},
    "micro-batch": {"micro_batch": BATCH // 4},
}


def run(model: str, way: str, folder: Path) -> Run:
    config = {
        "data": {"name": "mnist", "binarize": "threshold"},
        "model": {"latent": 32, "backbone": BACKBONES[model]},
        "steps": 10**6,
        "batch_size": BATCH,
        "log_every_steps": 10**5,
    }
    made = Run(TrainConfig.model_validate(config | WAYS[way]), LocalContext(folder / way), dataset())
    made.model.train()
    return made


def measure(model: str, ways: list[str], rounds: int, steps: int) -> dict[str, float]:
    """Return the median seconds of processor time of a step, by way."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {way: run(model, way, Path(folder)) for way in ways}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for each in runs.values():
            each.step()
            each.step()
        for round_ in range(rounds):
            for way in sorted(ways, reverse=bool(round_ % 2)):
                began = time.process_time()
                for _ in range(steps):
                    runs[way].step()
                times[way].append((time.process_time() - began) / steps)
        for each in runs.values():
            each.close()
    return {way: statistics.median(seconds) for way, seconds in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(BACKBONES), default=["mlp", "cnn"])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["bf16", "compile"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, batch {BATCH}; milliseconds of processor time a step")
    for model in options.models:
        try:
            seconds = measure(model, list(dict.fromkeys(["float32", *options.ways])), options.rounds, options.steps)
        except ValueError as error:
            print(f"{model}: {error}")
            continue
        for way, each in seconds.items():
            print(
                f"{model:6} {way:12} {each * 1e3:8.2f} ms   float32 / {way}: {seconds['float32'] / each:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
