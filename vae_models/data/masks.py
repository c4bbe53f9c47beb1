"""Which elements of a batch are data, where data have lengths of their own: see `records.Batch`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_models.data.spec import Axis

EVERYTHING = slice(None)


class Masks:
    """Those of one split. Of data that all have one length there are none.

    Where `shortest` is given a batch is cut along "time" to the longest of its data: what is left out is padding alone,
    so every sum over its data is the same. Who cuts a part of a batch names the whole of it: the parts of all workers
    are then equally long.
    """

    def __init__(
        self,
        lengths: Tensor | None,
        shape: Sequence[int],
        axes: Sequence[Axis],
        device: torch.device,
        *,
        shortest: int | None = None,
    ) -> None:
        """Take the data's lengths. lengths: [n], along the axis "time"; None: each datum has all of it.
        shape, axes: of a datum; shortest: the fewest places that a batch is cut to, None: none is cut.
        """
        self._known = None if lengths is None else lengths.cpu()  # by which batches are cut, wherever they are
        self._lengths = None if lengths is None else lengths.to(device)
        self._form = [size if axis == "time" else 1 for size, axis in zip(shape, axes, strict=lengths is not None)]
        self._axis = 1 + axes.index("time") if "time" in axes else 0  # of a batch
        self._shortest = shortest

    def of(self, indices: Tensor, rows: slice = EVERYTHING) -> Tensor | None:
        """Return the mask of these rows of the batch `indices`, [rows, 1 ..., time, 1 ...]; None: there is no padding.

        indices: int64 [batch], of the whole batch
        """
        if self._lengths is None:
            return None
        lengths = self._lengths.index_select(0, indices[rows].to(self._lengths.device))
        times = torch.arange(max(self._form), device=lengths.device)
        return self.cut((times < lengths.unsqueeze(1)).view(-1, *self._form), indices)

    def cut(self, x: Tensor, indices: Tensor) -> Tensor:
        """Return x, rows of the batch `indices` at their full length, as long as the longest datum of the batch."""
        if self._known is None or self._shortest is None:
            return x
        longest = max(self._shortest, int(self._known[indices.cpu()].max()))
        return x.narrow(self._axis, 0, min(longest, x.shape[self._axis]))
