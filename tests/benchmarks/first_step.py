"""Seconds from `vaesvc submit` to the first step, and where they go: a stack, or two checkouts' stacks in turn.

    vaesvc up && python -m tests.benchmarks.first_step [--rounds 5] [--workers 1 2] [--beside CHECKOUT HOME]

The job is `ray_overhead`'s, of a few steps. A first job of each kind that is not counted makes the stack warm. Beside
the seconds, which a busy machine stretches, stand the processor seconds (user + system) that all processes of Ray's
took from submission to the first step. --beside: another checkout with its own environment, whose stack runs in HOME.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from service.attempt.timeline import TOTAL
from service.settings import load
from service.stack.process import MARK
from service.stack.state import mark
from tests.benchmarks.ray_overhead import spec, start_up

PROCESSOR = "processor seconds of Ray's processes"
STEPS = 20
TRIALS = 4
_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Side:
    """A checkout and the home of its stack."""

    name: str
    python: Path
    home: Path

    def vaesvc(self, *arguments: str) -> str:
        command = [str(self.python), "-c", "from service.cli.main import main; main()", *arguments]
        done = subprocess.run(
            command, env=os.environ | {"VAESVC_HOME": str(self.home)}, cwd=self.home, stdout=subprocess.PIPE,
            text=True, timeout=600, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            sys.exit(f"{self.name}: vaesvc {' '.join(arguments[:2])} ended with exit code {done.returncode}")
        return done.stdout


class Processors:
    """The processor seconds of all that bears a part's mark, sampled: also of what has ended meanwhile."""

    def __init__(self, of: str) -> None:
        self._mark = f"{MARK}={of}".encode()
        self._known: dict[tuple[int, int], bool] = {}
        self._spent: dict[tuple[int, int], int] = {}
        self.samples: list[tuple[float, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Processors:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def until(self, at: float) -> float:
        """Return the processor seconds from the first sample to the last before `at` [s since 1970]."""
        return max(spent for when, spent in self.samples if when <= at) - self.samples[0][1]

    def _sample(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                process = (int(name), int(fields[19]))
                if process not in self._known:
                    self._known[process] = self._mark in Path("/proc", name, "environ").read_bytes().split(b"\0")
            except OSError:  # it has gone
                continue
            if self._known[process]:
                self._spent[process] = int(fields[11]) + int(fields[12])
        self.samples.append((time.time(), sum(self._spent.values()) / _TICKS))


def measure(side: Side, file: Path) -> dict[str, float]:
    """Return the seconds of a job's stages, and its processor seconds."""
    with Processors(mark(side.home, "ray")) as processors:
        job_id = side.vaesvc("submit", str(file), "--wait").split()[0]
    job = json.loads(side.vaesvc("show", job_id, "--json"))
    return start_up(job) | {PROCESSOR: processors.until(job["job"]["result"]["timings"]["first_progress"])}


def study(folder: Path, trials: int) -> Path:
    """Write a study of so many trials, each of `STEPS` steps by a gang of two workers."""
    whole = spec(STEPS, 1)
    rates = [0.001 * 0.9**i for i in range(trials)]
    stages = [{"name": "rates", "space": {"optimizer.lr": rates}}]
    study = {"base": whole["train"], "stages": stages, "workers_per_trial": 2, "name": "groups"}
    file = folder / f"study-{trials}.json"
    file.write_text(json.dumps(study))
    return file


def measure_groups(side: Side, folder: Path) -> float:
    """Return the seconds of a trial by a gang: what a study of `TRIALS` takes longer than one of one, over the rest."""
    seconds = []
    for trials in (1, TRIALS):
        job_id = side.vaesvc("submit", str(study(folder, trials)), "--workers", "2", "--wait").split()[0]
        attempt = json.loads(side.vaesvc("show", job_id, "--json"))["attempts"][-1]
        seconds.append(attempt["ended_at"] - attempt["started_at"])
    return (seconds[1] - seconds[0]) / (TRIALS - 1)


def groups(sides: list[Side], folder: Path, rounds: int) -> None:
    measured: dict[str, list[float]] = {side.name: [] for side in sides}
    for round_ in range(rounds):
        for side in sides if round_ % 2 == 0 else reversed(sides):
            measured[side.name].append(measure_groups(side, folder))
            print(f"round {round_ + 1}  {side.name:6}  {measured[side.name][-1]:6.2f} s a trial", flush=True)
    for name, seconds in measured.items():
        print(
            f"{statistics.median(seconds):7.2f} s  a trial of {STEPS} steps by two workers, {name}, median of {rounds}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--beside", type=Path, nargs=2, metavar=("CHECKOUT", "HOME"))
    parser.add_argument("--groups", action="store_true", help="a study's trials by gangs of two workers, not jobs")
    options = parser.parse_args()
    sides = [Side(name="here", python=Path(sys.executable), home=load().home)]
    if options.beside:
        sides.append(Side(name="beside", python=options.beside[0] / ".venv/bin/python", home=options.beside[1]))
    with tempfile.TemporaryDirectory() as folder:
        if options.groups:
            groups(sides, Path(folder), options.rounds)
            return
        for workers in options.workers:
            file = Path(folder, f"{workers}.json")
            whole = spec(STEPS, 1)
            file.write_text(json.dumps(whole | {"resources": {"workers": workers, "cpus_per_worker": 1}}))
            stages: dict[str, list[dict[str, float]]] = {side.name: [] for side in sides}
            for round_ in range(options.rounds + 1):
                for side in sides if round_ % 2 == 0 else reversed(sides):
                    seconds = measure(side, file)
                    if round_ > 0:
                        stages[side.name].append(seconds)
                    load_ = os.getloadavg()[0]
                    print(
                        f"round {round_}  {workers} workers  {side.name:6}  {seconds[TOTAL]:6.2f} s  "
                        f"{seconds[PROCESSOR]:6.2f} processor s  load {load_:.1f}", flush=True,
                    )  # fmt: skip
            show(workers, stages, options.rounds)


def show(workers: int, stages: dict[str, list[dict[str, float]]], rounds: int) -> None:
    """Print the medians over rounds, and the ratios of pairs."""
    print(f"\n{workers} workers, medians of {rounds} rounds")
    for side, measured in stages.items():
        print(side)
        for name in measured[0]:
            print(f"{statistics.median(each[name] for each in measured):7.2f} s  {name}")
    if len(stages) == 2:
        here, beside = stages.values()
        for name in (TOTAL, PROCESSOR):
            ratio = statistics.median(a[name] / b[name] for a, b in zip(here, beside, strict=True))
            print(f"{ratio:7.3f}    here / beside, median of pairs: {name}")
    print()


if __name__ == "__main__":
    main()
