"""What it costs to give freed memory back at every step: the benchmark CNN on the CPU, as it trains and without.

    python -m tests.benchmarks.freed_memory [--rounds 3] [--steps 40] [--batch 4]

A process each, in turn; it trains in a thread, as Ray Train's workers do. Prints the seconds of a step (wall clock, of
it the kernel's processor time), medians over the rounds, and the most memory that a process held.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median

PROGRAM = """
import json, resource, sys, tempfile, threading, time
from pathlib import Path
import torch
from tests.benchmarks.loop_overhead import Clock, TimedContext
from vae_models.config import ConvConfig, DataConfig, EvaluationConfig, ModelConfig, TrainConfig
from vae_models.data import Dataset, Split
from vae_models.training import loop

kept, steps, batch = sys.argv[1] == "True", int(sys.argv[2]), int(sys.argv[3])
if not kept:
    loop.keep_freed_memory = lambda: False
torch.set_num_threads(1)
part = Split(images=torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8))
data = Dataset(name="mnist", train=part, val=part, test=part, shape=(1, 28, 28))
config = TrainConfig(
    data=DataConfig(name="mnist", binarize="dynamic"), model=ModelConfig(latent=32, backbone=ConvConfig()),
    batch_size=batch, steps=steps, log_every_steps=steps // 4,
    evaluation=EvaluationConfig(every_epochs=1e6, limit=2, test=False, pictures=False),
)
clock = Clock()
with tempfile.TemporaryDirectory() as folder:
    arguments = (config, TimedContext(Path(folder), clock))
    thread = threading.Thread(target=loop.train, args=arguments, kwargs={"dataset": data})
    thread.start()
    thread.join()
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"wall": clock.timing().wall, "kernel": used.ru_stime / steps, "bytes": used.ru_maxrss * 1024}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for number in range(options.rounds):
        for kept, results in found.items():
            command = [sys.executable, "-c", PROGRAM, str(kept), str(options.steps), str(options.batch)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
            results.append(json.loads(done.stdout))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    seconds = {kept: median(one["wall"] for one in results) for kept, results in found.items()}
    for kept, results in found.items():
        kernel, most = median(one["kernel"] for one in results), median(one["bytes"] for one in results)
        print(
            f"{'kept' if kept else 'given back':10}  {seconds[kept]:.3f} s a step, {kernel:.3f} s of it the kernel's; ",
            end="",
        )
        print(f"{most / 2**20:.0f} MiB at most; {seconds[False] / seconds[kept]:.2f} times as fast")


if __name__ == "__main__":
    main()
