"""Digits that move: videos are made by their numbers, when they are read.

moving-mnist      60,000 / 1,000 / 1,000 videos of 15 frames: 5 that are seen and 10 that are predicted; made by their
                  numbers whenever they are read (`vae_models.data.moving`), of the digits of MNIST's split of that name
moving-mnist-deterministic  the same, reflected at the walls
moving-digits     4,000 / 500 / 500 videos of 10 frames of 16x16, of scikit-learn's digits, at most 2 pixels a frame
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

from vae_models.data.builders.common import Files, Images, from_files
from vae_models.data.builders.standard import idx_images
from vae_models.data.canonical import SPLITS
from vae_models.data.computed import ComputedRows, Make
from vae_models.data.moving import Motion, enlarged
from vae_models.data.records import Dataset, StoredSplit
from vae_models.data.sources import SOURCES

_SEED = 0
_MNIST_SIDE = 32  # pixels of a digit: MNIST's 28 are enlarged, as published
_MNIST_SPEED, _DIGITS_SPEED = 4, 2  # pixels from frame to frame, at most
_MNIST_TRAIN = 50_000  # of the training file; the rest are for validation, as of the set mnist


@from_files
def moving_mnist(files: Files) -> Dataset:
    """Return videos of MNIST's digits: those of a split are of digits of MNIST's split of that name."""
    images, test = (files.read(key, idx_images) for key in ("train-images", "test-images"))
    parts = (images[:_MNIST_TRAIN], images[_MNIST_TRAIN:], test)
    large = [cache(partial(enlarged, part, _MNIST_SIDE)) for part in parts]  # of a split that is read
    return _moving(files, large, _MNIST_SPEED, deterministic=files.published.name.endswith("-deterministic"))


@from_files
def moving_digits(files: Files) -> Dataset:
    """Return videos of scikit-learn's digits: those of a split are of digits of the set digits' split of that name."""
    digits = SOURCES.get("digits").load(files.places)
    return _moving(files, [getattr(digits, split).x[:, 0].numpy for split in SPLITS], _DIGITS_SPEED)


def _moving(
    files: Files, digits: Sequence[Callable[[], Images]], speed: int, *, deterministic: bool = False
) -> Dataset:
    """Return the set of two digits in each video. digits: of each split, [m, side, side]."""
    facts = files.facts
    motion = Motion(frames=facts.shape[0], field=facts.shape[-1], speed=speed, deterministic=deterministic)
    train, val, test = (
        _split(motion, split, own, size) for split, own, size in zip(SPLITS, digits, facts.sizes, strict=True)
    )
    return Dataset(name=files.published.name, train=train, val=val, test=test, shape=facts.shape, sources=files.sources)


def _split(motion: Motion, split: str, digits: Callable[[], Images], size: int) -> StoredSplit:
    """Return videos of the rule, and the same in twice as many frames."""
    rows, continued = (
        ComputedRows(_rule(each, split, digits), size, (each.frames, 1, each.field, each.field))
        for each in (motion, replace(motion, frames=2 * motion.frames))
    )
    return StoredSplit(rows=rows, continued=continued)


def _rule(motion: Motion, split: str, digits: Callable[[], Images]) -> Make:
    """Return the function from numbers to videos; a split's do not depend on how many it has."""
    return lambda numbers: motion.videos(numbers, seed=_SEED, stream=f"moving/{split}", digits=digits())
