"""A data set in memory: the values as its source stores them, three splits, labels where there are any."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from vae_models.data.spec import LabelSpec


@dataclass(frozen=True, kw_only=True)
class Split:
    """Data in their published order (sets without a published split are shuffled once by a fixed permutation).

    x:       [n, *shape]; uint8: x = k/255 for a byte k; float32: x itself, in the unit that the source states; int32:
             tokens
    labels:  [n], int64 (a class) or float32 (a quantity), or [n, k]: k of them; None where none are published
    lengths: int64 [n], along the axis "time", where each datum has its own; beyond it there is padding
    """

    x: Tensor
    labels: Tensor | None = None
    lengths: Tensor | None = None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    @property
    def rows(self) -> Tensor:
        """Return x, to be read by slices in a pass over the data."""
        return self.x


class ReadRows(Protocol):
    """Rows of a split that are no tensor in memory, [n, *shape]: on a disk, or made by a rule."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice) -> Tensor:
        """Return the rows of a slice, in memory. Raise DataCorrupt where one cannot be read."""
        ...

    def read(self, wanted: Sequence[NDArray[np.int64]], *, pinned: bool = False) -> list[Tensor]:
        """Return some batches of rows by their numbers, in memory: called by several threads.

        pinned: in page-locked memory, which a GPU reads without the processor.
        Raise DataCorrupt where one cannot be read.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class StoredSplit:
    """As `Split`, with its x on a disk, or made by a rule: `rows` reads some of it, `x` all of it, anew each time.

    continued: the same data, each longer along "time", of which `rows` has the beginnings: models are trained on these,
               and may be asked to predict more; None where there is no more of them
    """

    rows: ReadRows
    labels: Tensor | None = None
    lengths: Tensor | None = None
    continued: ReadRows | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def x(self) -> Tensor:
        """Return all of x, in memory. Raise DataCorrupt where a datum cannot be read."""
        return self.rows[:]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Three splits of data of one `shape`, that of a datum.

    labels:     what the splits' labels are; None where there are none
    sources:    SHA-256 of the bytes of each file that was read, by name
    vocabulary: the tokens' texts by their numbers; None where there are no tokens, or nobody knows their texts
    """

    name: str
    train: Split | StoredSplit
    val: Split | StoredSplit
    test: Split | StoredSplit
    shape: tuple[int, ...]
    labels: LabelSpec | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    vocabulary: tuple[str, ...] | None = None

    @property
    def vocabulary_digest(self) -> str | None:
        """Return the SHA-256 of the tokens' texts as JSON, in hexadecimal; None where they have none.

        Two sets whose tokens have the same numbers have the same one, and no other sets.
        """
        if self.vocabulary is None:
            return None
        return hashlib.sha256(json.dumps(self.vocabulary).encode()).hexdigest()
