"""Whether a data set's values are what its configuration declares, told before the first step.

x of bytes is k/255, so every byte fits but where bits are declared. Real numbers (float32) are x itself: finite, and in
[0, 1] unless the configuration says that they are unbounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_models.data.errors import DataUnfit
from vae_models.data.records import Dataset, Split, StoredSplit

if TYPE_CHECKING:
    from vae_models.config.data import DataConfig
    from vae_models.data.batching import Rows

_AT_ONCE = 1 << 24  # elements in a chunk: what a pass allocates stays below a hundred megabytes
_LEVEL_TOLERANCE = 1e-3  # of a level: float32 keeps k/255 to 2e-5 of one


def check(dataset: Dataset, config: DataConfig, *, levels: int | None = None) -> None:
    """DataUnfit unless every value of all three splits may be x: what is wrong, at which datum, and how to mend it.

    levels: how many values of x the likelihood has masses for (2 or 256); None: it is a density. One pass over real
    numbers and over bits; none over bytes of grey or coloured images, which cannot be wrong.
    """
    for name in ("train", "val", "test"):
        split: Split | StoredSplit = getattr(dataset, name)
        where = f"the {name} images given for {config.name}"
        _check_form(split, dataset.shape, where)
        if isinstance(split, StoredSplit) and levels != 256:
            continue  # looked at when the set was made, and its digest stands for every value
        _check_values(split.rows, config, levels, where)


def _check_form(split: Split | StoredSplit, shape: tuple[int, ...], where: str) -> None:
    images = split.rows
    if images.dtype not in (torch.uint8, torch.float32):
        raise DataUnfit(
            f"{where} are {str(images.dtype).removeprefix('torch.')}; x is made of bytes (uint8, x = k/255) or of "
            "float32: convert them with .to(torch.float32)"
        )
    if tuple(images.shape[1:]) != tuple(shape) or len(shape) != 3:
        raise DataUnfit(
            f"{where} have the shape {list(images.shape)}, and the data set says [n, {', '.join(map(str, shape))}]: "
            "it must be [n, channels, height, width], the same in every split"
        )
    if not images.shape.numel():
        raise DataUnfit(f"{where} are none: every split needs at least one datum of at least one element")
    if split.labels is not None and len(split.labels) != len(images):
        raise DataUnfit(f"{where} are {len(images):,}, and their labels {len(split.labels):,}: it must be one each")


def _check_values(images: Rows, config: DataConfig, levels: int | None, where: str) -> None:
    if images.dtype == torch.uint8:
        if config.bits and config.binarize == "none" and not all(_are_bits(block) for _, block in _chunks(images)):
            _refuse(images, _not_bits, where, "must be 0 or 255, x = k/255 being binary: binarize them")
        return
    if config.binarize != "none":
        raise DataUnfit(
            f"{where} are real numbers, and data.binarize={config.binarize} is for bytes: give uint8, or set it to none"
        )
    lowest, highest = _range(images)  # NaN if there is one, so that this pass is the only one over good data
    if not math.isfinite(lowest + highest):
        _refuse(images, _not_finite, where, "must be finite: take it out of the data, or mend it")
    if config.reals:
        return
    if lowest < 0 or highest > 1:
        _refuse(images, _outside, where, f"must lie in [0, 1]: {_mend(lowest, highest)}")
    if config.bits:
        _refuse(images, _neither, where, "must be 0 or 1, x being binary: binarize them")
    elif levels == 256:
        _refuse(
            images,
            _between_levels,
            where,
            "must be a level k/255 for a likelihood of 256 levels: round x to levels, give bytes (uint8), or choose "
            "model.likelihood gaussian",
        )


def _refuse(images: Rows, wrong: Callable[[Tensor], Tensor], where: str, rule: str) -> None:
    """DataUnfit that names the first value that `wrong` marks, and how many there are."""
    first, values, data = "", 0, 0
    for start, block in _chunks(images):
        marked = wrong(block)
        count = int(marked.sum())
        if count and not first:
            datum, channel, row, column = (int(i) for i in marked.nonzero()[0])
            value = block[datum, channel, row, column].item()
            first = f"datum {start + datum} has {value:g} at channel {channel}, row {row}, column {column}"
        values, data = values + count, data + int(marked.flatten(1).any(1).sum())
    if first:
        total = f"{values:,} such {'value' if values == 1 else 'values'} in {data:,} of {len(images):,} data"
        raise DataUnfit(f"{where}: {first} ({total}); every value {rule}")


def _mend(lowest: float, highest: float) -> str:
    reach = f"they reach from {lowest:g} to {highest:g}"
    if lowest >= 0 and highest <= 255:
        return f"{reach}, so divide them by 255, or give bytes (uint8), which are divided by 255 here"
    if lowest >= -1 and highest <= 1:
        return f"{reach}, so take (x + 1) / 2"
    return f"{reach}, so scale them to [0, 1], or name a data set of unbounded reals in data.name"


def _are_bits(block: Tensor) -> bool:
    """255 + 1 is 0 in a byte: one comparison in place of three, on sets of gigabytes."""
    return int((block + 1).max()) <= 1


def _not_bits(block: Tensor) -> Tensor:
    return (block != 0) & (block != 255)


def _not_finite(block: Tensor) -> Tensor:
    return ~torch.isfinite(block)


def _outside(block: Tensor) -> Tensor:
    return (block < 0) | (block > 1)


def _neither(block: Tensor) -> Tensor:
    return (block != 0) & (block != 1)


def _between_levels(block: Tensor) -> Tensor:
    level = block * 255
    return (level - level.round()).abs() > _LEVEL_TOLERANCE


def _chunks(images: Rows) -> Iterator[tuple[int, Tensor]]:
    """(number of the first datum, the data from there) of at most `_AT_ONCE` elements, or of one datum."""
    size = max(1, _AT_ONCE // math.prod(images.shape[1:]))
    for start in range(0, len(images), size):
        yield start, images[start : start + size]


def _range(images: Rows) -> tuple[float, float]:
    ends = [block.aminmax() for _, block in _chunks(images)]
    lowest, highest = torch.stack([low for low, _ in ends]).min(), torch.stack([high for _, high in ends]).max()
    return float(lowest), float(highest)
