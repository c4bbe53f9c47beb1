"""Walks through z, and what is seen on the way: from one datum to another, and along one dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vae_models import bounds
from vae_models.metrics import paths
from vae_models.trained import checks, geodesics
from vae_models.trained.records import Encoded, Traversal, like

if TYPE_CHECKING:
    from vae_models.trained.model import Trained

MOST_STEPS = 1000
HOW = ("linear", "slerp", "graph")


def interpolate(model: Trained, a: Any, b: Any, *, steps: int, how: str, seed: int, beta: float | None) -> Any:
    """Return what `Trained.interpolate` does."""
    points, way = checks.whole("steps", steps, 2, MOST_STEPS), checks.one_of("how", how, HOW)
    start, end = (torch.as_tensor(model.encode(each, beta=beta).mean) for each in (a, b))
    if len(start) != len(end):
        raise checks.Refused(f"{len(start)} data to start from and {len(end)} to go to: give as many of each")
    if way == "graph" and len(start):
        z = geodesics.ways(model, start, end, points, seed=seed, beta=beta)
    else:
        z = paths.path(start, end, points, "slerp" if way == "slerp" else "linear")
    decoded = model.decoded(z.flatten(0, 1).numpy(), beta)
    return like(a, decoded.view(len(z), points, *model.shape))


@dataclass(frozen=True, kw_only=True)
class Traverse:
    """Which dimensions, or how many, and where they go: see `Trained.traverse`."""

    dimensions: Sequence[int] | None
    top: int
    steps: int
    low: float
    high: float

    def values(self, dtype: str) -> NDArray[Any]:
        """Return the values that a dimension takes, [steps]."""
        low, high = (checks.real(name, getattr(self, name), -bounds.REAL, bounds.REAL) for name in ("low", "high"))
        return np.linspace(low, high, checks.whole("steps", self.steps, 2, MOST_STEPS)).astype(dtype)

    def chosen(self, encoded: Encoded) -> NDArray[np.int64]:
        """Return the dimensions, [k]."""
        most = encoded.mean.shape[1]
        if self.dimensions is None:
            return informative(encoded)[: checks.whole("top", self.top, 1, bounds.WIDTH)]
        return np.array([checks.whole("dimension", each, 0, most - 1) for each in self.dimensions], dtype=np.int64)


def traverse(model: Trained, x: Any, how: Traverse, *, beta: float | None) -> Traversal:
    """Return what `Trained.traverse` does."""
    values, encoded = how.values(model.config.dtype), model.encode(model.form.data_of(x), beta=beta)
    chosen = how.chosen(encoded)
    form = (len(encoded.mean), len(chosen), len(values))
    z = np.broadcast_to(encoded.mean[:, None, None, :], (*form, model.latent)).copy()
    for place, dimension in enumerate(chosen):
        z[:, place, :, dimension] = values
    decoded = model.decoded(z.reshape(-1, model.latent), beta).view(*form, *model.shape)
    return Traversal(
        dimensions=like(x, torch.from_numpy(chosen)), values=like(x, torch.from_numpy(values)), means=like(x, decoded)
    )


def informative(encoded: Encoded) -> NDArray[np.int64]:
    """Return the dimensions of z by what they carry on average, most first."""
    carried = encoded.mean.astype(np.float64) ** 2
    if encoded.std is not None:
        std = encoded.std.astype(np.float64)
        carried = 0.5 * (carried + std**2 - 1) - np.log(std)
    if len(carried) == 0:
        raise checks.Refused(
            "no data given: the dimensions that carry most are found by data; give some, or dimensions"
        )
    return np.argsort(-carried.mean(0), kind="stable").astype(np.int64)
