"""From DATA, as people write it, to batches that a model reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.cli import own_data
from service.cli.local import data_folders
from service.errors import UsageError, VaesvcError

if TYPE_CHECKING:
    from torch import Tensor

    from vae_models.data.config import DataConfig
    from vae_models.data.records import Dataset
    from vae_models.data.residency import Residence
    from vae_models.data.spec import LabelSpec
    from vae_models.trained import Trained

SPLITS = ("train", "val", "test")
REALS = ("bits", "bytes", "unit", "reals")  # each has the values of those before it


@dataclass(frozen=True, kw_only=True)
class Source:
    """A split of a set, or its first data. seed: of a binarization that is drawn."""

    model: Trained
    config: DataConfig
    dataset: Dataset
    residence: Residence
    split: str
    count: int
    seed: int

    def x(self, start: int, end: int) -> Tensor:
        """Return the data start .. end - 1 as the model reads them, on its device."""
        import torch

        from vae_models import random

        data = self.residence[self.split]
        indices = torch.arange(start, end, device=data.index_device)
        noise = random.draw_rows(
            data.noise(),
            end - start,
            first=start,
            seed=self.seed,
            stream=f"evaluation/{self.split}/data",
            device=self.model.device,
            dtype=self.model.dtype,
        )
        return data.batch(indices, noise)

    @property
    def labels(self) -> tuple[Tensor, LabelSpec] | None:
        """Return the labels of all the data, [n] or [n, k], and what they are; None where there are none."""
        labels, spec = getattr(self.dataset, self.split).labels, self.dataset.labels
        return None if labels is None or spec is None else (labels[: self.count], spec)

    def lengths(self, start: int, end: int) -> Any:
        """Return the lengths of the data start .. end - 1; None where they all have one."""
        lengths = getattr(self.dataset, self.split).lengths
        return None if lengths is None else lengths[start:end]


@contextmanager
def opened(model: Trained, data: str, *, split: str, limit: int | None = None, seed: int = 0) -> Iterator[Source]:
    """Yield the split of DATA for this model. Raises UsageError where they do not go together, or it is empty."""
    from vae_models.data.residency import Residence

    if split not in SPLITS:
        raise UsageError(f"--split {split}: one of {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: at least 1")
    data_folders()
    with own_data.of_this_machine(data) as called:
        config = _config(model, str(called))
    _check(model, config)
    with own_data.fetched(config.name, config.digest):
        dataset = _dataset(config)
        _check_vocabulary(model, dataset)
        total = len(getattr(dataset, split))
        if total == 0:
            raise UsageError(f"the {split} split of {config.name} is empty: name another with --split")
        residence = Residence(dataset, config, model.device, model.dtype)
        try:
            yield Source(
                model=model, config=config, dataset=dataset, residence=residence, split=split,
                count=min(total, limit or total), seed=seed,
            )  # fmt: skip
        finally:
            residence.close()


def _config(model: Trained, name: str) -> DataConfig:
    """Return the model's own data as it was trained on them, or others: bytes binarized where the model has bits."""
    from pydantic import ValidationError

    from vae_models.data.config import DataConfig

    own = model.config.data
    try:
        given = DataConfig(name=name)
    except ValidationError as error:
        raise UsageError(str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")) from error
    if (given.name, given.digest, given.facts) == (own.name, own.digest, own.facts):
        return own
    return given.model_copy(update={"binarize": own.binarize}) if given.facts.support == "bytes" else given


def _check(model: Trained, config: DataConfig) -> None:
    """Raise UsageError unless the model takes such data."""
    facts, own = config.facts, model.config.data
    if facts.shape != model.shape:
        mend = " (vaesvc data add NAME PATH --size scales pictures)" if facts.image and len(model.shape) == 3 else ""
        raise UsageError(
            f"{config.name} has data of shape {_by(facts.shape)}, and this model takes {_by(model.shape)}{mend}"
        )
    if (config.support == "tokens") != (own.support == "tokens") or facts.vocabulary != own.facts.vocabulary:
        raise UsageError(
            f"{config.name} has {_kind(config)}, and this model takes {_kind(own)}: give data of its own vocabulary"
        )
    if config.support == "reals" and own.support != "reals":
        raise UsageError(
            f"{config.name} has real numbers without bounds, and this model takes numbers in [0, 1] ({own.support}): "
            "vaesvc data add NAME PATH --scale says how values are read"
        )


def _check_vocabulary(model: Trained, dataset: Dataset) -> None:
    """Raise UsageError where the tokens have other texts than those that the model was trained on.

    Where nobody knows the texts of one of them (an array of numbers; a model of an earlier version), all is taken.
    """
    own = None if model.origin is None else model.origin.vocabulary
    if own is not None and dataset.vocabulary_digest not in (None, own):
        raise UsageError(
            f"{dataset.name} has other words than this model was trained on, {len(dataset.vocabulary or ()):,} as well "
            f"(SHA-256 of the vocabulary {str(dataset.vocabulary_digest)[:12]}, the model's {own[:12]}): the same "
            f"numbers would be other tokens. Give data of its own vocabulary, that of {model.config.data.name}"
        )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in shape)


def _kind(config: DataConfig) -> str:
    vocabulary = config.facts.vocabulary
    return f"{config.support}" + ("" if vocabulary is None else f" of a vocabulary of {vocabulary:,}")


def _dataset(config: DataConfig) -> Dataset:
    from vae_models import data
    from vae_models.data.errors import DataError

    try:
        return data.load(config)
    except DataError as error:
        raise VaesvcError(str(error)) from error
