"""What padding costs: sentences per second of a VAE of sentences whose batches are cut to their longest, or are not.

    python -m tests.benchmarks.sentences [--recipe tinyshakespeare/text-vae-small] [--rounds 7] [--steps 12]

Steps of three runs of the recipe alternate in one process, on one thread: at full length (data.trim false), cut, and
cut in batches of like lengths (data.buckets). Medians over the rounds of processor time per step, and their ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from tuning.space import with_values
from vae_models import data
from vae_models.data.sequences import padding
from vae_models.recipes import catalogue
from vae_models.training.context import LocalContext
from vae_models.training.loop import Run

WAYS = {
    "full length": {"data.trim": False},
    "cut": {},
    "cut, like lengths": {"data.buckets": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="tinyshakespeare/text-vae-small")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12, help="in a round, of each run")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    config = catalogue()[asked.recipe].build()
    dataset = data.load(config.data)
    with tempfile.TemporaryDirectory(prefix="vaesvc-sentences-") as folder:
        runs = {
            way: Run(with_values(config, values), LocalContext(Path(folder, str(number))), dataset)
            for number, (way, values) in enumerate(WAYS.items())
        }
        seconds: dict[str, list[float]] = {way: [] for way in runs}
        for turn in range(asked.rounds + 1):
            for way, run in runs.items():
                before = time.process_time()
                for _ in range(asked.steps):
                    run.step()
                run.window.clear()
                if turn:  # the first warms up
                    seconds[way].append((time.process_time() - before) / asked.steps)
        _print(runs, {way: statistics.median(each) for way, each in seconds.items()})
        for run in runs.values():
            run.close()


def _print(runs: dict[str, Run], medians: dict[str, float]) -> None:
    whole = medians["full length"]
    print(f"{'batches':20} {'CPU ms/step':>12} {'times as fast':>14} {'padding':>8}")
    for way, run in runs.items():
        lengths = run.dataset.train.lengths
        assert lengths is not None
        steps = int(run.plan.steps_per_epoch)
        if way == "full length":
            share = 1 - float(lengths.double().mean()) / run.dataset.shape[0]
        else:
            share = padding(lengths, run.plan, steps)
        print(f"{way:20} {1000 * medians[way]:12.1f} {whole / medians[way]:14.2f} {share:8.1%}")


if __name__ == "__main__":
    main()
