"""Batches of data that have lengths of their own along "time": padded to the longest of the batch, with a mask.

Data of like lengths are put into one batch, so that little is padding. Which data are in the batch of a step stays a
function of (lengths, seed, step), every batch is full, and every datum is seen once per epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models import random
from vae_models.data.batching import BatchPlan, Indices, Reader, Resident
from vae_models.data.masks import Masks
from vae_models.data.records import Split, StoredSplit
from vae_models.data.spec import DataSpec
from vae_models.records import Batch

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


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """A split whose data are sequences, wherever it is kept.

    data:    the split's values, all as long as the longest datum of the set
    lengths: int64 [n], on the CPU; None: all data are that long
    axis:    which axis of x is "time"; 1 is the first after the batch's
    masks:   which elements of a datum are no padding
    labels:  [n, ...], on the CPU; None: none
    """

    data: Resident
    lengths: Tensor | None
    axis: int
    masks: Masks
    labels: Tensor | None = None

    @classmethod
    def of(cls, split: Split | StoredSplit, facts: DataSpec, data: Resident) -> Sequences:
        """Return `split`, whose values are `data`. Raise ValueError for a set without an axis "time"."""
        if "time" not in facts.axes:
            raise ValueError(f"axes {list(facts.axes)} have no time: these data are no sequences")
        masks = Masks(split.lengths, facts.shape, facts.axes, torch.device("cpu"))
        axis = 1 + facts.axes.index("time")
        return cls(data=data, lengths=split.lengths, axis=axis, masks=masks, labels=split.labels)

    def plan(self, batch_size: int, seed: int) -> BatchPlan:
        """Return which data are in the batch of each step: of like lengths, where they have some."""
        order = None if self.lengths is None else bucketed(self.lengths, batch_size, seed)
        return BatchPlan(len(self.data), batch_size, seed, self.data.index_device, order=order)

    def reader(self, indices: Indices, *, rows: slice = slice(None), end: int) -> SequenceReader:
        """Return a reader of `rows` of the global batches of the steps before `end`."""
        return SequenceReader(self, self.data.reader(indices, rows=rows, end=end), indices, rows)

    def padded(self, x: Tensor, indices: Tensor, rows: slice = slice(None)) -> Batch:
        """Return a batch of `rows` of the global batch `indices`, whose values are x as it is stored.

        Its length is that of the longest datum of the global batch, the same for every worker; beyond a datum's own
        length x is 0, and the mask false.
        """
        indices = indices.cpu()
        mask = self.masks.of(indices[rows])
        labels = None if self.labels is None else self.labels[indices[rows]].to(x.device)
        if self.lengths is None or mask is None:
            return Batch(x=x, labels=labels)
        longest = int(self.lengths[indices].max())
        mask = mask.narrow(self.axis, 0, longest).to(x.device)
        return Batch(x=torch.where(mask, x.narrow(self.axis, 0, longest), 0), mask=mask, labels=labels)


class SequenceReader:
    """Batches with their masks, in order: see `vae_models.data.batching.Reader`."""

    def __init__(self, sequences: Sequences, values: Reader, indices: Indices, rows: slice) -> None:
        self._sequences, self._values, self._indices, self._rows = sequences, values, indices, rows

    def batch(self, step: int, noise: Mapping[str, Tensor]) -> Batch:
        """Return the batch of this step. Raise DataError where one of its data cannot be read."""
        return self._sequences.padded(self._values.batch(step, noise), self._indices(step), self._rows)

    def close(self) -> None:
        """Discard the batches read ahead."""
        self._values.close()
