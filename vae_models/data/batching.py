"""Batches that do not depend on the number of workers: which data, in which order, as functions of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from vae_models import random
from vae_models.data.config import DataConfig
from vae_models.records import NoiseSpec


def rank_slice(batch_size: int, rank: int, world_size: int) -> slice:
    """Return worker `rank`'s rows of a global batch: contiguous, disjoint, covering; sizes differ by at most one."""
    return slice(batch_size * rank // world_size, batch_size * (rank + 1) // world_size)


class BatchPlan:
    """Which data are in the batch of each step.

    The stream is the concatenation of one permutation of 0 .. n-1 per epoch, cut every `batch_size`: every batch is
    full, every datum is seen once per epoch, and a batch may straddle two epochs (or more when it is larger than n).

    order: the permutation of an epoch, where it is another than the uniformly random one of (seed, epoch)
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        order: Callable[[int], Tensor] | None = None,
    ) -> None:
        if n < 1 or batch_size < 1:
            raise ValueError(f"n and batch_size must be at least 1, got n={n} and batch_size={batch_size}")
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self._permutation = order
        self._orders: dict[int, Tensor] = {}  # a cache only: of the last epoch and those beside it
        self._last = -1, torch.empty(0)  # likewise: the last step that was asked for and its data

    @property
    def steps_per_epoch(self) -> float:
        return self.n / self.batch_size

    def indices(self, step: int) -> Tensor:
        """Return the global batch of step 0, 1, ...: int64 [batch_size], on `device`.
        A pure function of (seed, step).
        """
        last = self._last
        if last[0] != step:
            last = self._last = step, self._cut(step)
        return last[1]

    def _cut(self, step: int) -> Tensor:
        position, end = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while position < end:
            epoch, offset = divmod(position, self.n)
            part = self._order(epoch)[offset : offset + end - position]
            parts.append(part)
            position += part.shape[0]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            for old in [key for key in self._orders if abs(key - epoch) != 1]:
                del self._orders[old]
            self._orders[epoch] = self.order(epoch).to(self.device)
        return self._orders[epoch]

    def order(self, epoch: int) -> Tensor:
        """Return the order of the data in epoch 0, 1, ...: a permutation of 0 .. n-1, int64 [n], on the CPU."""
        if self._permutation is not None:
            return self._permutation(epoch)
        return random.permutation(self.n, seed=self.seed, epoch=epoch)


class Rows(Protocol):
    """The data of a split as they are stored, [n, *shape]: a tensor is one, and so is what lies on a disk."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice) -> Tensor: ...


class Values:
    """How stored values become x.

    Bytes (uint8): x = k/255 for a byte k, or binarized: "threshold" is x >= 0.5 (k >= 128), "dynamic" is
    x ~ Bernoulli(k/255) from the uniform noise that `noise` declares. Bits are the bytes 0 and 255, of which k/255 is
    the threshold, in one pass in place of a division.
    Reals (float32): x as it is; nothing to binarize.
    Tokens (int32): x as it is, int64, which is what indexes a table of embeddings.
    """

    def __init__(self, stored: Rows, config: DataConfig, dtype: torch.dtype) -> None:
        if stored.dtype not in (torch.uint8, torch.float32, torch.int32):
            raise TypeError(f"data must be stored as uint8, float32 or int32, got {stored.dtype}")
        if stored.dtype != torch.uint8 and config.binarize != "none":
            raise ValueError(f"binarize={config.binarize!r} is for bytes; these data are {stored.dtype}")
        self._shape = tuple(stored.shape[1:])
        self._dynamic = config.binarize == "dynamic"
        self._threshold = stored.dtype == torch.uint8 and config.bits and not self._dynamic
        self._dtype = torch.int64 if stored.dtype == torch.int32 else dtype

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that `x` needs, per datum; its name does not clash with a model's (`x` is no latent)."""
        if not self._dynamic:
            return {}
        return {"x": NoiseSpec(shape=self._shape, kind="uniform")}

    def x(self, chosen: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """Return x [batch, *shape] of stored data, on their device; of `noise` it reads the names in `noise()`."""
        if self._threshold:  # written as numbers at once: a CPU turns booleans into them slowly
            return torch.ge(chosen, 128, out=torch.empty_like(chosen, dtype=self._dtype))
        if chosen.dtype != torch.uint8:
            return chosen.to(self._dtype)
        x = chosen.to(self._dtype).div_(255)
        return torch.lt(noise["x"], x, out=x) if self._dynamic else x


class Reader(Protocol):
    """Batches in their order, which is declared beforehand, so that they can be read ahead."""

    def batch(self, step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """Return x of the batch of this step. Consecutive steps are fast; any other is right too.

        Raise DataError where one of its data cannot be read.
        """
        ...

    def close(self) -> None:
        """Discard the batches read ahead."""
        ...


Indices = Callable[[int], Tensor]  # step -> the global batch's data, int64 [batch]


class Resident(Protocol):
    """A split where it is kept while a run trains. The batches are the same, to the bit, wherever that is."""

    @property
    def index_device(self) -> torch.device:
        """Return the device where indices are best made."""
        ...

    def __len__(self) -> int: ...

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that `batch` needs, per datum, by name."""
        ...

    def batch(self, indices: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """Return x [batch, *shape] for `indices` [batch], on the run's device;
        of `noise` it reads the names in `noise()`.
        """
        ...

    def reader(self, indices: Indices, *, rows: slice = slice(None), end: int) -> Reader:
        """Return a reader of `rows` of the global batches of the steps before `end`."""
        ...

    def unfit(self, indices: Tensor) -> tuple[int, ...]:
        """Return those of `indices` whose data have an element that is NaN or infinite. Waits for the device."""
        ...

    def close(self) -> None:
        """End the background work. Closing twice is closing once."""
        ...
