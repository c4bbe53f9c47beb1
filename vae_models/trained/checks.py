"""What is asked of data, latents and settings before a model sees them. Each error says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_models.config.run import RunConfig
from vae_models.data.config import DataConfig

# what x is, for people, by support
VALUES = {
    "bits": "binary, or the probability of a one",
    "bytes": "the levels k/255 of bytes k",
    "unit": "real numbers in [0, 1]",
}


class Refused(ValueError):  # noqa: N818 - says what is the case
    """What was given is nothing that this model takes: what it takes, and how to mend it."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a model takes. shape: of a datum; dtype: that it computes with."""

    data: DataConfig
    shape: tuple[int, ...]
    dtype: str

    def data_of(self, given: Any) -> NDArray[Any]:
        """Return data as the model reads them, [n, *shape]. Rows of a data frame, or of an array [n, elements], are
        data laid flat.

        x is what the model was trained on, by the support of its data: in [0, 1] for bytes (divided by 255) and bits,
        any finite number for reals (joint angles, images with noise), whole numbers below the vocabulary's for tokens.
        Raise ValueError for other shapes and values, with what is allowed.
        """
        values, support = as_array(given), self.data.support
        if values.shape[1:] not in (self.shape, (math.prod(self.shape),)):
            raise Refused(f"data of shape {values.shape} given; this model takes {self._shapes()}")
        numbers = finite(values, self.dtype, "this model").reshape(-1, *self.shape)
        if support == "tokens":
            return tokens(numbers, self.data.facts.vocabulary or 0)
        if support != "reals" and not ((numbers >= 0).all() and (numbers <= 1).all()):
            mend = "" if support == "unit" else ": divide bytes by 255 first"
            raise Refused(f"values outside [0, 1] given, and the data of this model are {VALUES[support]}{mend}")
        return numbers

    def beginnings_of(self, given: Any, least: int) -> NDArray[Any]:
        """Return sequences as `data_of` does, [n, time, *frame], of any length from `least` frames on."""
        values, frame = as_array(given), self.shape[1:]
        laid_flat = values.ndim == 2 and values.shape[1] % math.prod(frame) == 0
        time = values.shape[1] // math.prod(frame) if laid_flat else values.shape[1] if values.ndim > 1 else 0
        if time < least or (not laid_flat and values.shape[2:] != frame):
            raise Refused(
                f"data of shape {values.shape} given; this model continues [n, {least} or more, "
                f"{', '.join(map(str, frame))}], or such data laid flat"
            )
        return replace(self, shape=(time, *frame)).data_of(values)

    def latents_of(self, given: Any, latent: int) -> NDArray[Any]:
        """Return latents [n, latent]. Raise ValueError for another shape, and for what is no finite number."""
        values = as_array(given)
        if values.shape[1:] != (latent,):
            raise Refused(f"latents of shape {values.shape} given; this model's z are [n, {latent}]")
        return finite(values, self.dtype, "this model's decoder")

    def _shapes(self) -> str:
        flat, axes = f"[n, {math.prod(self.shape)}]", self.data.facts.axes
        if len(self.shape) == 1:
            return flat
        named = f" ({', '.join(axes)})" if len(axes) == len(self.shape) else ""
        return f"{flat} or [n, {', '.join(map(str, self.shape))}]{named}"


def as_array(given: Any) -> NDArray[Any]:
    """Return an array of what people have: an array, a tensor, a data frame, lists."""
    if isinstance(given, Tensor):
        return given.detach().cpu().numpy()
    return given.to_numpy() if hasattr(given, "to_numpy") else np.asarray(given)


def finite(values: NDArray[Any], dtype: str, who: str) -> NDArray[Any]:
    """Return the values as numbers of this type, contiguous. Raise ValueError for what is no finite number."""
    try:
        numbers = np.ascontiguousarray(values, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise Refused(f"values of type {values.dtype} given: {who} takes numbers") from error
    if not np.isfinite(numbers).all():
        raise Refused(f"NaN or infinite values given: {who} takes finite numbers")
    return numbers


def tokens(numbers: NDArray[Any], vocabulary: int) -> NDArray[np.int64]:
    """Return them as whole numbers. Raise ValueError for what is no token."""
    whole = numbers.astype(np.int64)
    if not ((whole >= 0).all() and (whole < vocabulary).all() and (whole == numbers).all()):
        raise Refused(f"values that are no tokens given: this model takes whole numbers from 0 to {vocabulary - 1}")
    return whole


def lengths_of(given: Any, count: int, data: DataConfig) -> Tensor | None:
    """Return the data's lengths, int64 [n], where data of this kind have their own; None where they have none.

    Raise ValueError where they are missing, superfluous or impossible.
    """
    facts = data.facts
    if not facts.lengths:
        if given is not None:
            raise Refused("lengths given, and the data of this model all have one length: leave them out")
        return None
    longest = facts.shape[facts.axes.index("time")]
    if given is None:
        raise Refused(f"the data of this model have lengths of their own: give lengths [n], from 0 to {longest}")
    values = as_array(given)
    right = values.shape == (count,) and values.dtype.kind in "iu" and bool(((values >= 0) & (values <= longest)).all())
    if not right:
        raise Refused(f"lengths must be {count} whole numbers from 0 to {longest}, one for each datum")
    return torch.from_numpy(values.astype(np.int64))


def whole(name: str, given: Any, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`. Raise ValueError for anything else."""
    number = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if not number or not low <= given <= high:
        raise Refused(f"{name} {given!r} given: it is a whole number from {low:,} to {high:,}")
    return int(given)


def real(name: str, given: Any, low: float, high: float) -> float:
    """Return a finite number from `low` to `high`. Raise ValueError for anything else."""
    number = isinstance(given, int | float | np.integer | np.floating) and not isinstance(given, bool)
    if not number or not math.isfinite(given) or not low <= given <= high:
        raise Refused(f"{name} {given!r} given: it is a number from {low:g} to {high:g}")
    return float(given)


def one_of(name: str, given: Any, allowed: Collection[str]) -> str:
    """Return one of the texts that are allowed. Raise ValueError that lists them for anything else."""
    if not isinstance(given, str) or given not in allowed:
        raise Refused(f"{name} {given!r} given: it is one of {', '.join(allowed)}")
    return given


def beta_of(given: Any, config: RunConfig) -> float | None:
    """Return the beta at which a multi-rate model is asked; None: at 1. Raise ValueError where the model reads none, or
    was not trained for this one.
    """
    if given is None:
        return None
    span = config.model.beta_range()
    if span is None:
        raise Refused(f"beta {given!r} given, and this model is of one beta: leave it out")
    return real("beta", given, *span)
