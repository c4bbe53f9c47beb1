"""A published data set: a source that is made of files which anybody can get, or of a rule."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from vae_models.data.catalogue.records import DataFile
from vae_models.data.spec import AXES, DataSpec, LabelSpec, Support

if TYPE_CHECKING:
    from vae_models.data.fetch import Policy, ProgressCallback
    from vae_models.data.places import Places
    from vae_models.data.records import Dataset

Builder = Callable[["Published", "Places", "ProgressCallback | None", "Policy | None"], "Dataset"]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A source of the seam `data-source` whose files, their checksums and their addresses are known.

    title:        what it is, for people: "MNIST (28x28)"
    facts:        `sizes` of Omniglot are those of the published `chardata.mat`
    folder:       where its files lie under VAESVC_DATA_DIR and under the cache directory
    builder:      "module:function" of what makes the set of its files: a name, because it needs torch and this does not
    terms:        under which its publishers let it be used: a licence's name, or what they say; empty: not known
    alternatives: groups of `files`, each of which is enough; the first is downloaded when none is there. Empty: all
                  files are needed
    """

    name: str
    title: str
    facts: DataSpec
    folder: str
    builder: str
    files: Mapping[str, DataFile] = field(default_factory=dict)
    alternatives: tuple[tuple[str, ...], ...] = ()
    terms: str = ""

    @property
    def summary(self) -> str:
        """Return what it is and its facts in a sentence, for people."""
        facts = self.facts
        labels = "" if facts.labels is None else f", labels {_listed(facts.labels.name)}"
        shape, sizes = " x ".join(map(str, facts.shape)), " / ".join(f"{size:,}" for size in facts.sizes)
        return f"{self.title}: {shape} ({', '.join(facts.axes)}), {facts.support}; {sizes} data{labels}"

    def load(
        self, places: Places, *, progress: ProgressCallback | None = None, policy: Policy | None = None
    ) -> Dataset:
        """Return the whole set, as its builder's module describes it.
        Raise DataMissing, DataCorrupt or DataError.
        """
        module, _, function = self.builder.partition(":")
        build = cast(Builder, getattr(importlib.import_module(module), function))
        return build(self, places, progress, policy)

    def origin(self) -> dict[str, Any]:
        """Return the published checksums of its files, by key, and the addresses where a person can read about them."""
        sums = {key: [form.sha256 for form in file.forms] for key, file in self.files.items()}
        return {"sums": sums, "homes": sorted({file.home for file in self.files.values()})}


def _listed(names: str | tuple[str, ...]) -> str:
    return names if isinstance(names, str) else ", ".join(names)


def images(
    shape: tuple[int, int, int],
    sizes: tuple[int, int, int],
    *,
    support: Support = "bytes",
    labels: LabelSpec | None = None,
) -> DataSpec:
    """Return the facts of a set of images of (channels, height, width)."""
    return DataSpec(shape=shape, axes=AXES, support=support, sizes=sizes, labels=labels)
