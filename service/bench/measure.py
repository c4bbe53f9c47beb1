"""Seconds of a family's step beside the others', which alternate in one process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from service.bench import by_hand, machine
from service.bench.families import FAMILIES, Family
from tuning.pace import footprint, random_data
from vae_models.config.train import TrainConfig
from vae_models.data.records import Dataset
from vae_models.training.context import LocalContext
from vae_models.training.loop import Run

FORMAT = 1
CHUNK = 0.25  # seconds that one timing takes at least, where a step is shorter
MOST = 64  # steps of one timing
BATCHES = 8  # of the set
OURS, SAME, HAND, PYTHAE = "vaesvc", "plain loop", "by hand", "pythae"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of one family.

    parameters, batch: of the configuration; seconds: of a step by who takes it, medians over the rounds
    times_ours:  by who, the median over the rounds of his seconds by vaesvc's beside them: above 1 vaesvc is faster
    operations:  of a step's products and convolutions; limit: seconds that the machine needs for them and for Adam
    weights, step: bytes of tensors, as `tuning.pace.Footprint` has them
    """

    family: str
    recipe: str
    parameters: int
    batch: int
    seconds: Mapping[str, float]
    times_ours: Mapping[str, float]
    operations: int
    limit: float
    weights: int
    step: int


def run_of(config: TrainConfig, data: Dataset, folder: Path, device: torch.device) -> Run:
    """Return a run on its way, that nothing is due in."""
    run = Run(config, LocalContext(folder, device=device), data)
    run.begin()
    return run


def step_of(run: Run) -> by_hand.Step:
    """Return the step that the loop takes, with what may be due after it."""

    def step() -> None:
        run.step()
        run.after_step()

    return step


def measure(family: Family, device: torch.device, limits: machine.Limits, *, rounds: int) -> Measured:
    """Measure one family's step beside its plain loops."""
    config = family.config()
    data = random_data(config, BATCHES * config.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        ours = run_of(config, data, Path(folder, "ours"), device)
        other = run_of(config, data, Path(folder, "plain"), device)
        try:
            x = other.train_data.batch(torch.arange(len(data.train), device=other.train_data.index_device), {})
            parameters = sum(parameter.numel() for parameter in ours.parameters)
            ways = {OURS: step_of(ours), SAME: by_hand.same_model(other, x)}
            steps = {OURS: 1, SAME: 1}
            if family.by_hand is not None:
                ways[HAND], count = by_hand.by_hand(family.by_hand, x, config.batch_size)
                same_size(family, count, parameters)
                steps[HAND] = 1
                if by_hand.pythae_version() is not None:
                    theirs = by_hand.pythae(family.by_hand, x, config.batch_size, BATCHES, device)
                    same_size(family, theirs.parameters, parameters)
                    ways[PYTHAE], steps[PYTHAE] = theirs.epoch, theirs.steps
            memory = footprint(ours)
            with FlopCounterMode(display=False) as counter:
                ours.step()
            times = alternating(ways, steps, device, rounds)
        finally:
            ours.close()
            other.close()
    operations = int(counter.get_total_flops())
    return Measured(
        family=family.name, recipe=family.recipe, parameters=parameters, batch=config.batch_size,
        seconds={name: machine.median(each) for name, each in times.items()},
        times_ours={name: paired(each, times[OURS]) for name, each in times.items() if name != OURS},
        operations=operations, limit=limits.seconds(operations, parameters), weights=memory.weights, step=memory.step,
    )  # fmt: skip


def same_size(family: Family, theirs: int, ours: int) -> None:
    """Raise ValueError where a net that is compared has not as many parameters."""
    if theirs != ours:
        raise ValueError(f"{family.name}: the net by hand has {theirs:,} parameters, and this package's {ours:,}")


def alternating(
    ways: Mapping[str, Callable[[], object]], steps: Mapping[str, int], device: torch.device, rounds: int
) -> dict[str, list[float]]:
    """Return seconds of a step in every round, by way; ways alternate forwards and backwards. steps: of one call."""
    calls = {}
    for name, way in ways.items():
        way()
        began = machine.clock(device)
        way()
        calls[name] = max(1, min(MOST // steps[name], round(CHUNK / max(machine.clock(device) - began, 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds):
        for name in list(ways)[:: -1 if round_ % 2 else 1]:
            began = machine.clock(device)
            for _ in range(calls[name]):
                ways[name]()
            times[name].append((machine.clock(device) - began) / calls[name] / steps[name])
    return times


def paired(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Return the median of the ratios of what was measured side by side."""
    return machine.median([a / b for a, b in zip(theirs, ours, strict=True)])


def bench(
    names: Sequence[str], *, threads: int, rounds: int, say: Callable[[Measured], None] = lambda measured: None
) -> dict[str, Any]:
    """Return what was measured of these families on the CPU, as `report` reads it. say: is given each when it is."""
    torch.set_num_threads(threads)
    device = torch.device("cpu")
    limits = machine.limits(device)
    timings = []
    for name in names:
        measured = measure(FAMILIES[name], device, limits, rounds=rounds)
        timings.append(asdict(measured))
        say(measured)
    return {
        "format": FORMAT, "machine": machine.about(device), "limits": asdict(limits), "rounds": rounds,
        "pythae": by_hand.pythae_version(), "families": timings,
    }  # fmt: skip
