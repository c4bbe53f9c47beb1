"""Features without weights from anywhere: every machine has them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_models import random
from vae_models.records import NoiseSpec

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Means over the cells of a grid of min(size, height) x min(size, width), for each channel."""

    size: int

    @property
    def key(self) -> str:
        """Return the grid's size."""
        return f"pixels/{self.size}"

    @property
    def bytes_per_image(self) -> int:
        """Return a bound on an image and its grid: nothing to speak of."""
        return 1 << 20

    def __call__(self, images: Tensor) -> Tensor:
        """Return [n, channels x cells]."""
        height, width = images.shape[2:]
        return F.adaptive_avg_pool2d(images, (min(self.size, height), min(self.size, width))).flatten(1)


@dataclass(frozen=True, kw_only=True)
class RandomConv:
    """Three layers (3 x 3, stride 2, ReLU) of He-normal weights, drawn from the seed, on images of 32 x 32 in [-1, 1].

    The features are the means over places of each layer's outputs, sum(CHANNELS) of them. Such networks tell blur,
    noise and other textures apart (Naeem et al. 2020 use one for images that are not photographs); their distances
    have a meaning among themselves alone.
    """

    seed: int
    device: torch.device
    _weights: dict[int, tuple[Tensor, ...]] = field(default_factory=dict, repr=False, compare=False)

    CHANNELS = (32, 64, 128)
    SIZE = 32

    @property
    def key(self) -> str:
        """Return seed and architecture."""
        return f"random-conv/{self.seed}/{self.CHANNELS}/{self.SIZE}"

    @property
    def bytes_per_image(self) -> int:
        """Return about what the first layer takes, times some."""
        return 1 << 20

    def __call__(self, images: Tensor) -> Tensor:
        """Return [n, sum(CHANNELS)]."""
        x = F.interpolate(images, (self.SIZE, self.SIZE), mode="bilinear", align_corners=False, antialias=True)
        x, means = 2 * x - 1, []
        for weight in self._drawn(images.shape[1]):
            x = F.conv2d(x, weight, stride=2, padding=1).relu()
            means.append(x.mean((2, 3)))
        return torch.cat(means, 1)

    def _drawn(self, channels: int) -> tuple[Tensor, ...]:
        """Return the layers' weights for images of so many channels: the same on every device."""
        if channels not in self._weights:
            sizes = (channels, *self.CHANNELS)
            self._weights[channels] = tuple(self._layer(place, *pair) for place, pair in enumerate(pairwise(sizes)))
        return self._weights[channels]

    def _layer(self, place: int, before: int, after: int) -> Tensor:
        noise = random.draw(
            NoiseSpec(shape=(before, 3, 3)), after, seed=self.seed, step=place, stream="features/random-conv",
            device=CPU, dtype=torch.float32,
        )  # fmt: skip
        return (noise * math.sqrt(2 / (9 * before))).to(self.device)
