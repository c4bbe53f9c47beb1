"""Whether a data set's values are what its configuration declares, checked before the first step.

x of bytes is k/255, so every byte fits but where bits are declared. Real numbers (float32) are x itself: finite, and in
[0, 1] unless the configuration says that they are unbounded. Tokens (int32) are below the vocabulary's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_models.data.errors import DataUnfit
from vae_models.data.records import Dataset, Split, StoredSplit

if TYPE_CHECKING:
    from vae_models.data.batching import Rows
    from vae_models.data.config import DataConfig
    from vae_models.data.spec import DataSpec

_AT_ONCE = 1 << 24  # elements in a chunk: what a pass allocates stays below a hundred megabytes
_LEVEL_TOLERANCE = 1e-3  # of a level: float32 keeps k/255 to 2e-5 of one


_DTYPES = {torch.uint8: "bytes (uint8, x = k/255)", torch.float32: "float32", torch.int32: "tokens (int32)"}
_IMAGE = {"height": "row", "width": "column"}  # where a value of an image is, for people


def check(dataset: Dataset, config: DataConfig, *, levels: int | None = None) -> None:
    """Raise DataUnfit unless every value of all splits is in the support: with the error, its datum and a remedy.

    levels: how many values of x the likelihood has masses for (2 or 256); None: it is a density. One pass over real
    numbers, tokens and bits; none over bytes of grey or coloured images, which cannot be wrong.
    """
    for name in ("train", "val", "test"):
        split: Split | StoredSplit = getattr(dataset, name)
        where = f"the {name} {'images' if config.facts.image else 'data'} given for {config.name}"
        _check_form(split, dataset.shape, config.facts, where)
        _check_lengths(split, dataset.shape, config.facts, where)
        if isinstance(split, StoredSplit) and levels != 256:
            continue  # looked at when the set was made, and its digest stands for every value
        _check_values(split.rows, config, levels, where)


def _check_form(split: Split | StoredSplit, shape: tuple[int, ...], facts: DataSpec, where: str) -> None:
    x = split.rows
    tokens = facts.support == "tokens"
    allowed = [torch.int32] if tokens else [torch.uint8, torch.float32]
    if x.dtype not in allowed:
        kind = str(allowed[-1]).removeprefix("torch.")
        raise DataUnfit(
            f"{where} are {str(x.dtype).removeprefix('torch.')}; x is made of "
            f"{' or of '.join(_DTYPES[each] for each in allowed)}: convert them with .to(torch.{kind})"
        )
    if tuple(x.shape[1:]) != tuple(shape) or len(shape) != len(facts.axes):
        named = "channels, height, width" if facts.image else ", ".join(facts.axes)
        raise DataUnfit(
            f"{where} have the shape {list(x.shape)}, and the data set says [n, {', '.join(map(str, shape))}]: "
            f"it must be [n, {named}], the same in every split"
        )
    if not x.shape.numel():
        raise DataUnfit(f"{where} are none: every split needs at least one datum of at least one element")
    if split.labels is not None and len(split.labels) != len(x):
        raise DataUnfit(f"{where} are {len(x):,}, and their labels {len(split.labels):,}: it must be one each")


def _check_lengths(split: Split | StoredSplit, shape: tuple[int, ...], facts: DataSpec, where: str) -> None:
    lengths = split.lengths
    if not facts.lengths:
        if lengths is not None:
            raise DataUnfit(f"{where} have lengths of their own, and data.facts.lengths says that they have none")
        return
    longest = shape[facts.axes.index("time")]
    if lengths is None or tuple(lengths.shape) != (len(split),) or lengths.is_floating_point():
        raise DataUnfit(f"{where} need a length each, whole numbers of [{len(split)}], along time")
    wrong = ((lengths < 1) | (lengths > longest)).nonzero()
    if len(wrong):
        datum = int(wrong[0])
        raise DataUnfit(f"{where}: datum {datum} has the length {int(lengths[datum])}; it must be 1 to {longest}")


def _check_values(x: Rows, config: DataConfig, levels: int | None, where: str) -> None:
    refuse = partial(_refuse, x, axes=config.facts.axes, where=where)
    if x.dtype == torch.uint8:
        if config.bits and config.binarize == "none" and not all(_are_bits(block) for _, block in _chunks(x)):
            refuse(_not_bits, rule="must be 0 or 255, x = k/255 being binary: binarize them")
        return
    if config.binarize != "none":
        raise DataUnfit(
            f"{where} are real numbers, and data.binarize={config.binarize} is for bytes: give uint8, or set it to none"
        )
    lowest, highest = _range(x)  # NaN if there is one, so that this pass is the only one over good data
    if config.facts.support == "tokens":
        most = config.facts.vocabulary or 0
        if lowest < 0 or highest >= most:
            refuse(lambda block: (block < 0) | (block >= most), rule=f"must be a token, 0 to {most - 1}")
        return
    if not math.isfinite(lowest + highest):
        refuse(_not_finite, rule="must be finite: take it out of the data, or mend it")
    if config.reals:
        return
    if lowest < 0 or highest > 1:
        refuse(_outside, rule=f"must lie in [0, 1]: {_mend(lowest, highest)}")
    if config.bits:
        refuse(_neither, rule="must be 0 or 1, x being binary: binarize them")
    elif levels == 256:
        refuse(
            _between_levels,
            rule="must be a level k/255 for a likelihood of 256 levels: round x to levels, give bytes (uint8), or "
            "choose model.likelihood gaussian",
        )


def _refuse(x: Rows, wrong: Callable[[Tensor], Tensor], *, axes: tuple[str, ...], where: str, rule: str) -> None:
    """Raise DataUnfit that names the first value that `wrong` marks, and the number of all."""
    first, values, data = "", 0, 0
    for start, block in _chunks(x):
        marked = wrong(block)
        count = int(marked.sum())
        if count and not first:
            datum, *place = (int(i) for i in marked.nonzero()[0])
            value = block[(datum, *place)].item()
            named = (f"{_IMAGE.get(axis, axis)} {i}" for axis, i in zip(axes, place, strict=True))
            first = f"datum {start + datum} has {value:g} at {', '.join(named)}"
        values, data = values + count, data + int(marked.flatten(1).any(1).sum())
    if first:
        total = f"{values:,} such {'value' if values == 1 else 'values'} in {data:,} of {len(x):,} data"
        raise DataUnfit(f"{where}: {first} ({total}); every value {rule}")


def _mend(lowest: float, highest: float) -> str:
    reach = f"they reach from {lowest:g} to {highest:g}"
    if lowest >= 0 and highest <= 255:
        return f"{reach}, so divide them by 255, or give bytes (uint8), which are divided by 255 here"
    if lowest >= -1 and highest <= 1:
        return f"{reach}, so take (x + 1) / 2"
    return f"{reach}, so scale them to [0, 1], or name a data set of unbounded reals in data.name"


def _are_bits(block: Tensor) -> bool:
    """Return whether the bytes are all 0 or 255: 255 + 1 is 0 in a byte, so one comparison replaces three."""
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


def _chunks(x: Rows) -> Iterator[tuple[int, Tensor]]:
    """Yield (number of the first datum, the data from there) of at most `_AT_ONCE` elements, or of one datum."""
    size = max(1, _AT_ONCE // math.prod(x.shape[1:]))
    for start in range(0, len(x), size):
        yield start, x[start : start + size]


def _range(x: Rows) -> tuple[float, float]:
    ends = [block.aminmax() for _, block in _chunks(x)]
    lowest, highest = torch.stack([low for low, _ in ends]).min(), torch.stack([high for _, high in ends]).max()
    return float(lowest), float(highest)
