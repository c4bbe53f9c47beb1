"""Batches that do not depend on the number of workers: which data, in which order, as functions of (seed, step)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from vae_models import random
from vae_models.config.data import DataConfig
from vae_models.records import NoiseSpec


class Images(Protocol):
    """What is needed of a `Split`."""

    @property
    def x(self) -> Tensor: ...  # uint8 or float32 [n, *shape]


def rank_slice(batch_size: int, rank: int, world_size: int) -> slice:
    """Worker `rank`'s rows of a global batch: contiguous, disjoint, covering; sizes differ by at most one."""
    return slice(batch_size * rank // world_size, batch_size * (rank + 1) // world_size)


class BatchPlan:
    """Which data are in the batch of each step.

    The stream is the concatenation of one permutation of 0 .. n-1 per epoch, cut every `batch_size`: every batch is
    full, every datum is seen once per epoch, and a batch may straddle two epochs (or more when it is larger than n).
    """

    def __init__(self, n: int, batch_size: int, seed: int, device: torch.device | str = "cpu") -> None:
        if n < 1 or batch_size < 1:
            raise ValueError(f"n and batch_size must be at least 1, got n={n} and batch_size={batch_size}")
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self._orders: dict[int, Tensor] = {}  # a cache only: the current epoch's order and the one before

    @property
    def steps_per_epoch(self) -> float:
        return self.n / self.batch_size

    def indices(self, step: int) -> Tensor:
        """The global batch of step 0, 1, ...: int64 [batch_size], on `device`. A pure function of (seed, step)."""
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
            for old in [key for key in self._orders if key != epoch - 1]:
                del self._orders[old]
            self._orders[epoch] = random.permutation(self.n, seed=self.seed, epoch=epoch).to(self.device)
        return self._orders[epoch]


class Resident:
    """A split that lives on the device as it was read; batches become x there.

    Bytes: x = k/255 for a byte k, or binarized: "threshold" is x >= 0.5 (k >= 128), "dynamic" is x ~ Bernoulli(k/255)
    from the uniform noise that `noise` declares. Memory: one byte per element.
    Reals (float32): x as it is; nothing to binarize. Memory: four bytes per element.
    """

    def __init__(self, split: Images, config: DataConfig, device: torch.device, dtype: torch.dtype) -> None:
        if split.x.dtype not in (torch.uint8, torch.float32):
            raise TypeError(f"images must be uint8 or float32, got {split.x.dtype}")
        if split.x.dtype == torch.float32 and config.binarize != "none":
            raise ValueError(f"binarize={config.binarize!r} is for bytes; these images are real-valued")
        self._images = split.x.to(device).contiguous()
        self._binarize = config.binarize
        self._dtype = dtype

    def __len__(self) -> int:
        return self._images.shape[0]

    def noise(self) -> Mapping[str, NoiseSpec]:
        """The noise that `batch` needs, per datum; its name does not clash with a model's (`x` is not a latent)."""
        if self._binarize != "dynamic":
            return {}
        return {"x": NoiseSpec(shape=tuple(self._images.shape[1:]), kind="uniform")}

    def unfit(self, indices: Tensor) -> tuple[int, ...]:
        """Of `indices` those of data with an element that is NaN or infinite. Waits for the device."""
        if not self._images.is_floating_point():
            return ()
        finite = self._images.index_select(0, indices).isfinite().flatten(1).all(1)
        return tuple(int(index) for index in indices[~finite].tolist())

    def batch(self, indices: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """x [batch, channels, height, width] for `indices` [batch]; of `noise` it reads what `noise()` names."""
        chosen = self._images.index_select(0, indices)
        if self._binarize == "threshold":
            return (chosen >= 128).to(self._dtype)
        if chosen.is_floating_point():
            return chosen.to(self._dtype)
        x = chosen.to(self._dtype).div_(255)
        if self._binarize == "dynamic":
            return (noise["x"] < x).to(self._dtype)
        return x
