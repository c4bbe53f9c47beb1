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
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_models import random
from vae_models.data.records import Dataset, Split, StoredSplit
from vae_models.records import NoiseSpec

if TYPE_CHECKING:
    from vae_models.config.data import GaussianNoiseConfig

NOISY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "uniform": ("SU", "SL", "BU", "BL"),
        "spatial": ("SU", "BU"),
        "conditional": ("SU", "SL"),
        "spatial-conditional": ("SU",),
    }
)


def partitions(labels: Tensor, height: int) -> dict[str, Tensor]:
    """{"SU", "SL", "BU", "BL"} -> bool [n, 1, height, 1]: where the elements of that partition are.

    They cover every element once; they broadcast against images [n, channels, height, width].
    """
    small = (labels <= 4)[:, None, None, None]
    upper = (torch.arange(height, device=labels.device) < height // 2)[None, None, :, None]
    return {"SU": small & upper, "SL": small & ~upper, "BU": ~small & upper, "BL": ~small & ~upper}


def with_noise(dataset: Dataset, config: GaussianNoiseConfig) -> Dataset:
    """The same images, labels and splits with the noise of `config`: a function of its seed alone."""
    return replace(
        dataset,
        train=_noisy(dataset.train, config, "train"),
        val=_noisy(dataset.val, config, "val"),
        test=_noisy(dataset.test, config, "test"),
    )


def _noisy(split: Split | StoredSplit, config: GaussianNoiseConfig, name: str) -> Split:
    if split.labels is None:
        raise ValueError("noise patterns need the digits' labels")
    images = split.x.to(torch.float32).div_(255)
    noise = random.draw(
        NoiseSpec(shape=tuple(images.shape[1:])),
        len(split),
        seed=config.seed,
        step=0,
        stream=f"data noise/{name}",
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    masks = partitions(split.labels, images.shape[2])
    where = torch.stack([masks[part] for part in NOISY[config.pattern]]).any(dim=0)
    images += noise.mul_(where).mul_(config.variance**0.5)
    return Split(x=images, labels=split.labels)
