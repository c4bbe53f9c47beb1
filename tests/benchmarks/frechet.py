"""The Fréchet distance's trace against the general matrix square root, at Inception's 2,048 features.

python -m tests.benchmarks.frechet [--features 2048] [--rounds 3] [--threads 1]

Prints seconds, their ratio and both traces, for covariances of full rank and for singular ones (of 1,000 images). The
square root is scipy's, as pytorch-fid calls it. Both take as many threads. Exits with 1 where the ratio is below 3.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from vae_models.metrics.frechet import Moments, sqrt_product_trace

LEAST = 3.0
FULL, SINGULAR = 10_000, 1_000  # images


def covariance(rows: int, size: int, seed: int) -> Tensor:
    """Return one whose eigenvalues fall over six decades, as those of network features do."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(size, size, generator=generator, dtype=torch.float64) / math.sqrt(size)
    scales = torch.logspace(0, -3, size, dtype=torch.float64)
    draws = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    return Moments.of(draws @ (scales[:, None] * mixed)).covariance


def general(one: Tensor, other: Tensor) -> float:
    return float(np.trace(scipy.linalg.sqrtm(one.numpy() @ other.numpy())).real)


def ours(one: Tensor, other: Tensor) -> float:
    return float(sqrt_product_trace(one, other))


def best(function: Callable[[Tensor, Tensor], float], pair: tuple[Tensor, Tensor], rounds: int) -> tuple[float, float]:
    """Return the fewest seconds, and the value."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        value = function(*pair)
        seconds.append(time.perf_counter() - start)
    return min(seconds), value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3, help="of ours; the general one is timed once")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ratios = []
    with threadpool_limits(arguments.threads):
        for what, rows in (("full rank", FULL), ("singular", SINGULAR)):
            pair = covariance(FULL, arguments.features, seed=1), covariance(rows, arguments.features, seed=2)
            quick, value = best(ours, pair, arguments.rounds)
            slow, expected = best(general, pair, 1)
            ratios.append(slow / quick)
            print(
                f"{what}, {arguments.features} features: {quick:.2f} s, general square root {slow:.2f} s, "
                f"{ratios[-1]:.1f} times; traces {value:.10g} and {expected:.10g}"
            )
    sys.exit(min(ratios) < LEAST)


if __name__ == "__main__":
    main()
