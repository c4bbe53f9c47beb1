"""Batches of data of like lengths, so that little of a batch that is cut to its longest (`masks`) is padding.

Which data are in the batch of a step stays a function of (lengths, seed, step), every batch is full, and every datum is
seen once per epoch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vae_models import random
from vae_models.data.batching import BatchPlan

WINDOW = 50  # batches whose data are sorted by length together: the more, the less padding and the less chance


def bucketed(lengths: Tensor, batch_size: int, seed: int, *, window: int = WINDOW) -> Callable[[int], Tensor]:
    """Return the order of the data in each epoch: batches of like lengths, in a random order.

    An epoch's random permutation is cut into windows of `window` batches; the data of a window are sorted by length
    and cut into batches; all batches of the epoch are shuffled. What is left where n is no multiple of the batch size
    (the first data, which complete the batch that the epoch before began, and the last, which begin the next one) keeps
    its random order, so a batch that straddles two epochs is of any lengths.
    """
    n = len(lengths)

    def order(epoch: int) -> Tensor:
        permutation = random.permutation(n, seed=seed, epoch=epoch)
        lead = min(-(epoch * n) % batch_size, n)
        count = (n - lead) // batch_size
        full = permutation[lead : lead + count * batch_size]
        windows = torch.split(full, window * batch_size)
        ordered = [part[torch.sort(lengths[part], stable=True).indices] for part in windows]
        batches = torch.cat(ordered).reshape(count, batch_size) if count else full.reshape(0, batch_size)
        shuffled = batches[random.permutation(count, seed=seed, epoch=epoch, stream="order of batches")]
        return torch.cat([permutation[:lead], shuffled.flatten(), permutation[lead + count * batch_size :]])

    return order


def padding(lengths: Tensor, plan: BatchPlan, steps: int) -> float:
    """Return the share of padding in the batches of the first steps: 1 - data / (data + padding), along "time"."""
    data = padded = 0
    for step in range(steps):
        chosen = lengths[plan.indices(step)]
        data, padded = data + int(chosen.sum()), padded + int(chosen.max()) * len(chosen)
    return 1 - data / padded
