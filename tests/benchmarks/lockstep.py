"""What follows the gradient in a step of fused lanes: lane by lane, as one stack, and the optimizer stacked too.

    python -m tests.benchmarks.lockstep [--sides 8 28] [--hidden 16] [--lanes 7 21] [--beta constant] [--rounds 7]

Fully connected nets on images of side x side random bytes, batch 128, one thread. Three stacks of the same lanes
alternate; medians of processor time per step, and the ratio of lane by lane to each: above 1 it is faster.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.training import lockstep
from vae_models.training.context import LocalContext
from vae_models.training.fused import Fused
from vae_models.training.loop import Run

NAMES = {8: "digits", 28: "mnist"}
BATCH = 128


class LaneByLane(Fused):
    """A stack whose lanes are clipped, stepped and controlled by themselves."""

    def step(self) -> None:
        given, beta = self._inputs()
        slopes, (losses, terms) = self._map(given, beta)
        for lane, run in enumerate(self.runs):
            for name, view in self._views[lane].items():
                view.grad = slopes[name][lane].contiguous()
            run.apply(losses[lane], {name: term[lane] for name, term in terms.items()})


def lanes(side: int, hidden: int, count: int, beta: str, folder: Path, *, validation: int = 10) -> list[Run]:
    """Return so many runs of one residence, with so many data to evaluate on."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2048, 1, side, side), generator=generator, dtype=torch.uint8)
    splits = {"train": Split(x=images), "val": Split(x=images[:validation]), "test": Split(x=images[:10])}
    data = Dataset(name=NAMES[side], shape=(1, side, side), **splits)
    made: list[Run] = []
    for lane in range(count):
        control: dict[str, Any] = {"kind": beta} if beta == "constant" else {"kind": beta, "kappa": 0.3}
        config = TrainConfig.model_validate(
            {
                "data": {"name": NAMES[side], "binarize": "threshold"},
                "model": {"latent": 8, "backbone": {"kind": "mlp", "hidden": [hidden]}},
                "beta": control,
                "optimizer": {"lr": 1e-3 * (lane + 1) / count},
                "steps": 10**6,
                "batch_size": BATCH,
                "log_every_steps": 10**5,
            }
        )
        residence = made[0].splits if made else None
        made.append(Run(config, LocalContext(folder / str(lane)), data, residence=residence))
        made[-1].model.train()
    return made


def measure(side: int, hidden: int, count: int, beta: str, rounds: int, steps: int) -> tuple[int, dict[str, float]]:
    """Return the parameters of a lane, and the median seconds of processor time of a step, by way."""
    with tempfile.TemporaryDirectory() as folder:
        stacks: dict[str, Fused] = {}
        for way, kind, small in (
            ("lane by lane", LaneByLane, 0),
            ("one stack", Fused, 0),
            ("optimizer too", Fused, 2**62),
        ):
            lockstep.SMALL = small
            stacks[way] = kind(lanes(side, hidden, count, beta, Path(folder) / way))
            if kind is LaneByLane:
                stacks[way]._lockstep.close()
        times: dict[str, list[float]] = {way: [] for way in stacks}
        for stack in stacks.values():
            stack.step()
            stack.step()
        for round_ in range(rounds):
            for way in sorted(stacks, reverse=bool(round_ % 2)):
                began = time.process_time()
                for _ in range(steps):
                    stacks[way].step()
                times[way].append((time.process_time() - began) / steps)
        size = sum(parameter.numel() for parameter in stacks["one stack"].runs[0].parameters)
    return size, {way: statistics.median(seconds) for way, seconds in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", type=int, choices=list(NAMES), default=[8])
    parser.add_argument("--hidden", nargs="+", type=int, default=[16])
    parser.add_argument("--lanes", nargs="+", type=int, default=[7, 21])
    parser.add_argument("--beta", nargs="+", choices=("constant", "geco", "rewo"), default=["constant", "rewo"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| parameters of a lane | lanes | beta | lane by lane [ms] | one stack | optimizer too |")
    print("| --- | --- | --- | --- | --- | --- |")
    for side in options.sides:
        for hidden in options.hidden:
            for count in options.lanes:
                for beta in options.beta:
                    size, seconds = measure(side, hidden, count, beta, options.rounds, options.steps)
                    alone = seconds["lane by lane"]
                    ratios = " | ".join(f"{alone / seconds[way]:.2f} x" for way in ("one stack", "optimizer too"))
                    print(f"| {size:,} | {count} | {beta} | {alone * 1e3:.2f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
