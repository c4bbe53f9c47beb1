"""p(x|z) of binary data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vae_models.normal import sum_per_datum
from vae_models.protocols import Measure


@dataclass(frozen=True, kw_only=True)
class Bernoulli:
    """log p(x|z) = sum_i x_i log s(l_i) + (1 - x_i) log s(-l_i), s the logistic function, l the decoder's raw output.

    A mass over x in {0, 1}. With x anywhere in [0, 1] the same formula is the negative cross-entropy: smooth and useful
    to train on grey values, but it does not integrate to one, so such values are not log-likelihoods. x is not checked.
    """

    measure: ClassVar[Measure] = "mass"

    def parameters_per_element(self) -> int:
        return 1

    def log_prob(
        self, decoded: Float[Tensor, "batch *data"], x: Float[Tensor, "batch *data"], mask: Tensor | None = None
    ) -> Float[Tensor, " batch"]:
        """Return log P(x|z), [batch], nats per datum, to rounding at any logit.

        It is not `binary_cross_entropy_with_logits`, which loses the digits of a sure pixel (in float32 all of them
        from logits of 17 on), and most pixels of a binary image are sure.
        """
        ones = x * F.logsigmoid(decoded)  # no gradient reads it: the sum takes its memory
        return sum_per_datum(ones.add_((1 - x) * F.logsigmoid(-decoded)), mask)

    def mean(self, decoded: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        """Return E[x|z] = P(x = 1|z)."""
        return torch.sigmoid(decoded)

    def variance(self, decoded: Float[Tensor, "batch *data"], x: Tensor) -> Float[Tensor, "batch *data"]:
        """Return Var[x|z] = p (1 - p)."""
        return torch.sigmoid(decoded) * torch.sigmoid(-decoded)

    def sample(
        self, decoded: Float[Tensor, "batch *data"], noise: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *data"]:
        """Draw x in {0, 1} from uniform `noise` in [0, 1): x = 1 where noise < P(x = 1|z)."""
        return (noise < torch.sigmoid(decoded)).to(decoded.dtype)
