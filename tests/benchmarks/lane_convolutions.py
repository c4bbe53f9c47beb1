"""Convolutions of K lanes: as one grouped convolution, which torch.func.vmap makes of them, and lane by lane.

    python -m tests.benchmarks.lane_convolutions [--models cnn resnet] [--lanes 1 7 21] [--batch 32] [--rounds 3]

Every convolution of the net is given, alone, what it is given in a step, once for each lane: seconds forwards and
backwards are processor time on one thread, medians of rounds that alternate; layers of one kind and shape are timed
once, and how many there are stands in brackets. `grouped`: as `vae_models.training.fused` computes a step; `by lane`:
as lanes are trained in turn. A study measures which of the two is faster for the whole step; `each its faster way` is
what choosing it for each layer would reach.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from tests.benchmarks.lanes import BACKBONES, dataset, runs
from tests.benchmarks.layers import inputs_of

Way = Callable[[], object]


def shape_of(layer: nn.modules.conv._ConvNd, x: Tensor) -> str:
    """Return what is equal for layers that cost the same."""
    kind = "transposed " if layer.transposed else ""
    size = "x".join(map(str, layer.kernel_size))
    stride = f" /{layer.stride[0]}" if layer.stride[0] > 1 else ""
    return f"{kind}{size}{stride}, {layer.in_channels} to {layer.out_channels} on {x.shape[2]}x{x.shape[3]}"


def ways_of(layer: nn.modules.conv._ConvNd, x: Tensor, lanes: int, *, first: bool) -> dict[str, Way]:
    """Return the ways to compute a layer of so many lanes and its gradients. first: not its input's."""
    weights = {name: torch.stack([value.detach()] * lanes) for name, value in layer.named_parameters()}
    inputs = torch.stack([x] * lanes)
    slope = torch.randn_like(layer(x)).detach()

    def loss(parameters: dict[str, Tensor], given: Tensor) -> Tensor:
        out: Tensor = functional_call(layer, parameters, (given,))
        return (out * slope).sum()

    mapped = vmap(grad(loss, argnums=0 if first else (0, 1)))

    def by_lane() -> None:
        for lane in range(lanes):
            own = {name: value[lane].detach().requires_grad_() for name, value in weights.items()}
            given = inputs[lane].detach().requires_grad_(not first)
            torch.autograd.backward(loss(own, given))

    return {"by lane": by_lane, "grouped": lambda: mapped(weights, inputs)}


def seconds_of(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if number:
                seconds[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(BACKBONES), default=["cnn", "resnet"])
    parser.add_argument("--lanes", nargs="+", type=int, default=[1, 7, 21])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, batch {options.batch}; milliseconds for all lanes")
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            (run,) = runs(model, 1, torch.device("cpu"), Path(folder), dataset())
            given = inputs_of(run.model, run.step)
        layers = dict(run.model.named_modules())
        kinds: dict[str, tuple[nn.modules.conv._ConvNd, Tensor, bool, int]] = {}
        for number, (name, x) in enumerate(given.items()):
            layer = layers[name]
            if isinstance(layer, nn.modules.conv._ConvNd):
                *_, count = kinds.get(shape_of(layer, x), (0,))
                kinds[shape_of(layer, x)] = (layer, x[: options.batch], number == 0, count + 1)
        for lanes in options.lanes:
            table(model, lanes, kinds, options.rounds)


def table(
    model: str, lanes: int, kinds: dict[str, tuple[nn.modules.conv._ConvNd, Tensor, bool, int]], rounds: int
) -> None:
    whole = {"by lane": 0.0, "grouped": 0.0, "each its faster way": 0.0}
    for kind, (layer, x, first, count) in kinds.items():
        seconds = seconds_of(ways_of(layer, x, lanes, first=first), rounds)
        for name, value in {**seconds, "each its faster way": min(seconds.values())}.items():
            whole[name] += count * value
        line(model, lanes, f"{kind} ({count})", seconds)
    line(model, lanes, "all", whole)


def line(model: str, lanes: int, kind: str, seconds: dict[str, float]) -> None:
    alone = seconds["by lane"]
    ways = ", ".join(
        f"{name} {value * 1e3:.1f}" + ("" if name == "by lane" else f" ({alone / value:.2f} times as fast)")
        for name, value in seconds.items()
    )
    print(f"{model}, {lanes} lanes, {kind}: {ways}", flush=True)


if __name__ == "__main__":
    main()
