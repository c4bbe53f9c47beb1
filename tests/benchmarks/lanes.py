"""Many configurations in one process: aggregate images per second of K fused lanes, beside K in turn and one alone.

    python -m tests.benchmarks.lanes --models mlp cnn resnet --lanes 1 7 21 63 [--device cuda] [--out lanes.json]

MR-VAE's nets for MNIST (mlp: 400-400), batch 128 (`--batch`), seven learning rates by seeds, on random bytes that lie
on the device. Medians of rounds that alternate; ratios are against one configuration alone, in the same process.
Memory: the peak of the device's allocator by lane (CUDA), else left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.training.context import LocalContext
from vae_models.training.fused import Fused
from vae_models.training.loop import Run

BACKBONES: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "hidden": [400, 400]},
    "cnn": {"kind": "conv"},
    "resnet": {"kind": "resnet"},
}
RATES = (0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001)
BATCH = 128


def dataset() -> Dataset:
    images = torch.randint(0, 256, (4096, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    splits = {"train": Split(x=images), "val": Split(x=images[:10]), "test": Split(x=images[:10])}
    return Dataset(name="mnist", shape=(1, 28, 28), **splits)


def runs(model: str, lanes: int, device: torch.device, folder: Path, data: Dataset, batch: int = BATCH) -> list[Run]:
    made = []
    residence: Any = None
    for lane in range(lanes):
        config = TrainConfig.model_validate(
            {
                "data": {"name": "mnist", "binarize": "threshold"},
                "model": {"latent": 32, "backbone": BACKBONES[model]},
                "optimizer": {"lr": RATES[lane % 7]},
                "seed": lane // 7,
                "steps": 10**6,
                "batch_size": batch,
                "log_every_steps": 10**5,
            }
        )
        context = LocalContext(folder / f"{lane}", device=device)
        made.append(Run(config, context, data, residence=residence))
        residence = made[0].splits
        made[-1].model.train()
    return made


def seconds_per_step(step: Any, device: torch.device, steps: int) -> float:
    began = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def measure(model: str, lanes: int, device: torch.device, rounds: int, steps: int, batch: int) -> dict[str, Any]:
    data = dataset()
    with tempfile.TemporaryDirectory() as folder:
        (alone,) = runs(model, 1, device, Path(folder) / "alone", data, batch)
        turn = runs(model, lanes, device, Path(folder) / "turn", data, batch)
        before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
        fused = Fused(runs(model, lanes, device, Path(folder) / "fused", data, batch))
        ways = {
            "alone": alone.step,
            "turn": lambda: [run.step() for run in turn],
            "fused": fused.step,
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for step in ways.values():
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        for _ in range(rounds):
            for name, step in ways.items():
                times[name].append(seconds_per_step(step, device, steps))
        memory = (torch.cuda.max_memory_allocated() - before) / lanes / 2**20 if device.type == "cuda" else None
    median = {name: statistics.median(values) for name, values in times.items()}
    images = {name: (1 if name == "alone" else lanes) * batch / seconds for name, seconds in median.items()}
    return {"model": model, "lanes": lanes, "images_per_second": images, "peak_mib_per_lane": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(BACKBONES), default=["mlp"])
    parser.add_argument("--lanes", nargs="+", type=int, default=[1, 7, 21])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--threads", type=int, default=None, help="of torch on the CPU")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, batch {options.batch}; images per second of all lanes, beside one alone")
    print("| model | lanes | alone | in turn | fused | in turn / alone | fused / alone | fused / in turn | MiB/lane |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    found = []
    for model in options.models:
        for lanes in options.lanes:
            try:
                result = measure(model, lanes, device, options.rounds, options.steps, options.batch)
            except torch.OutOfMemoryError as error:
                print(f"{model}, {lanes} lanes: {str(error).splitlines()[0]}", file=sys.stderr)
                break
            found.append(result)
            alone, turn, fused = (result["images_per_second"][way] for way in ("alone", "turn", "fused"))
            memory = "-" if result["peak_mib_per_lane"] is None else f"{result['peak_mib_per_lane']:.0f}"
            print(
                f"| {model} | {lanes} | {alone:,.0f} | {turn:,.0f} | {fused:,.0f} | {turn / alone:.2f} | "
                f"{fused / alone:.2f} | {fused / turn:.2f} | {memory} |",
                flush=True,
            )
    if options.out is not None:
        options.out.write_text(json.dumps({"device": name, "torch": torch.__version__, "results": found}, indent=1))


if __name__ == "__main__":
    main()
