"""Evaluations of the lanes of a pack: in one pass over the data for all of them, beside a pass for each.

    python -m tests.benchmarks.evaluations [--sides 8 28] [--hidden 16 400] [--lanes 7 21] [--data 1000] [--rounds 7]

Fully connected nets on images of side x side random bytes, one thread. Ways alternate; medians of processor time of an
evaluation of all lanes, and the ratio of a pass for each to one pass: above 1 one pass is faster.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from tests.benchmarks.lockstep import NAMES, lanes
from tests.benchmarks.multi_rate import medians
from vae_models.training.evaluation import Subject, evaluate, evaluate_together


def measure(side: int, hidden: int, count: int, data: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of an evaluation of so many lanes by way."""
    with tempfile.TemporaryDirectory() as folder:
        runs = lanes(side, hidden, count, "constant", Path(folder), validation=data)
        split, settings = runs[0].val_data, runs[0].config.evaluation
        subjects = [Subject(model=run.model, source=run.noise) for run in runs]
        return medians(
            {
                "a pass for each": lambda: [
                    evaluate(run.model, split, settings, name="val", source=run.noise) for run in runs
                ],
                "one pass": lambda: evaluate_together(subjects, split, name="val", size=settings.batch_size),
            },
            rounds,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", type=int, choices=list(NAMES), default=[8, 28])
    parser.add_argument("--hidden", nargs="+", type=int, default=[16, 400])
    parser.add_argument("--lanes", nargs="+", type=int, default=[7, 21])
    parser.add_argument("--data", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {options.data} data")
    print("| side | hidden | lanes | a pass for each [ms] | one pass [ms] | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for side in options.sides:
        for hidden in options.hidden:
            for count in options.lanes:
                seconds = measure(side, hidden, count, options.data, options.rounds)
                each, one = seconds["a pass for each"], seconds["one pass"]
                print(f"| {side} | {hidden} | {count} | {each * 1e3:.1f} | {one * 1e3:.1f} | {each / one:.2f} |",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
