"""A GPU's section: steps by precision and net, and lanes; whole within eight minutes, or it says what it left out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from service.bench import by_hand, machine
from service.bench.families import FAMILIES
from service.bench.measure import BATCHES, FORMAT, OURS, PYTHAE, SAME, alternating, paired, run_of, step_of
from tuning.pace import random_data
from vae_models.training.fused import Fused

SECONDS = 480.0  # of everything
EACH = 60.0  # what one measurement may take, by which it is known whether another one still fits
ROUNDS = 5
PRECISIONS = ("float32", "tf32", "bf16")
LANES = (1, 7, 21, 63)
FIRST = ("mlp", "cnn", "resnet", "nvae")  # in every precision
HEADER = ("what", "step [ms]", "data / s", "beside", "of the limit", "peak [MiB]")


def bench(
    device: torch.device,
    *,
    say: Callable[[str], None] = lambda line: None,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Return what was measured on this device, as `rows` reads it; left_out: what there was no time for, or no memory.

    say: is told of progress. A CPU may be given, too: then it is a rehearsal.
    """
    ends = clock() + seconds
    limits = machine.limits(device)
    measurements: list[dict[str, Any]] = []
    left_out: list[str] = []
    for name, work in _works(device, limits):
        if clock() + EACH > ends and measurements:
            left_out.append(f"{name}: no time was left of {seconds:.0f} s")
            continue
        try:
            measurements.append({"what": name, **work()})
        except (RuntimeError, ValueError) as error:  # out of memory, or a kernel that is not there: the others go on
            left_out.append(f"{name}: {str(error).strip().splitlines()[0]}")
        else:
            say(f"{name}: {measurements[-1]['seconds'] * 1e3:.2f} ms")
    return {
        "format": FORMAT, "machine": machine.about(device), "limits": asdict(limits), "rounds": ROUNDS,
        "pythae": by_hand.pythae_version(), "families": [], "gpu": measurements, "left_out": left_out,
    }  # fmt: skip


def rows(report: dict[str, Any]) -> list[list[str]]:
    """Return rows of `HEADER`. beside: the plain loop's or pythae's seconds by ours; of lanes, data by one lane's."""
    return [
        [
            each["what"], f"{each['seconds'] * 1e3:.2f}", f"{each['data_per_second']:,.0f}",
            ", ".join(f"{who} {ratio:.2f} x" for who, ratio in each["beside"].items()) or "-",
            f"{each['limit'] / each['seconds']:.0%}", f"{each['peak'] / 2**20:,.0f}",
        ]
        for each in report["gpu"]
    ]  # fmt: skip


def _works(device: torch.device, limits: machine.Limits) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    for name in FIRST:
        for precision in PRECISIONS:
            yield f"{name} {precision}", partial(_step, name, precision, device, limits)
    single: list[float] = []  # data a second of one lane
    for lanes in LANES:
        yield f"mlp, {lanes} lanes", partial(_lanes, lanes, device, limits, single)
    for name in FAMILIES:
        if name not in FIRST:
            yield f"{name} float32", partial(_step, name, "float32", device, limits)


def _step(name: str, precision: str, device: torch.device, limits: machine.Limits) -> dict[str, Any]:
    family = FAMILIES[name]
    config = family.config().model_copy(update={"precision": precision})
    data = random_data(config, BATCHES * config.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        ours = run_of(config, data, Path(folder, "ours"), device)
        other = run_of(config, data, Path(folder, "plain"), device)
        try:
            x = other.train_data.batch(torch.arange(len(data.train), device=other.train_data.index_device), {})
            ways, steps = {OURS: step_of(ours)}, {OURS: 1}
            if precision == "float32":
                ways[SAME], steps[SAME] = by_hand.same_model(other, x), 1
                if family.by_hand is not None and by_hand.pythae_version() is not None:
                    theirs = by_hand.pythae(family.by_hand, x, config.batch_size, BATCHES, device)
                    ways[PYTHAE], steps[PYTHAE] = theirs.epoch, theirs.steps
            with FlopCounterMode(display=False) as counter:
                ours.step()
            peak = _peak(device, ours.step)
            times = alternating(ways, steps, device, ROUNDS)
            parameters = sum(parameter.numel() for parameter in ours.parameters)
        finally:
            ours.close()
            other.close()
    seconds, operations = machine.median(times[OURS]), int(counter.get_total_flops())
    return {
        "seconds": seconds, "data_per_second": config.batch_size / seconds, "peak": peak, "operations": operations,
        "limit": limits.seconds(operations, parameters),
        "beside": {who: paired(each, times[OURS]) for who, each in times.items() if who != OURS},
    }  # fmt: skip


def _lanes(count: int, device: torch.device, limits: machine.Limits, single: list[float]) -> dict[str, Any]:
    """Measure so many lanes as one stack. single: data a second of one lane, which is measured first."""
    config = FAMILIES["mlp"].config()
    data = random_data(config, BATCHES * config.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        lanes = []
        for lane in range(count):
            optimizer = config.optimizer.model_copy(update={"lr": 1e-4 * (lane + 1)})
            lane_config = config.model_copy(update={"optimizer": optimizer})
            lanes.append(run_of(lane_config, data, Path(folder, str(lane)), device))
        try:
            fused = Fused(lanes)
            with FlopCounterMode(display=False) as counter:
                fused.step()
            peak = _peak(device, fused.step)
            seconds = machine.median(alternating({OURS: fused.step}, {OURS: 1}, device, ROUNDS)[OURS])
            parameters = sum(parameter.numel() for run in lanes for parameter in run.parameters)
            fused.close()
        finally:
            for run in lanes:
                run.close()
    rate, operations = count * config.batch_size / seconds, int(counter.get_total_flops())
    single.append(rate)
    return {
        "seconds": seconds, "data_per_second": rate, "peak": peak, "operations": operations,
        "limit": limits.seconds(operations, parameters), "beside": {"one lane": rate / single[0]},
    }  # fmt: skip


def _peak(device: torch.device, step: Callable[[], object]) -> int:
    """Return the most bytes that were allocated on a GPU in a step; 0 on a CPU."""
    if device.type != "cuda":
        step()
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    step()
    machine.finish(device)
    return torch.cuda.max_memory_allocated(device)
