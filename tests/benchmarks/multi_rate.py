"""What several beta cost a multi-rate model: its evaluation at ten beta beside one, its training beside a beta-VAE's.

    python -m tests.benchmarks.multi_rate [--models mlp cnn resnet] [--betas 10] [--data 500] [--rounds 7] [--compiled]

MR-VAE's nets for MNIST (mlp: 400-400), one thread on the CPU, random bytes. Evaluations at 1 alone, at 1 and at the
beta in one pass, and at each in a pass of its own alternate, and so do training steps of batch 128 (--compiled: both
with compile: step); medians of processor time. Beside the first ratio is that of the arithmetic: floating-point
operations of products and convolutions, counted, and the share of one beta's that depends on beta. A layer before the
first gate computes each datum once, every later one each datum at every beta: no evaluation costs less arithmetic.
Memory: what an evaluation's tensors take at most, counted, without the data.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.lanes import BACKBONES, BATCH, dataset
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.evaluation.memory import MIB
from vae_models.nn.meter import Meter
from vae_models.training.context import LocalContext
from vae_models.training.evaluation import evaluate
from vae_models.training.loop import Run


def run(model: str, gated: bool, folder: Path, data: Dataset, *, compiled: bool) -> Run:
    config: dict[str, Any] = {
        "data": {"name": "mnist", "binarize": "threshold"},
        "model": {"latent": 32, "backbone": BACKBONES[model]} | ({"gating": {}} if gated else {}),
        "beta": {"kind": "log-uniform"} if gated else {"kind": "constant"},
        "steps": 10**6,
        "batch_size": BATCH,
        "log_every_steps": 10**5,
        "compile": "step" if compiled else "off",
    }
    made = Run(TrainConfig.model_validate(config), LocalContext(folder), data)
    made.model.train()
    return made


def medians(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of processor time of each way; they alternate, forwards and backwards."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for round_ in range(rounds):
        for name in sorted(ways, reverse=bool(round_ % 2)):
            began = time.process_time()
            ways[name]()
            times[name].append(time.process_time() - began)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def measure(model: str, betas: tuple[float, ...], count: int, rounds: int, *, compiled: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = dataset()
        data = Dataset(
            name=data.name, shape=data.shape, train=data.train, val=Split(x=data.train.x[:count]), test=data.test
        )
        gated = run(model, True, Path(folder, "gated"), data, compiled=compiled)
        plain = run(model, False, Path(folder, "plain"), data, compiled=compiled)

        def at(*others: float) -> object:
            return evaluate(
                gated.model, gated.val_data, gated.config.evaluation, name="val", source=gated.noise, betas=others
            )

        ways: dict[str, Callable[[], object]] = {
            "one": at,
            "one pass": lambda: at(*betas),
            "in turn": lambda: [at() for _ in betas],
        }
        seconds = medians(ways, rounds)
        operations, mib = {}, {}
        for name in ("one", "one pass"):
            with FlopCounterMode(display=False) as counter:
                ways[name]()
            with Meter() as meter:
                ways[name]()
            operations[name], mib[name] = counter.get_total_flops(), meter.peak / MIB
        steps = medians({"multi-rate": gated.step, "beta-VAE": plain.step}, 4 * rounds)
        for each in (gated, plain):
            each.close()
    print(
        f"| {model} | {seconds['one'] * 1e3:.1f} ms | {seconds['one pass'] / seconds['one']:.2f} x | "
        f"{operations['one pass'] / operations['one']:.2f} x | {share(operations, len(set(betas) - {1.0})):.1%} | "
        f"{seconds['in turn'] / seconds['one pass']:.2f} x | "
        f"{mib['one']:.0f}, {mib['one pass']:.0f} MiB | {steps['beta-VAE'] * 1e3:.1f} ms | "
        f"{steps['multi-rate'] / steps['beta-VAE']:.2f} x |",
        flush=True,
    )


def share(operations: Mapping[str, int], others: int) -> float:
    """Return the share of the arithmetic at one beta that depends on beta: all of it is 1 + others x share of it."""
    return (operations["one pass"] / operations["one"] - 1) / others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(BACKBONES), default=["mlp", "resnet"])
    parser.add_argument("--betas", type=int, default=10)
    parser.add_argument("--data", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compiled", action="store_true", help="training with compile: step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    betas = tuple(10 ** (-2 + 3 * place / (options.betas - 1)) for place in range(options.betas))
    print(
        f"torch {torch.__version__}, one thread, {options.data} data, {len(betas)} beta beside 1, batch {BATCH}, "
        f"compile: {'step' if options.compiled else 'off'}"
    )
    print(
        "| net | evaluation at 1 | at all / at 1 | arithmetic | of it depends on beta | in turn / one pass | memory "
        "| step | multi-rate / beta-VAE |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for model in options.models:
        measure(model, betas, options.data, options.rounds, compiled=options.compiled)


if __name__ == "__main__":
    main()
