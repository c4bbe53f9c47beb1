"""Where a family's step goes, layer by layer, beside what the machine's matrix products reach.

    python -m tests.benchmarks.layers [FAMILY] [--threads 1] [--rounds 5]

Every layer with weights (convolutions, linear ones, norms) is given, alone, what it is given in a step of `vaesvc
bench`'s family: its seconds forwards and backwards are medians of rounds, its operations are counted, and `of GEMM` is
the rate that they reach beside the rate of a product of two 1024 x 1024 matrices, measured before. `grouped`: layers of
the same kind together, as a share of the whole step, which is measured in the same run; what is left is activations,
likelihood, KL, Adam and the loop.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from service.bench import machine
from service.bench.families import FAMILIES
from service.bench.measure import BATCHES, run_of, step_of
from service.cli import output
from tuning.pace import random_data

LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)


@dataclass(frozen=True)
class Timed:
    """A layer's kind, operations, and seconds forwards and backwards."""

    name: str
    kind: str
    shape: tuple[int, ...]
    operations: int
    forwards: float
    backwards: float


def inputs_of(model: nn.Module, step: Callable[[], object]) -> dict[str, Tensor]:
    """Return what each layer was given first in a step, by its name."""
    given: dict[str, Tensor] = {}

    def keep(name: str, inputs: tuple[Tensor, ...]) -> None:
        given.setdefault(name, inputs[0].detach().clone())

    hooks = [
        module.register_forward_pre_hook(lambda _module, inputs, name=name: keep(name, inputs))
        for name, module in model.named_modules()
        if isinstance(module, LAYERS)
    ]
    step()
    for hook in hooks:
        hook.remove()
    return given


def timed(name: str, layer: nn.Module, given: Tensor, rounds: int, *, first: bool) -> Timed:
    """Time a layer alone. first: nothing needs the gradient of what it is given, as in a step."""
    x = given.requires_grad_(not first)

    def backwards_of(out: Tensor) -> None:
        torch.autograd.backward(out, out.detach())
        layer.zero_grad()
        x.grad = None

    with FlopCounterMode(display=False) as counter:
        backwards_of(layer(x))
    forwards, backwards = [], []
    for _ in range(rounds):
        began = time.process_time()
        out = layer(x)
        between = time.process_time()
        backwards_of(out)
        forwards.append(between - began)
        backwards.append(time.process_time() - between)
    kind = type(layer).__name__
    seconds = (statistics.median(forwards), statistics.median(backwards))
    return Timed(name, kind, tuple(given.shape), int(counter.get_total_flops()), *seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="?", default="cnn", choices=list(FAMILIES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cpu")
    flops = machine.limits(device).flops
    config = FAMILIES[options.family].config()
    with tempfile.TemporaryDirectory() as folder:
        run = run_of(config, random_data(config, BATCHES * config.batch_size), Path(folder), device)
        try:
            step = step_of(run)
            given = inputs_of(run.model, step)
            layers = dict(run.model.named_modules())
            results = [
                timed(name, layers[name], x, options.rounds, first=number == 0)
                for number, (name, x) in enumerate(given.items())
            ]
            seconds = []
            for _ in range(options.rounds):
                began = time.process_time()
                step()
                seconds.append(time.process_time() - began)
        finally:
            run.close()
    whole = statistics.median(seconds)
    report(results, whole, flops)


def report(results: list[Timed], whole: float, flops: float) -> None:
    """Print the table of layers, of kinds, and of what is left. whole: seconds of a step; flops: of a product."""

    def of_gemm(operations: float, seconds: float) -> str:
        return f"{operations / seconds / flops:.0%}" if operations else "-"

    rows: list[list[str]] = []
    for each in results:
        both = each.forwards + each.backwards
        rows.append([
            each.name, each.kind, "x".join(map(str, each.shape)), f"{each.operations / 1e9:.2f}",
            f"{each.forwards * 1e3:.1f}", f"{each.backwards * 1e3:.1f}", of_gemm(each.operations, both),
            f"{both / whole:.1%}",
        ])  # fmt: skip
    header = ("layer", "kind", "given", "GFLOP", "forwards [ms]", "backwards [ms]", "of GEMM", "of the step")
    output.table(header, rows)
    left = whole - sum(each.forwards + each.backwards for each in results)
    print(f"\ngrouped, of a step of {whole * 1e3:.0f} ms; GEMM: {flops / 1e9:.0f} GFLOP/s")
    for kind in sorted({each.kind for each in results}):
        same = [each for each in results if each.kind == kind]
        both, operations = sum(each.forwards + each.backwards for each in same), sum(each.operations for each in same)
        print(f"{kind:18} {both / whole:6.1%} of the step, {of_gemm(operations, both)} of GEMM")
    print(f"{'everything else':18} {left / whole:6.1%}")


if __name__ == "__main__":
    main()
