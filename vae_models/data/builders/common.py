"""What the builders share: the files of a set, and the record that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from vae_models.data.catalogue.records import Form
from vae_models.data.errors import DataMissing
from vae_models.data.fetch import Policy, ProgressCallback
from vae_models.data.locate import locate, obtain, present
from vae_models.data.places import Places
from vae_models.data.published import Builder, Published
from vae_models.data.records import Dataset, Split
from vae_models.data.spec import DataSpec

T = TypeVar("T")
Images = NDArray[np.uint8]
Labels = NDArray[Any]
Part = tuple[NDArray[Any], Labels | None]


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of one data set; `sources` collects the name and the SHA-256 of each that was read."""

    published: Published
    places: Places
    progress: ProgressCallback | None
    policy: Policy | None
    sources: dict[str, str]

    @property
    def facts(self) -> DataSpec:
        return self.published.facts

    def read(self, key: str, parse: Callable[[bytes], T]) -> T:
        file = self.published.files[key]
        try:
            obtained = obtain(self.published, file, parse, self.places, progress=self.progress, policy=self.policy)
        except DataMissing as error:
            raise DataMissing(f"{error}{self._instead(key)}") from error
        self.sources[obtained.name] = obtained.sha256
        return obtained.value

    def locate(self, key: str) -> tuple[Path, Form]:
        return locate(
            self.published, self.published.files[key], self.places, progress=self.progress, policy=self.policy
        )

    def group(self) -> tuple[str, ...]:
        """Return the first of the alternatives whose files are all there; when none is, the first, to be downloaded."""
        for keys in self.published.alternatives:
            if all(present(self.published, self.published.files[key], self.places) for key in keys):
                return keys
        return self.published.alternatives[0]

    def _instead(self, key: str) -> str:
        lines = []
        for keys in self.published.alternatives:
            if key not in keys:
                there = {key: present(self.published, self.published.files[key], self.places) for key in keys}
                names = (f"{self.published.files[key].name} ({'there' if there[key] else 'missing'})" for key in keys)
                lines.append(f"\nOr put there, all together: {', '.join(names)}.")
        return "".join(lines)


def cut(images: NDArray[Any], labels: Labels, sizes: tuple[int, int, int]) -> tuple[Part, Part, Part]:
    a, b = sizes[0], sizes[0] + sizes[1]
    return (images[:a], labels[:a]), (images[a:b], labels[a:b]), (images[b:], labels[b:])


def from_files(build: Callable[[Files], Dataset]) -> Builder:
    """Return the builder of a published set that calls `build` with the set's files."""

    def builder(
        published: Published, places: Places, progress: ProgressCallback | None, policy: Policy | None
    ) -> Dataset:
        return build(Files(published=published, places=places, progress=progress, policy=policy, sources={}))

    return builder


def dataset(files: Files, train: Part, val: Part, test: Part, *, sources: Mapping[str, str] | None = None) -> Dataset:
    """Return the set; its tensors own their memory and can be written.
    sources: those to report in place of the files read.
    """
    facts = files.facts
    return Dataset(
        name=files.published.name,
        train=_split(facts, train),
        val=_split(facts, val),
        test=_split(facts, test),
        shape=facts.shape,
        labels=facts.labels,
        sources=files.sources if sources is None else sources,
    )


def _split(facts: DataSpec, part: Part) -> Split:
    values, labels = part
    x = torch.from_numpy(_owned(values)).reshape(len(values), *facts.shape)
    return Split(x=x, labels=None if labels is None else torch.from_numpy(_owned(labels)))


def _owned(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array, copied unless it owns its memory, is writable and contiguous: some sets are gigabytes."""
    whole = array.flags.owndata and array.flags.writeable and array.flags.c_contiguous
    return array if whole else array.copy(order="C")
