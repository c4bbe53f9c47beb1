"""Plain loops beside which a search is held: forward, backward, Adam, one thread each, several side by side.

    python -m tests.benchmarks.plain_loops CONFIG.json      # one process of them; `measure` starts them

A loop has its batches and noise ready, evaluates nothing, writes nothing. Two at a time are measured as two processes
that compute at the same time, because cores of one machine share its memory and its clock.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEPS = 100  # of a block; blocks with either Adam alternate
BLOCKS = 3
WARM = 10
SECONDS = 300.0  # until all of them have ended
READY = "ready"


@dataclass(frozen=True, kw_only=True)
class Plain:
    """What plain loops reached. step, fused_step: seconds of a step with torch's Adam as it comes, and with its fused
    kernel, means over the loops; evaluation: seconds of one evaluation of ours on the validation split."""

    step: float
    fused_step: float
    evaluation: float


def measure(config: Any, count: int) -> Plain:
    """Return the speed of so many loops over the model and data of `config`, a TrainConfig, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.json")
        file.write_text(config.model_dump_json())
        command = [sys.executable, "-m", __name__, str(file)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        loops = [
            subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        try:
            for loop in loops:
                assert loop.stdout is not None
                line = loop.stdout.readline().strip()
                if line != READY:
                    sys.exit(f"a plain loop did not begin: {line!r}")
            for loop in loops:  # together
                assert loop.stdin is not None
                loop.stdin.write("\n")
                loop.stdin.flush()
            rates = [json.loads(loop.communicate(timeout=SECONDS)[0]) for loop in loops]
        finally:
            for loop in loops:
                if loop.poll() is None:
                    loop.kill()
                loop.wait()
    return Plain(**{name: statistics.fmean(each[name] for each in rates) for name in rates[0]})


def _loop(path: Path) -> dict[str, float]:
    import torch

    from vae_models import data
    from vae_models.config.train import TrainConfig
    from vae_models.training.context import LocalContext
    from vae_models.training.loop import Run
    from vae_models.training.together import evaluate_runs

    torch.set_num_threads(1)
    config = TrainConfig.model_validate_json(path.read_text())
    dataset = data.load(config.data)
    run, shown = (Run(config, LocalContext(path.parent / f"{os.getpid()}-{n}"), dataset) for n in range(2))
    batches = [run.batch() for _ in range(8)]
    beta = torch.ones(())
    optimizers = {
        "step": torch.optim.Adam(run.model.parameters(), lr=1e-3),
        "fused_step": torch.optim.Adam(run.model.parameters(), lr=1e-3, fused=True),
    }

    def block(optimizer: torch.optim.Optimizer, steps: int) -> float:
        run.model.train()
        began = time.perf_counter()
        for number in range(steps):
            loss, _ = run.module(*batches[number % len(batches)], beta)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return (time.perf_counter() - began) / steps

    def evaluation() -> float:
        shown.at.step, shown.made = shown.timetable.total_steps, {}
        began = time.perf_counter()
        evaluate_runs([shown], "val")
        return time.perf_counter() - began

    for optimizer in optimizers.values():
        block(optimizer, WARM)
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    sys.stdin.readline()
    seconds: dict[str, list[float]] = {name: [] for name in (*optimizers, "evaluation")}
    for _ in range(BLOCKS):
        for name, optimizer in optimizers.items():
            seconds[name].append(block(optimizer, STEPS))
        seconds["evaluation"].append(evaluation())
    return {name: statistics.median(each) for name, each in seconds.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_loop(Path(sys.argv[1]))))
