"""What Ray costs: steps per second of a plain PyTorch loop, `vaesvc run` and a Ray job, alternating in one run.

    vaesvc up && python -m tests.benchmarks.ray_overhead [--rounds 3] [--steps 3000] [--threads 1]

The same model (the MLP of `loop_overhead`) on the same data (static binarized MNIST), batch and number of threads. Each
number is the mean over the second half of the steps, in a process of its own; medians over rounds. Then the
seconds from `submit` to the first step, with where they go, medians over the Ray jobs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from service.attempt.timeline import seconds
from tests.benchmarks.loop_overhead import BATCH
from tests.command import VAESVC

KINDS = ("plain loop", "vaesvc run", "Ray job")
PLAIN = """
import sys, torch
from tests.benchmarks import loop_overhead as bench
torch.set_num_threads(int(sys.argv[2]))
config = bench.config_of("mlp").model_copy(update={"steps": int(sys.argv[1]), "log_every_steps": int(sys.argv[1]) // 2})
print(1 / bench.plain(config, bench.load("mlp").train.x.float().div(255)).wall)
"""


def spec(steps: int, threads: int) -> dict[str, Any]:
    """`loop_overhead`'s configuration as a spec: two logs, the second of which covers the second half of the steps."""
    from tests.benchmarks.loop_overhead import config_of

    train = config_of("mlp").model_dump(mode="json") | {"steps": steps, "log_every_steps": steps // 2}
    return {
        "kind": "train",
        "name": "ray-overhead",
        "register_as": "ray-overhead",
        "train": train,
        "resources": {"workers": 1, "cpus_per_worker": threads},
    }


def command(*arguments: str, threads: int) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True, timeout=900, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments[:4])} ... ended with exit code {done.returncode}")
    return done.stdout


def steps_per_second(kind: str, file: Path, steps: int, threads: int) -> tuple[float, dict[str, float]]:
    if kind == "plain loop":
        return float(command(sys.executable, "-c", PLAIN, str(steps), str(threads), threads=threads)), {}
    if kind == "vaesvc run":
        with tempfile.TemporaryDirectory() as folder:
            command(VAESVC, "run", str(file), "--out", f"{folder}/run", "--device", "cpu", threads=threads)
            lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
            speeds = [json.loads(line)["metrics"].get("images_per_second") for line in lines]
            return next(speed for speed in reversed(speeds) if speed is not None) / BATCH, {}
    job_id = command(VAESVC, "submit", str(file), "--wait", threads=threads).split()[0]
    job = json.loads(command(VAESVC, "show", job_id, "--json", threads=threads))
    return job["job"]["result"]["metrics"]["images_per_second"] / BATCH, start_up(job)


def start_up(detail: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of each stage; all clocks are this machine's."""
    job, attempt, timings = detail["job"], detail["attempts"][-1], detail["job"]["result"]["timings"]
    queue = {"admitted": "created_at", "submitted": "submitted_at", "claimed": "started_at"}
    return seconds(job["created_at"], {name: attempt[at] for name, at in queue.items()} | timings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    stages: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "spec.json")
        file.write_text(json.dumps(spec(options.steps, options.threads)))
        for round_ in range(options.rounds):
            for kind in KINDS if round_ % 2 == 0 else reversed(KINDS):
                speed, parts = steps_per_second(kind, file, options.steps, options.threads)
                speeds[kind].append(speed)
                if parts:
                    stages.append(parts)
                print(f"round {round_ + 1}  {kind:10}  {speed:8.1f} steps/s", flush=True)
    print(f"\nmedians of {options.rounds} rounds, batch {BATCH}, {options.threads} threads")
    base = statistics.median(speeds["plain loop"])
    for kind in KINDS:
        median = statistics.median(speeds[kind])
        print(f"{kind:12} {median:8.1f} steps/s   {median / base:6.3f} of the plain loop")
    print()
    for name in stages[0]:
        print(f"{statistics.median(parts[name] for parts in stages):7.2f} s  {name}")


if __name__ == "__main__":
    main()
