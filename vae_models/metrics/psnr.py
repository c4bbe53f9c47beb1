"""The peak signal-to-noise ratio of images."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor


def psnr(x: Float[Tensor, "n *data"], y: Float[Tensor, "_n *_data"], *, span: float = 1.0) -> Float64[Tensor, " n"]:
    """Return 10 log_10(span^2 / mean over elements of (x - y)^2), dB, [n]: infinite where x = y.

    span: largest less smallest possible value. In float64. Raise ValueError for data of different shapes.
    """
    if x.shape != y.shape:
        raise ValueError(f"PSNR compares data of one shape: got {list(x.shape)} and {list(y.shape)}")
    squared_error = (x.double() - y.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(span**2 / squared_error)
