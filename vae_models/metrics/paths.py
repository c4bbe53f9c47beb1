"""Ways from one latent vector to another, and how long their pictures are: the geometry that a decoder gives z.

The decoder f maps a curve z(t) to a curve of data, whose length is L = integral |J(z(t)) z'(t)| dt, J the Jacobian of f
at z: the length by the metric J^T J (VHP 4; Chen et al. 2018). Lengths are in units of x, over all elements of a datum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Straight = Literal["linear", "slerp"]
Decode = Callable[[Tensor], Tensor]  # z [n, latent] -> E[x|z], [n, *data]
NO_ARC = 1e-4  # sine of an angle below which a great circle is a line to rounding, or (near pi) not one alone


def linear(
    a: Float[Tensor, "*batch latent"], b: Float[Tensor, "*batch latent"], t: Float[Tensor, "*times"]
) -> Float[Tensor, "*both latent"]:
    """Return (1 - t) a + t b; t broadcasts with the axes before the last."""
    return torch.lerp(a, b, t.unsqueeze(-1))


def slerp(
    a: Float[Tensor, "*batch latent"], b: Float[Tensor, "*batch latent"], t: Float[Tensor, "*times"]
) -> Float[Tensor, "*both latent"]:
    """Return [sin((1 - t) w) a + sin(t w) b] / sin w with w the angle between a and b; t broadcasts as in `linear`.

    Shoemake (1985); White (2016), "Sampling generative networks", whose a and b need not be of one length: AR-ELBO 6.2.
    It is `linear` where w is 0 or pi, or a or b is 0.
    """
    norms = (a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True))
    left, right = (value / norm.clamp(min=torch.finfo(a.dtype).tiny) for value, norm in zip((a, b), norms, strict=True))
    angle = 2 * torch.atan2((left - right).norm(dim=-1, keepdim=True), (left + right).norm(dim=-1, keepdim=True))
    sine, place = angle.sin(), t.unsqueeze(-1)
    straight = (sine.abs() < NO_ARC) | (norms[0] * norms[1] == 0)
    arc = (torch.sin((1 - place) * angle) * a + torch.sin(place * angle) * b) / sine.where(~straight, 1)
    return torch.where(straight, linear(a, b, t), arc)


def path(
    a: Float[Tensor, "n latent"], b: Float[Tensor, "n latent"], steps: int, how: Straight = "linear"
) -> Float[Tensor, "n steps latent"]:
    """Return `steps` >= 2 points from a to b, both ends among them, at equal steps of t."""
    if steps < 2:
        raise ValueError(f"a path has both its ends: 2 steps at least, not {steps}")
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)
    return (slerp if how == "slerp" else linear)(a.unsqueeze(1), b.unsqueeze(1), t)


def segment_lengths(
    decode: Decode, a: Float[Tensor, "n latent"], b: Float[Tensor, "n latent"], points: int = 4
) -> Float[Tensor, " n"]:
    """Return how long the decoder's curves are along the lines from a to b: integral_0^1 |J(a + t (b - a)) (b - a)| dt.

    By Gauss and Legendre's rule with this many Jacobian-vector products: exact where |J z'| is a polynomial of degree
    2 points - 1 in t, as of a linear decoder. Rows must not depend on each other (a model in evaluation).
    """
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(points)
    total = torch.zeros(len(a), dtype=a.dtype, device=a.device)
    for node, weight in zip(nodes, weights, strict=True):
        place = torch.lerp(a, b, float(node + 1) / 2)
        total = total + float(weight) / 2 * speeds(decode, place, b - a)
    return total


def speeds(decode: Decode, z: Float[Tensor, "n latent"], velocity: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
    """Return |J(z) v|, how fast the decoder's picture moves: exact, by a Jacobian-vector product for each row."""
    moved: Tensor = torch.func.jvp(decode, (z,), (velocity,))[1]
    return _norm(moved.flatten(1))


def spaced(corners: Float[Tensor, "corners latent"], steps: int) -> Float[Tensor, "steps latent"]:
    """Return points at equal distances along the polyline through `corners`, its ends among them."""
    lengths = corners.diff(dim=0).norm(dim=1)
    ends = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    places = torch.linspace(0, 1, steps, dtype=corners.dtype, device=corners.device) * ends[-1]
    if len(corners) == 1:
        return corners.expand(steps, -1)
    piece = torch.searchsorted(ends, places, right=True).sub(1).clamp(0, len(lengths) - 1)
    share = (places - ends[piece]) / lengths[piece].clamp(min=torch.finfo(corners.dtype).tiny)
    return linear(corners[piece], corners[piece + 1], share.clamp(0, 1))


def jumps(decoded: Float[Tensor, "n steps *data"]) -> Float[Tensor, "n _"]:
    """Return |x_(k+1) - x_k| of each step of a path's pictures, [n, steps - 1], in units of x (VHP figure 18)."""
    return _norm(decoded.flatten(2).diff(dim=1))


def _norm(vectors: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return length
