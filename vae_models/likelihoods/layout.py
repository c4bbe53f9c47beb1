"""How a decoder's output is cut into a likelihood's parameters."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def by_parameter(
    decoded: Float[Tensor, "batch channels_out *rest"], parameters: int
) -> Float[Tensor, "batch parameters channels *rest"]:
    """Return the decoder's output with an axis of parameters: channels_out = parameters x channels.

    All channels of the first parameter come first.
    """
    return decoded.reshape(decoded.shape[0], parameters, decoded.shape[1] // parameters, *decoded.shape[2:])
