"""AR-ELBO's four patterns of artificial noise (Takida et al., 5.3), added once to every image.

Digits 0-4 are "small", 5-9 "big"; the first half of the rows is "upper", the rest "lower". Which of the four partitions
get Gaussian noise of variance s^2 is the pattern:

    uniform              SU SL BU BL
    spatial              SU    BU
    conditional          SU SL
    spatial-conditional  SU

x = k/255 + s e, e ~ N(0, 1): values leave [0, 1], so the images are float32 from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from vae_models import random
from vae_models.data.records import Dataset, Split, StoredSplit
from vae_models.records import NoiseSpec

Pattern = Literal["uniform", "spatial", "conditional", "spatial-conditional"]
NOISY: Mapping[Pattern, tuple[str, ...]] = MappingProxyType(
    {
        "uniform": ("SU", "SL", "BU", "BL"),
        "spatial": ("SU", "BU"),
        "conditional": ("SU", "SL"),
        "spatial-conditional": ("SU",),
    }
)


def partitions(labels: Tensor, height: int) -> dict[str, Tensor]:
    """Return {"SU", "SL", "BU", "BL"} -> bool [n, 1, height, 1]: where the elements of that partition are.

    They cover every element once; they broadcast against images [n, channels, height, width].
    """
    small = (labels <= 4)[:, None, None, None]
    upper = (torch.arange(height, device=labels.device) < height // 2)[None, None, :, None]
    return {"SU": small & upper, "SL": small & ~upper, "BU": ~small & upper, "BL": ~small & ~upper}


def with_noise(dataset: Dataset, *, pattern: Pattern, variance: float, seed: int) -> Dataset:
    """Return the same images, labels and splits with noise of this variance: a function of its seed alone."""
    noisy = partial(_noisy, pattern=pattern, deviation=variance**0.5, seed=seed)
    return replace(
        dataset,
        train=noisy(dataset.train, "train"),
        val=noisy(dataset.val, "val"),
        test=noisy(dataset.test, "test"),
    )


def _noisy(split: Split | StoredSplit, name: str, *, pattern: Pattern, deviation: float, seed: int) -> Split:
    if split.labels is None:
        raise ValueError("noise patterns need the digits' labels")
    images = split.x.to(torch.float32).div_(255)
    noise = random.draw(
        NoiseSpec(shape=tuple(images.shape[1:])),
        len(split),
        seed=seed,
        step=0,
        stream=f"data noise/{name}",
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    masks = partitions(split.labels, images.shape[2])
    where = torch.stack([masks[part] for part in NOISY[pattern]]).any(dim=0)
    images += noise.mul_(where).mul_(deviation)
    return Split(x=images, labels=split.labels)
