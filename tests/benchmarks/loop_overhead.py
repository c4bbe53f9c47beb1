"""What the loop costs: steps per second of a plain PyTorch loop and of `train()`, alternating in one run.

    python -m tests.benchmarks.loop_overhead [--rounds 7] [--threads 2] [--only mlp|cnn]

The plain loop is what one writes by hand for speed: data resident as floats, one permutation per epoch, noise from
torch's generator, the same network with torch's own batch norm, fused Adam, losses added up on the device and read once
per log. `train()` adds the scaling of bytes, noise by (seed, step), means of every term, the gradient norm, logs,
progress and polls. Both are timed between their first and last log, without evaluations and checkpoints. Medians over
rounds; "cpu" is processor time, which other programs on the machine disturb less than "wall".
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vae_models import data
from vae_models.backbones.specs import ConvConfig, MLPConfig
from vae_models.config.run import CheckpointConfig, EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.data import Dataset, Split
from vae_models.data.config import DataConfig
from vae_models.nn.norm import BatchNorm2d
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.training.context import LocalContext
from vae_models.training.loop import train

BATCH = 128
LOG_EVERY = {"mlp": 50, "cnn": 4}
STEPS = {"mlp": 350, "cnn": 12}  # per round; the first LOG_EVERY are not timed
BACKBONES = {"mlp": MLPConfig(hidden=(512, 512)), "cnn": ConvConfig()}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds per step."""

    wall: float
    cpu: float


class Clock:
    def __init__(self) -> None:
        self.marks: dict[int, tuple[float, float]] = {}

    def mark(self, step: int) -> None:
        self.marks.setdefault(step, (time.perf_counter(), time.process_time()))

    def timing(self) -> Timing:
        first, last = min(self.marks), max(self.marks)
        wall, cpu = (b - a for a, b in zip(self.marks[first], self.marks[last], strict=True))
        return Timing(wall=wall / (last - first), cpu=cpu / (last - first))


class TimedContext(LocalContext):
    def __init__(self, directory: Path, clock: Clock) -> None:
        super().__init__(directory)
        self._clock = clock

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        super().log_metrics(step, metrics)
        if "train/loss" in metrics:
            self._clock.mark(step)


def config_of(net: str) -> TrainConfig:
    return TrainConfig(
        data=DataConfig(name="binarized-mnist"),
        model=ModelConfig(latent=32, backbone=BACKBONES[net]),
        batch_size=BATCH,
        steps=STEPS[net],
        log_every_steps=LOG_EVERY[net],
        evaluation=EvaluationConfig(every_epochs=1e6, limit=1, test=False, pictures=False),
        checkpoint=CheckpointConfig(every_steps=10**9),
    )


def ours(config: TrainConfig, dataset: Dataset) -> Timing:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        train(config, TimedContext(Path(folder), clock), dataset=dataset)
    return clock.timing()


def with_torchs_norm(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, BatchNorm2d):
            setattr(module, name, nn.BatchNorm2d(child.num_features))
        else:
            with_torchs_norm(child)
    return module


def plain(config: TrainConfig, images: Tensor) -> Timing:
    torch.manual_seed(config.seed)
    model = with_torchs_norm(config.model.build((1, 28, 28)))
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimizer.lr, fused=True)
    clock = Clock()
    total = torch.zeros(())
    order = torch.randperm(len(images))
    position = 0
    assert config.steps is not None
    for step in range(1, config.steps + 1):
        if position + BATCH > len(images):
            order, position = torch.randperm(len(images)), 0
        x = images[order[position : position + BATCH]]
        position += BATCH
        trace = model(x, {"z": torch.randn(BATCH, config.model.latent)})
        loss = (trace.distortion + trace.rate).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
        if step % config.log_every_steps == 0 or step == config.steps:
            float(total)
            total.zero_()
            clock.mark(step)
    return clock.timing()


def load(net: str) -> Dataset:
    try:
        return data.load(config_of(net).data)
    except data.DataMissing:  # speed does not depend on what the bytes are
        images = torch.randint(0, 2, (50_000, 1, 28, 28), dtype=torch.uint8) * 255
        splits = {name: Split(x=images[:size]) for name, size in (("train", 50_000), ("val", 10), ("test", 10))}
        return Dataset(name="binarized-mnist", shape=(1, 28, 28), **splits)


def compare(net: str, rounds: int) -> None:
    config, dataset = config_of(net), load(net)
    images = dataset.train.x.float().div(255)
    timings: dict[str, list[Timing]] = {"plain": [], "train()": []}
    for round_ in range(rounds + 1):
        for name in sorted(timings, reverse=bool(round_ % 2)):
            timing = plain(config, images) if name == "plain" else ours(config, dataset)
            if round_ > 0:  # the first warms up
                timings[name].append(timing)
    median = {
        (name, kind): statistics.median(getattr(timing, kind) for timing in found)
        for name, found in timings.items()
        for kind in ("wall", "cpu")
    }
    for name in timings:
        wall, cpu = median[name, "wall"], median[name, "cpu"]
        print(
            f"{net:4} {name:8} {1 / wall:9.2f} steps/s   wall {wall * 1e3:8.3f} ms/step   cpu {cpu * 1e3:8.3f} ms/step"
        )
    for kind in ("wall", "cpu"):
        print(f"{net:4} train() / plain, {kind}: {median['train()', kind] / median['plain', kind]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", choices=sorted(BACKBONES))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, batch {BATCH}, {arguments.rounds} rounds")
    for net in [arguments.only] if arguments.only else ["mlp", "cnn"]:
        compare(net, arguments.rounds)


if __name__ == "__main__":
    main()
