"""What the builders share: the files of a set, and the record that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vae_models.data.catalogue import Facts
from vae_models.data.errors import DataMissing
from vae_models.data.fetch import Policy, ProgressCallback
from vae_models.data.locate import Places, obtain, present
from vae_models.data.records import Dataset, Split
from vae_models.data.spec import LabelSpec

T = TypeVar("T")
Images = NDArray[np.uint8]
Labels = NDArray[Any]
Part = tuple[NDArray[Any], Labels | None]


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of one data set; `sources` collects the name and the SHA-256 of each that was read."""

    facts: Facts
    places: Places
    progress: ProgressCallback | None
    policy: Policy | None
    sources: dict[str, str]

    def read(self, key: str, parse: Callable[[bytes], T]) -> T:
        file = self.facts.files[key]
        try:
            found = obtain(self.facts, file, parse, self.places, progress=self.progress, policy=self.policy)
        except DataMissing as error:
            raise DataMissing(f"{error}{self._instead(key)}") from error
        self.sources[found.name] = found.sha256
        return found.value

    def group(self) -> tuple[str, ...]:
        """The first of the alternatives whose files are all there; when none is, the first, to be downloaded."""
        for keys in self.facts.alternatives:
            if all(present(self.facts, self.facts.files[key], self.places) for key in keys):
                return keys
        return self.facts.alternatives[0]

    def _instead(self, key: str) -> str:
        lines = []
        for keys in self.facts.alternatives:
            if key not in keys:
                there = {key: present(self.facts, self.facts.files[key], self.places) for key in keys}
                names = (f"{self.facts.files[key].name} ({'there' if there[key] else 'missing'})" for key in keys)
                lines.append(f"\nOr put there, all together: {', '.join(names)}.")
        return "".join(lines)


def cut(images: NDArray[Any], labels: Labels, sizes: tuple[int, int, int]) -> tuple[Part, Part, Part]:
    a, b = sizes[0], sizes[0] + sizes[1]
    return (images[:a], labels[:a]), (images[a:b], labels[a:b]), (images[b:], labels[b:])


def dataset(facts: Facts, sources: Mapping[str, str], train: Part, val: Part, test: Part) -> Dataset:
    """The tensors own their memory and can be written."""
    return Dataset(
        name=facts.name,
        train=_split(facts, train),
        val=_split(facts, val),
        test=_split(facts, test),
        shape=facts.shape,
        labels=None if facts.label_name is None else LabelSpec(name=facts.label_name, unit=facts.label_unit),
        sources=sources,
    )


def _split(facts: Facts, part: Part) -> Split:
    images, labels = part
    tensor = torch.from_numpy(_owned(images)).reshape(len(images), *facts.shape)
    return Split(x=tensor, labels=None if labels is None else torch.from_numpy(_owned(labels)))


def _owned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy, unless it is a whole array already: some sets are gigabytes."""
    whole = array.flags.owndata and array.flags.writeable and array.flags.c_contiguous
    return array if whole else array.copy(order="C")
