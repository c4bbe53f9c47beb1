"""Which elements of a batch are data, where data have lengths of their own: see `records.Batch`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_models.data.spec import Axis


class Masks:
    """Those of one split. Of data that all have one length there are none."""

    def __init__(
        self, lengths: Tensor | None, shape: Sequence[int], axes: Sequence[Axis], device: torch.device
    ) -> None:
        """Take the data's lengths. lengths: [n], along the axis "time"; None: each datum has all of it.
        shape, axes: of a datum.
        """
        self._lengths = None if lengths is None else lengths.to(device)
        self._form = [size if axis == "time" else 1 for size, axis in zip(shape, axes, strict=lengths is not None)]

    def of(self, indices: Tensor) -> Tensor | None:
        """Return the mask of the data with these indices, [batch, 1 ..., time, 1 ...]; None: there is no padding."""
        if self._lengths is None:
            return None
        lengths = self._lengths.index_select(0, indices.to(self._lengths.device))
        times = torch.arange(max(self._form), device=lengths.device)
        return (times < lengths.unsqueeze(1)).view(-1, *self._form)
