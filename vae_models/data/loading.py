"""Builds each data set from its files or its rule. Splits are fixed: no seed changes them.

digits            1,297 / 250 / 250: scikit-learn's 1,797 in the order of RandomState(0).permutation
mnist, fashion    50,000 / 10,000 / 10,000: validation is the last 10,000 of the training file
binarized-mnist   50,000 / 10,000 / 10,000: three published files; bytes 0 and 255, so that x = k/255 is 0 or 1
omniglot          23,000 / 1,345 / 8,070: the IWAE authors' own split: RandomState(123).permutation of the training
                  columns, the last 1,345 for validation (8,115 test images in the conversion of the originals)
pendulum          5,000 / 1,000 / 1,000: consecutive stretches of the angle sequence, each covering the circle evenly
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vae_models.data import formats, generated
from vae_models.data.catalogue import CATALOGUE, Facts
from vae_models.data.fetch import Policy, ProgressCallback
from vae_models.data.locate import Places, obtain
from vae_models.data.records import Dataset, Split

T = TypeVar("T")
Images = NDArray[np.uint8]
Labels = NDArray[Any]

# numpy keeps the streams of the legacy RandomState fixed for ever, which it does not promise for Generator
_DIGITS_SEED = 0
_OMNIGLOT_SEED = 123


def load_dataset(
    name: str, places: Places, *, progress: ProgressCallback | None = None, policy: Policy | None = None
) -> Dataset:
    facts = CATALOGUE[name]
    return _BUILDERS[name](facts, _Files(facts=facts, places=places, progress=progress, policy=policy, sources={}))


@dataclass(frozen=True, kw_only=True)
class _Files:
    facts: Facts
    places: Places
    progress: ProgressCallback | None
    policy: Policy | None
    sources: dict[str, str]

    def read(self, key: str, parse: Callable[[bytes], T]) -> T:
        file = self.facts.files[key]
        found = obtain(self.facts, file, parse, self.places, progress=self.progress, policy=self.policy)
        self.sources[found.name] = found.sha256
        return found.value


def _idx_images(content: bytes) -> Images:
    images = formats.read_idx(content)
    if images.ndim != 3:
        raise ValueError(f"IDX of {images.ndim} axes, expected images of 3")
    return images


def _idx_labels(content: bytes) -> Labels:
    labels = formats.read_idx(content)
    if labels.ndim != 1:
        raise ValueError(f"IDX of {labels.ndim} axes, expected labels of 1")
    return labels.astype(np.int64)


def _mnist(facts: Facts, files: _Files) -> Dataset:
    images, labels = files.read("train-images", _idx_images), files.read("train-labels", _idx_labels)
    test, test_labels = files.read("test-images", _idx_images), files.read("test-labels", _idx_labels)
    n = facts.sizes[0]
    return _dataset(facts, files.sources, (images[:n], labels[:n]), (images[n:], labels[n:]), (test, test_labels))


def _binarized(facts: Facts, files: _Files) -> Dataset:
    parts = [files.read(key, formats.read_amat) * np.uint8(255) for key in ("train", "val", "test")]
    train, val, test = ((images.reshape(-1, 28, 28), None) for images in parts)
    return _dataset(facts, files.sources, train, val, test)


def _omniglot(facts: Facts, files: _Files) -> Dataset:
    data = files.read("chardata", _checked_chardata)
    order = np.random.RandomState(_OMNIGLOT_SEED).permutation(len(data.train))
    images, labels, n = data.train[order], data.train_labels[order], facts.sizes[0]
    return _dataset(
        facts, files.sources, (images[:n], labels[:n]), (images[n:], labels[n:]), (data.test, data.test_labels)
    )


def _checked_chardata(content: bytes) -> formats.Chardata:
    """The published file has no published checksum: its counts must be right at least."""
    data = formats.read_chardata(content)
    counts = (len(data.train), len(data.test))
    if counts not in ((24345, 8070), (24345, 8115)):
        raise ValueError(
            f"{counts[0]:,} training and {counts[1]:,} test images, expected 24,345 and 8,070 (8,115 in the conversion)"
        )
    return data


def _digits(facts: Facts, files: _Files) -> Dataset:
    images, labels = generated.read_digits()
    order = np.random.RandomState(_DIGITS_SEED).permutation(len(images))
    return _dataset(facts, files.sources, *_cut(images[order], labels[order], facts.sizes))


def _pendulum(facts: Facts, files: _Files) -> Dataset:
    angles = generated.pendulum_angles(sum(facts.sizes))
    images = generated.render_pendulum(angles)
    return _dataset(facts, files.sources, *_cut(images, angles.astype(np.float32), facts.sizes))


Part = tuple[Images, Labels | None]


def _cut(images: Images, labels: Labels, sizes: tuple[int, int, int]) -> tuple[Part, Part, Part]:
    a, b = sizes[0], sizes[0] + sizes[1]
    return (images[:a], labels[:a]), (images[a:b], labels[a:b]), (images[b:], labels[b:])


def _dataset(facts: Facts, sources: Mapping[str, str], train: Part, val: Part, test: Part) -> Dataset:
    def split(part: Part) -> Split:
        images, labels = part
        tensor = torch.from_numpy(images.reshape(len(images), *facts.shape).copy())  # owned and writable
        if labels is None:
            return Split(images=tensor)
        return Split(
            images=tensor,
            labels=torch.from_numpy(labels.copy()),
            label_name=facts.label_name,
            label_unit=facts.label_unit,
        )

    return Dataset(
        name=facts.name, train=split(train), val=split(val), test=split(test), shape=facts.shape, sources=sources
    )


_BUILDERS: Mapping[str, Callable[[Facts, _Files], Dataset]] = {
    "digits": _digits,
    "mnist": _mnist,
    "fashion-mnist": _mnist,
    "binarized-mnist": _binarized,
    "omniglot": _omniglot,
    "pendulum": _pendulum,
}
