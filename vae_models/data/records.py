"""A data set in memory: bytes as published (or real numbers), three splits, labels where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images in their published order (sets without a published split are shuffled once by a fixed permutation).

    images:     [n, channels, height, width]; uint8: x = images / 255; float32: x itself, in the unit `loading` states
    labels:     [n], int64 (a class) or float32 (a quantity), or [n, k]: k of them; None where none are published
    label_name: what a label is: "digit", "class", "alphabet", "angle", or k names; None without labels
    label_unit: its unit, "rad" for angles; None for classes
    """

    images: Tensor
    labels: Tensor | None = None
    label_name: str | tuple[str, ...] | None = None
    label_unit: str | None = None

    def __len__(self) -> int:
        return int(self.images.shape[0])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """`shape` is (channels, height, width); `sources` maps each file that was read to the SHA-256 of its bytes."""

    name: str
    train: Split
    val: Split
    test: Split
    shape: tuple[int, int, int]
    sources: Mapping[str, str] = field(default_factory=dict)
