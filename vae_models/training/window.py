"""The losses since the last log: kept on the device, read once per log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vae_models.training.errors import NonFiniteLoss


class Window:
    """One row per step: the loss and its terms, [capacity, 1 + terms]. Adding waits for nothing; reading does."""

    def __init__(self, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        self.capacity = capacity
        self.count = 0
        self.names: tuple[str, ...] = ()
        self._device = device
        self._dtype = dtype
        self._rows: Tensor | None = None

    def add(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Add one step's terms, which must have the same names at every step."""
        if self._rows is None:
            self.names = ("loss", *terms)
            self._rows = torch.zeros((self.capacity, len(self.names)), device=self._device, dtype=self._dtype)
        torch.stack([loss.detach(), *terms.values()], out=self._rows[self.count])
        self.count += 1

    def bind(self, names: Sequence[str], rows: Tensor) -> None:
        """Keep the losses in these rows, [capacity, 1 + terms], from now on, those that there are included."""
        if self._rows is not None:
            rows[: self.count].copy_(self._rows[: self.count])
        self.names, self._rows = tuple(names), rows

    def clear(self) -> None:
        self.count = 0

    def read(self, first_step: int) -> dict[str, float]:
        """Return the means by name; waits for the device. The window's first row is step `first_step`, counted from 1.

        Raise NonFiniteLoss that names the first step, and its first term, that is NaN or infinite.
        """
        if self._rows is None or self.count == 0:
            return {}
        rows = self._rows[: self.count].to("cpu", torch.float64)
        for row, values in enumerate(rows.tolist()):
            for name, value in zip(self.names, values, strict=True):
                if not math.isfinite(value):
                    raise NonFiniteLoss(first_step + row, name, value)
        return dict(zip(self.names, rows.mean(0).tolist(), strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """Return the filled rows, for the checkpoint."""
        return {} if self._rows is None else {"rows": self._rows[: self.count].clone()}

    def restore(self, names: Sequence[str], tensors: Mapping[str, Tensor]) -> None:
        rows = tensors.get("rows")
        if rows is None:
            return
        self.names = tuple(names)
        self.count = rows.shape[0]
        self._rows = torch.zeros((self.capacity, len(self.names)), device=self._device, dtype=self._dtype)
        self._rows[: self.count] = rows.to(self._device)


class StackedWindow:
    """The windows of several lanes as rows of one stack, [lanes, capacity, 1 + terms]: one addition for all of them."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = list(windows)
        self._rows: Tensor | None = None

    def add(self, losses: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Add one step's losses and terms, each [lanes]."""
        values = torch.stack([losses, *terms.values()], dim=1)
        if self._rows is None:
            self._rows = values.new_zeros((len(self._windows), max(w.capacity for w in self._windows), values.shape[1]))
            for lane, window in enumerate(self._windows):
                window.bind(("loss", *terms), self._rows[lane, : window.capacity])
        if len({window.count for window in self._windows}) == 1:
            self._rows[:, self._windows[0].count] = values
        else:  # they log at different steps
            for lane, window in enumerate(self._windows):
                self._rows[lane, window.count] = values[lane]
        for window in self._windows:
            window.count += 1

    def close(self) -> None:
        """Give every window rows of its own."""
        if self._rows is not None:
            for lane, window in enumerate(self._windows):
                window.bind(window.names, self._rows[lane, : window.capacity].clone())
