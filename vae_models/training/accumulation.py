"""A batch in several passes, whose gradients are added up: less memory, and the same step but for rounding.

The loss of a batch of N data is L = sum_p (n_p / N) L_p, L_p the loss of the n_p data, over all workers, of pass p:
true of every loss that is a mean over the data, and of terms that depend on none of them. What couples the data of a
batch says so (`Strict.against_micro_batch`), and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vae_models import collectives
from vae_models.data.batching import rank_slice


@dataclass(frozen=True, kw_only=True)
class Pass:
    """rows: of this worker's share of the batch. share: n_p / N, of the whole batch's data that all workers take."""

    rows: slice
    share: float


def passes(batch_size: int, micro_batch: int | None, rank: int = 0, workers: int = 1) -> tuple[Pass, ...]:
    """Return the passes of a step: so many that no worker takes more than `micro_batch` data in one.

    Every worker has as many, of sizes that differ by at most one; a worker with fewer data may have an empty one.
    """
    owned = [rank_slice(batch_size, each, workers) for each in range(workers)]
    sizes = [own.stop - own.start for own in owned]
    largest = max(sizes)
    count = 1 if micro_batch is None else -(-largest // micro_batch)
    slices = [[rank_slice(size, place, count) for place in range(count)] for size in sizes]
    totals = [sum(rows[place].stop - rows[place].start for rows in slices) for place in range(count)]
    return tuple(Pass(rows=rows, share=total / batch_size) for rows, total in zip(slices[rank], totals, strict=True))


def backward(
    module: nn.Module,
    parts: Sequence[Pass],
    x: Tensor,
    noise: Mapping[str, Tensor],
    beta: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a `StepModule` and its terms, detached, and add their gradients to the parameters', pass by
    pass. The arguments are those of the whole step on this worker.
    """
    if len(parts) == 1:
        loss, terms = module(x, noise, beta, mask)
        loss.backward()
        return loss.detach(), terms
    losses = []
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        with nullcontext() if last else collectives.unsynchronized(module):  # gradients meet once, all added up
            loss, terms = module(*rows(part, x, noise, beta, mask))
            (part.share * loss).backward()
        losses.append((loss.detach(), terms))
    return added_up(parts, losses)


def added_up(
    parts: Sequence[Pass], losses: Sequence[tuple[Tensor, Mapping[str, Tensor]]]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the whole batch's loss and terms from those of its passes."""
    total = weighted(parts, [loss for loss, _ in losses])
    return total, {name: weighted(parts, [terms[name] for _, terms in losses]) for name in losses[0][1]}


def weighted(parts: Sequence[Pass], values: Sequence[Tensor]) -> Tensor:
    """Return sum_p (n_p / N) of a value of each pass, of any shape."""
    return torch.stack([part.share * value for part, value in zip(parts, values, strict=True)]).sum(0)


def rows(
    part: Pass, x: Tensor, noise: Mapping[str, Tensor], beta: Tensor, mask: Tensor | None
) -> tuple[Tensor, Mapping[str, Tensor], Tensor, Tensor | None]:
    """Return what a pass takes of a step's arguments: its rows, and a beta of all data as it is."""
    if part.share == 1:  # one pass
        return x, noise, beta, mask
    of_noise = {name: value[part.rows] for name, value in noise.items()}
    of_beta = beta if beta.ndim == 0 else beta[part.rows]
    return x[part.rows], of_noise, of_beta, None if mask is None else mask[part.rows]
