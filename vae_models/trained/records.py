"""What a model in use returns, and where it is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor


class Encoded(NamedTuple):
    """q(z|x) of each datum, each [n, latent]. std: None where q(z|x) has no density: z is the mean then."""

    mean: Any
    std: Any


class Traversal(NamedTuple):
    """dimensions [k]; values [steps] that each takes in its turn; means: E[x|z], [n, k, steps, *data]."""

    dimensions: Any
    values: Any
    means: Any


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model is from. step: of the training; metrics: measured on exactly these weights.

    vocabulary: `Dataset.vocabulary_digest` of the data that it was trained on; None where that is not known
    """

    folder: Path
    step: int
    metrics: Mapping[str, float]
    vocabulary: str | None = None


def like(given: Any, made: Tensor | None) -> Any:
    """Return a tensor where one was given, an array else; None of None."""
    if made is None:
        return None
    return made.clone() if isinstance(given, Tensor) else made.numpy()  # a clone is no inference tensor
