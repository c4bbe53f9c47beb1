"""What the NLL could cost at least on a CPU, and where its time goes: k samples of each of 10,000 images of 784 pixels.

    python -m tests.benchmarks.nll_limit [--repeats 7]

The model is the fully connected one of `binarized-mnist/beta-vae-mlp`, untrained, on random bits: neither matters to
the clock. Seconds are processor time of one thread, medians over repeats that alternate, in proportion to 10,000 images
and k = 500.

"loop": what a user writes with torch.distributions: for each sample the whole model on `rows` images at a time, its
arguments checked, as is the default, or not. "once": the decoder alone, by hand, without a topology, a trace or a
likelihood between: in float32, with sums of softplus to the last digit, and with its products in bfloat16 and those
sums as logarithms of products of sigmoids. The parts of each: noise and the normal densities, the matrix products, the
sums over pixels.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from vae_models.recipes import catalogue

IMAGES, SAMPLES = 10_000, 500
DATA, OF_EACH, SUMMED = 64, 20, 8  # data of a pass, samples of each, and data whose pixels are summed at a time
PIXELS = 784
PARTS = ("noise and densities", "products", "sums over pixels")


def loop(model: Any, x: Tensor, samples: int, *, checked: bool) -> None:
    """A running log-mean-exp of p(x, z) / q(z|x), the encoder anew for each sample."""
    total = torch.full((len(x),), -math.inf)
    for _ in range(samples):
        mean, raw = model.backbone.encode(x)
        posterior = Normal(mean, torch.exp(raw / 2), validate_args=checked)
        z = posterior.rsample()
        likelihood = Bernoulli(logits=model.backbone.decode(z), validate_args=checked)
        weight = likelihood.log_prob(x).flatten(1).sum(1)
        weight = weight + Normal(0.0, 1.0, validate_args=checked).log_prob(z).sum(1) - posterior.log_prob(z).sum(1)
        total = torch.logaddexp(total, weight)


def softplus_sums(logits: Tensor, x: Tensor, scratch: Tensor) -> Tensor:
    """-log p(x|z) = sum of (max(l, 0) - x l) + log(1 + exp(-|l|)), the latter by (1 + a)(1 + b) - 1 = a + b + a b."""
    torch.clamp_min(logits, 0, out=scratch)
    total = scratch.addcmul_(x, logits, value=-1).sum(-1)
    torch.abs(logits, out=scratch)
    terms, width = scratch.neg_().exp_(), PIXELS
    while width > 49:
        width //= 2
        left, right = terms[..., :width], terms[..., width : 2 * width]
        terms = torch.addcmul(left + right, left, right)
    return total + terms.log1p_().sum(-1)


def sigmoid_sums(logits: Tensor, x: Tensor, scratch: Tensor) -> Tensor:
    """The same by -log of products of sigmoid(|l|): each pixel is rounded to 2^-24."""
    torch.clamp_min(logits, 0, out=scratch)
    total = scratch.addcmul_(x, logits, value=-1).sum(-1)
    torch.abs(logits, out=scratch)
    terms, width = scratch.sigmoid_(), PIXELS
    while width > 49:
        width //= 2
        terms = terms[..., :width] * terms[..., width : 2 * width]
    return total - terms.log_().sum(-1)


class Once:
    """A pass of the decoder alone over DATA data, OF_EACH samples of each. spent: seconds of each part so far."""

    def __init__(self, model: Any, dtype: torch.dtype, sums: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        body, last = model.backbone.decoder[0], model.backbone.decoder[1]
        self._layers = [(each.weight.to(dtype), each.bias.to(dtype)) for each in (body[0], body[2], last)]
        self._dtype, self._sums = dtype, sums
        self._scratch, self._logits = (torch.empty(SUMMED, OF_EACH, PIXELS) for _ in range(2))
        self.spent = [0.0, 0.0, 0.0]

    def __call__(self, x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        began = time.process_time()
        noise = torch.randn(len(x), OF_EACH, mean.shape[1])
        z = mean[:, None] + log_std.exp()[:, None] * noise
        weights = 0.5 * (noise.square() - z.square()).sum(-1) + log_std.sum(-1, keepdim=True)
        drawn = time.process_time()
        (first, second, last), hidden = self._layers, z.flatten(0, 1).to(self._dtype)
        logits = F.linear(F.linear(F.linear(hidden, *first).relu_(), *second).relu_(), *last)
        multiplied = time.process_time()
        logits = logits.view(len(x), OF_EACH, PIXELS)
        for start in range(0, len(x), SUMMED):
            some = slice(start, start + SUMMED)
            weights[some] -= self._sums(self._logits.copy_(logits[some]), x[some, None], self._scratch)
        for place, seconds in enumerate((drawn - began, multiplied - drawn, time.process_time() - multiplied)):
            self.spent[place] += seconds
        return weights


def timed(work: Callable[[], object], rows: int, samples: int) -> float:
    """Return seconds in proportion to all images and samples."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * IMAGES * SAMPLES / (rows * samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model: Any = catalogue()["binarized-mnist/beta-vae-mlp"].build().model.build((1, 28, 28)).eval()
    x = (torch.rand(IMAGES, 1, 28, 28) < 0.13).float()
    exact, rounded = Once(model, torch.float32, softplus_sums), Once(model, torch.bfloat16, sigmoid_sums)
    seconds: dict[str, list[float]] = {}
    with torch.no_grad():
        mean, raw = model.backbone.encode(x[:DATA])
        few = x[:DATA].flatten(1)
        passes = {"once, float32": exact, "once, bfloat16": rounded}
        for repeat in range(repeats + 1):  # the first warms up
            now = {}
            for rows in (1_000, IMAGES):
                for checked in (True, False):
                    name = f"loop, {rows:,} at a time, {'checked' if checked else 'not checked'}"
                    now[name] = timed(lambda r=rows, c=checked: loop(model, x[:r], 2, checked=c), rows, 2)  # type: ignore[misc]
            for name, once in passes.items():
                once.spent = [0.0, 0.0, 0.0]
                now[name] = timed(lambda o=once: [o(few, mean, raw / 2) for _ in range(4)], 4 * DATA, OF_EACH)  # type: ignore[misc]
                for part, spent in zip(PARTS, once.spent, strict=True):
                    now[f"  {name}: {part}"] = spent * IMAGES * SAMPLES / (4 * DATA * OF_EACH)
            if repeat:
                for name, value in now.items():
                    seconds.setdefault(name, []).append(value)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    base = middle["loop, 1,000 at a time, checked"]
    print(f"{IMAGES:,} images, k = {SAMPLES}, torch {torch.__version__}, one thread")
    for name, value in middle.items():
        print(f"{name:45} {value:7.1f} s   {base / value:5.2f} times as fast as the first")


if __name__ == "__main__":
    main()
