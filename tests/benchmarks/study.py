"""What a pack saves: a study of T short trials in one process, beside one `vaesvc run` process for each trial.

    python -m tests.benchmarks.study [--trials 21] [--steps 300] [--rounds 1]

Seven learning rates by seeds, MLP 400-400 on static binarized MNIST, one thread each; whole commands, imports and data
included, one evaluation at the end. A Ray Train group for each trial costs its start on top of a process:
`tests.benchmarks.ray_overhead` measures that. A pack is one process: on several cores compare with --at-once 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

VAESVC = (sys.executable, "-c", "from service.cli.main import main; main()")
RATES = [0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001]


def base(steps: int) -> dict[str, Any]:
    return {
        "data": {"name": "binarized-mnist"},
        "model": {"latent": 32, "backbone": {"kind": "mlp", "hidden": [400, 400]}},
        "steps": steps,
        "log_every_steps": 100,
        "evaluation": {"every_epochs": 1000, "pictures": False, "test": False},
        "checkpoint": {"every_steps": 1_000_000},
    }


def run(*arguments: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*VAESVC, *arguments], env=environment, check=True, capture_output=True, timeout=3600)


def pack(folder: Path, trials: int, steps: int) -> float:
    seeds = list(range(-(-trials // len(RATES))))
    study = {
        "base": base(steps),
        "stages": [{"name": "rates", "space": {"optimizer.lr": RATES[: min(trials, 7)]}, "repeats": seeds}],
    }
    file = folder / "study.json"
    file.write_text(json.dumps(study))
    began = time.perf_counter()
    run("study", "run", str(file), "--out", str(folder / "pack"), "--device", "cpu")
    return time.perf_counter() - began


def processes(folder: Path, trials: int, steps: int, at_once: int) -> float:
    def one(number: int) -> None:
        config = base(steps) | {"seed": number // 7, "optimizer": {"lr": RATES[number % 7]}}
        file = folder / f"run-{number}.json"
        file.write_text(json.dumps({"kind": "train", "name": f"run-{number}", "train": config}))
        run("run", str(file), "--out", str(folder / f"run-{number}"), "--device", "cpu")

    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(trials)))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=21)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=1)
    options = parser.parse_args()
    packs, separate = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            packs.append(pack(Path(folder), options.trials, options.steps))
            separate.append(processes(Path(folder), options.trials, options.steps, options.at_once))
    one, many = statistics.median(packs), statistics.median(separate)
    print(f"{options.trials} trials of {options.steps} steps: one process {one:.1f} s; ", end="")
    print(f"a process each, {options.at_once} at once, {many:.1f} s: {many / one:.2f} times as long")


if __name__ == "__main__":
    main()
