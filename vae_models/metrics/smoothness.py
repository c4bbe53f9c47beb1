"""How smooth a decoder is where the data are (AR-ELBO section 4.2, appendix C). All are means over data of what
is returned here, in units of x squared.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

Decode = Callable[[Tensor], Tensor]  # z [n, latent] -> E[x|z], [n, *data]
AXES = 8  # latent axes that a pass differentiates along at a time


def squared_gaps(
    decode: Decode,
    means: Float[Tensor, "data latent"],
    first: Float[Tensor, "data latent"],
    second: Float[Tensor, "data latent"],
    variance: float,
) -> Float64[Tensor, " data"]:
    """Return |mu(m + s e) - mu(m + s e')|^2 of each datum's mean m, s^2 the variance: averaged, eq 5's expected gap.

    first, second: e and e', standard normal. For small s the expected gap is 2 s^2 times the mean of `local_smoothness`
    (C.8).
    """
    scale = variance**0.5
    difference = decode(means + scale * first).double() - decode(means + scale * second).double()
    return difference.square().flatten(1).sum(1)


def local_smoothness(decode: Decode, means: Float[Tensor, "data latent"]) -> Float64[Tensor, " data"]:
    """Return |grad mu(m)|_F^2, the sum of squares of the decoder's Jacobian at each datum's mean, exactly (eq 6).

    A Jacobian-vector product for each latent axis, `AXES` of them in one pass; memory is that of `AXES` passes.
    """
    total = torch.zeros(means.shape[0], dtype=torch.float64, device=means.device)
    for axes in torch.split(torch.eye(means.shape[1], dtype=means.dtype, device=means.device), AXES):
        tangents = axes[:, None, :].expand(-1, *means.shape)
        derivatives = torch.func.vmap(lambda tangent: _derivative(decode, means, tangent))(tangents)
        total += derivatives.double().square().flatten(2).sum(2).sum(0)
    return total


def probed_smoothness(
    decode: Decode, means: Float[Tensor, "data latent"], directions: Float[Tensor, "data probes latent"]
) -> Float64[Tensor, " data"]:
    """Return `local_smoothness` without bias from few products: the mean over probes of |J v|^2, v standard normal.

    Hutchinson 1989: E v' J'J v = tr J'J. Its error over data has in it that of the probes, which are each datum's own.
    """
    total = torch.zeros(means.shape[0], dtype=torch.float64, device=means.device)
    for tangent in directions.unbind(1):
        total += _derivative(decode, means, tangent).double().square().flatten(1).sum(1)
    return total / directions.shape[1]


def _derivative(decode: Decode, means: Tensor, tangent: Tensor) -> Tensor:
    """Return J v of each row, [n, *data]: what one datum is decoded to depends on no other."""
    derivative: Tensor = torch.func.jvp(decode, (means,), (tangent,))[1]
    return derivative
