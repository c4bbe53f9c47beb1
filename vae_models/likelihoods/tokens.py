"""A categorical distribution over the tokens of a vocabulary, at each place of a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vae_models.protocols import Measure


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """p(x_t = v | z, what came before) = softmax(logits_t)_v: a mass. decoded: [batch, vocabulary x time]."""

    measure: ClassVar[Measure] = "mass"
    vocabulary: int

    def parameters_per_element(self) -> int:
        """Return the number of tokens."""
        return self.vocabulary

    def log_prob(
        self, decoded: Float[Tensor, "batch parameters"], x: Int[Tensor, "batch time"], mask: Tensor | None = None
    ) -> Float[Tensor, " batch"]:
        """Return log p(x|z), [batch], nats per datum: the sum over the places where the mask is true."""
        nats = F.cross_entropy(self._logits(decoded), x, reduction="none")
        return -(nats if mask is None else torch.where(mask, nats, 0)).sum(1)

    def mean(self, decoded: Float[Tensor, "batch parameters"]) -> Int[Tensor, "batch time"]:
        """Return the likeliest tokens: tokens are names, and have no mean."""
        return self._logits(decoded).argmax(1)

    def sample(
        self, decoded: Float[Tensor, "batch parameters"], noise: Float[Tensor, "batch time"]
    ) -> Int[Tensor, "batch time"]:
        """Draw tokens by the inverse distribution function, from uniform noise."""
        steps = self._logits(decoded).softmax(1).cumsum(1)
        return (steps < noise.unsqueeze(1) * steps[:, -1:]).sum(1).clamp(max=self.vocabulary - 1)

    def _logits(self, decoded: Tensor) -> Float[Tensor, "batch vocabulary time"]:
        return decoded.reshape(len(decoded), self.vocabulary, -1)
