"""Steps from the disk and from memory against steps of a set that is resident on the device.

    python -m tests.benchmarks.residency [--pairs 40] [--steps 40] [--threads N] [--model mlp conv] [--place stream]

One process trains the same configuration from two places, in turns of a few steps each, and each pair of turns gives a
ratio: what else the machine does at that time meets both. Printed are the median of the ratios and its 95 % interval
(bootstrap), for the time that passed and for the processor's time of all threads. Above 1 the disk is faster: what
the threads gather meanwhile the resident set gathers in the step.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.large_set import SHAPE, write
from vae_models.config.train import TrainConfig
from vae_models.data import stored
from vae_models.data.records import Dataset
from vae_models.data.shards import opened
from vae_models.training.context import LocalContext
from vae_models.training.loop import Run

SET_BYTES = 32 * 2**20  # an epoch is 85 steps, so several are in the measurement, the first among them
MODELS = {
    "mlp": {"latent": 16, "backbone": {"kind": "mlp", "hidden": [64]}},
    "conv": {"latent": 16, "backbone": {"kind": "conv", "channels": [8, 16, 32, 32]}},
}


def begun(model: str, place: str, dataset: Dataset, facts: dict[str, object], digest: str, folder: Path) -> Run:
    """A run before its first step."""
    config = TrainConfig.model_validate(
        {
            "data": {"name": "made", "digest": digest, "facts": facts, "residency": place},
            "model": {**MODELS[model], "likelihood": {"kind": "gaussian"}},
            "steps": 10**6,
            "log_every_steps": 10**5,
        }
    )
    run = Run(config, LocalContext(folder / model / place), dataset)
    run.model.train()
    return run


def turn(run: Run, steps: int) -> tuple[float, float]:
    """(seconds that passed, seconds of the processor) of one step."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(steps):
        run.step()
    return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps


def interval(ratios: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the median."""
    drawn = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.residency", description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=40, help="of a turn")
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice")
    parser.add_argument("--model", nargs="*", choices=sorted(MODELS), default=sorted(MODELS))
    parser.add_argument("--place", nargs="*", choices=("host", "stream"), default=("host", "stream"))
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"batches of 128 images of {list(SHAPE)}, {torch.get_num_threads()} threads of torch")
    print("model  place   resident ms  ratio of time [95 %]     ratio of processor time")
    with tempfile.TemporaryDirectory(prefix="vaesvc-residency-") as scratch:
        made = stored.read(write(Path(scratch), SET_BYTES))
        dataset, facts = opened("made", made), made.spec.model_dump(exclude={"digest"})
        for model in options.model:
            for place in options.place:
                runs = [begun(model, name, dataset, facts, made.digest, Path(scratch)) for name in ("device", place)]
                with closing(runs[0]), closing(runs[1]):
                    for run in runs:
                        turn(run, options.steps)
                    times = np.empty((options.pairs, 2, 2))
                    for pair in range(options.pairs):
                        for which in (0, 1) if pair % 2 == 0 else (1, 0):
                            times[pair, which] = turn(runs[which], options.steps)
                wall, processor = (times[:, 0, kind] / times[:, 1, kind] for kind in (0, 1))
                low, high = interval(wall)
                print(
                    f"{model:5}  {place:6}  {1000 * np.median(times[:, 0, 0]):11.3f}  "
                    f"{np.median(wall):.3f} [{low:.3f}, {high:.3f}]     {np.median(processor):.3f}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
