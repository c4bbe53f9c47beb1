"""Seconds of a family's step beside the others', which alternate in one process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
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
OURS, COMPILED, SAME, HAND, PYTHAE = "vaesvc", "vaesvc, compile: step", "plain loop", "by hand", "pythae"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of one family.

    parameters, batch: of the configuration; seconds: of a step by who takes it, medians over the rounds
    times_ours:  by who, the median over the rounds of his seconds by vaesvc's beside them: above 1 vaesvc is faster
    times_compiled: the same beside a run with `compile: step`; empty where none was measured
    compile_seconds: of its first step, which compiles; 0 where none was measured
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
    times_compiled: Mapping[str, float] = field(default_factory=dict)
    compile_seconds: float = 0.0


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


def measure(
    family: Family, device: torch.device, limits: machine.Limits, *, rounds: int, compiled: bool = False
) -> Measured:
    """Measure one family's step beside its plain loops; compiled: and beside a run with `compile: step`."""
    config = family.config()
    data = random_data(config, BATCHES * config.batch_size)
    compile_seconds = 0.0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as runs:

        def begun(name: str, **changes: str) -> Run:
            return runs.enter_context(
                closing(run_of(config.model_copy(update=changes), data, Path(folder, name), device))
            )

        ours, other = begun("ours"), begun("plain")
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
        if compiled:
            ways[COMPILED], steps[COMPILED] = step_of(begun("compiled", compile="step")), 1
            began = time.perf_counter()
            ways[COMPILED]()
            compile_seconds = time.perf_counter() - began
        memory = footprint(ours)
        with FlopCounterMode(display=False) as counter:
            ours.step()
        times = alternating(ways, steps, device, rounds)
    operations = int(counter.get_total_flops())
    return Measured(
        family=family.name, recipe=family.recipe, parameters=parameters, batch=config.batch_size,
        seconds={name: machine.median(each) for name, each in times.items()},
        times_ours={name: paired(each, times[OURS]) for name, each in times.items() if name != OURS},
        operations=operations, limit=limits.seconds(operations, parameters), weights=memory.weights, step=memory.step,
        times_compiled={name: paired(each, times[COMPILED]) for name, each in times.items() if name != COMPILED}
        if compiled else {},
        compile_seconds=compile_seconds,
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


def bench(names: Sequence[str], *, threads: int, rounds: int, compiled: bool = False) -> Iterator[dict[str, Any]]:
    """Measure these families on the CPU. Yield what there is after each, as `report` reads it: the last is of all.

    compiled: beside each a run with `compile: step`, whose first step takes up to minutes.
    """
    torch.set_num_threads(threads)
    device = torch.device("cpu")
    limits = machine.limits(device)
    timings: list[dict[str, Any]] = []
    for name in names:
        timings.append(asdict(measure(FAMILIES[name], device, limits, rounds=rounds, compiled=compiled)))
        yield {
            "format": FORMAT, "machine": machine.about(device), "limits": asdict(limits), "rounds": rounds,
            "pythae": by_hand.pythae_version(), "families": list(timings),
        }  # fmt: skip
