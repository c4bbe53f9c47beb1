"""Many runs of `vaesvc run`, a few at a time, kept in a folder: what is there already is not trained again."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from vae_models.config.train import TrainConfig

VAESVC = (sys.executable, "-c", "from service.cli.main import main; main()")
SECONDS = 6 * 3600


@dataclass(frozen=True, kw_only=True)
class Run:
    """metrics: the last value of each name; history: every line of metrics.jsonl; seconds: of the whole command."""

    name: str
    folder: Path
    metrics: Mapping[str, float]
    history: list[tuple[int, Mapping[str, float]]]
    seconds: float

    def curve(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of one metric."""
        return [(step, metrics[name]) for step, metrics in self.history if name in metrics]

    def model(self) -> nn.Module:
        """The model after the last step."""
        from vae_models.training.checkpoint import load_model

        return load_model(sorted((self.folder / "checkpoints").glob("[!.]*"))[-1])[0]


def run_all(configs: Mapping[str, TrainConfig], out: Path, *, at_once: int = 2) -> dict[str, Run]:
    """Every run by name, one thread each, `at_once` side by side; says on stderr which has ended and what is left."""
    started, done = time.monotonic(), 0

    def one(name: str) -> Run:
        nonlocal done
        run = _run(name, configs[name], out / name)
        done += 1
        left = (time.monotonic() - started) / done * (len(configs) - done)
        line = f"{done}/{len(configs)} {name}  {run.seconds:.0f} s, about {left:.0f} s left"
        print(line, file=sys.stderr, flush=True)
        return run

    with ThreadPoolExecutor(at_once) as pool:
        return dict(zip(configs, pool.map(one, configs), strict=True))


def _run(name: str, config: TrainConfig, folder: Path) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    result, spec = folder / "result.json", folder / "spec.json"
    wanted = json.dumps({"kind": "train", "name": name.replace("/", "-"), "train": config.model_dump(mode="json")})
    if not (result.exists() and spec.exists() and spec.read_text() == wanted):
        spec.write_text(wanted)
        began = time.monotonic()
        command = [*VAESVC, "run", str(spec), "--out", str(folder / "run"), "--device", "cpu"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode != 0:
            sys.exit(f"{name} ended with exit code {done.returncode}: {done.stderr[-2000:]}")
        result.write_text(json.dumps({"seconds": time.monotonic() - began}))
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    history = [(line["step"], line["metrics"]) for line in lines]
    latest: dict[str, float] = {}
    for _, metrics in history:
        latest |= metrics
    seconds = json.loads(result.read_text())["seconds"]
    return Run(name=name, folder=folder / "run", metrics=latest, history=history, seconds=seconds)


def table(header: list[str], rows: list[list[Any]]) -> str:
    """Markdown, floats with four digits."""
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(doc: str | None, show: Callable[[Path, float], None]) -> None:
    """`show(out, scale)` of one result: `--out DIR` keeps the runs, `--scale 0.1` takes a tenth of the steps."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the runs are kept and pictures are written")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps; results are stated for 1")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    began = time.monotonic()
    show(options.out, options.scale)
    print(f"\ncommit {commit.stdout.strip() or 'unknown'}, {time.monotonic() - began:.0f} s now")
