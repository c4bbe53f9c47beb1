"""One pass of a multi-rate model at several beta: beta is one more axis of what depends on it.

`torch.func.vmap` maps the pass over beta alone: x, the noise and whatever the network computes before its first gate
have no such axis, and are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import vmap

from vae_models.nn.norm import map_norms
from vae_models.records import Trace

Values = Mapping[str, Tensor]


class OverBetas:
    """A model in evaluation at several beta at once.

    reason: why torch cannot map this model over beta, from the first pass on in which it could not; None: it can. Each
            beta has a pass of its own then, with the same results but for rounding.
    """

    def __init__(self, model: nn.Module, betas: Tensor, *, rows: int) -> None:
        """Take a multi-rate model and the beta of its gates, [betas], in its type and on its device.

        rows: how many rows of a batch, beta and data together, are computed at a time, at least one datum: memory is
        what a pass over so many data at one beta takes.
        """
        self._model = model
        self._betas = betas
        self._data = max(1, rows // len(betas))
        self.reason: str | None = None

    def __call__(
        self, of: Callable[[Trace], Values], x: Tensor, noise: Mapping[str, Tensor], mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return `of` of the pass at each beta, [betas, batch] by name, without gradients.

        of: of a trace -> one number for each datum by name, [batch]; x, noise, mask: as a `Model` takes them.
        """
        with torch.no_grad():
            if self.reason is None:
                map_norms(self._model, mapped=True)
                try:
                    return self._mapped(of, x, noise, mask)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    self.reason = str(error).strip().splitlines()[0]
                finally:
                    map_norms(self._model, mapped=False)
            each = [dict(of(self._model(x, noise, beta, mask))) for beta in self._betas.unbind(0)]
            return {name: torch.stack([values[name] for values in each]) for name in each[0]}

    def _mapped(
        self, of: Callable[[Trace], Values], x: Tensor, noise: Mapping[str, Tensor], mask: Tensor | None
    ) -> dict[str, Tensor]:
        parts = []
        for start in range(0, len(x), self._data):
            rows = slice(start, start + self._data)
            own = {name: value[rows] for name, value in noise.items()}
            own_mask = None if mask is None else mask[rows]

            def at(
                beta: Tensor, x: Tensor = x[rows], noise: Values = own, mask: Tensor | None = own_mask
            ) -> dict[str, Tensor]:
                return dict(of(self._model(x, noise, beta, mask)))

            parts.append(vmap(at, randomness="error")(self._betas))
        return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
