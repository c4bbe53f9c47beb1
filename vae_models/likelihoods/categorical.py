"""Masses over the 256 levels k/255 without any order between them (sigma-VAE 3.2, appendix C)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vae_models.likelihoods.intervals import LEVELS, level
from vae_models.likelihoods.layout import by_parameter
from vae_models.normal import sum_per_datum
from vae_models.protocols import Measure

BITS = 8


@dataclass(frozen=True, kw_only=True)
class Categorical:
    """log P(k|z) = log softmax(l)_k, l the decoder's 256 values for each element of x."""

    measure: ClassVar[Measure] = "mass"

    def parameters_per_element(self) -> int:
        return LEVELS

    def log_prob(
        self,
        decoded: Float[Tensor, "batch channels_out *rest"],
        x: Float[Tensor, "batch channels *rest"],
        mask: Tensor | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return log P(x|z) of x = k/255, [batch], nats per datum."""
        logits = by_parameter(decoded, LEVELS)
        chosen = logits.gather(1, level(x).unsqueeze(1)).squeeze(1)
        return sum_per_datum(chosen - torch.logsumexp(logits, dim=1), mask)

    def mean(self, decoded: Float[Tensor, "batch channels_out *rest"]) -> Float[Tensor, "batch channels *rest"]:
        """Return E[x|z] = sum_k P(k|z) k/255."""
        weights = torch.softmax(by_parameter(decoded, LEVELS), dim=1)
        levels = torch.arange(LEVELS, dtype=decoded.dtype, device=decoded.device) / (LEVELS - 1)
        mean: Tensor = torch.tensordot(weights, levels, dims=([1], [0]))
        return mean

    def variance(
        self, decoded: Float[Tensor, "batch channels_out *rest"], x: Tensor
    ) -> Float[Tensor, "batch channels *rest"]:
        """Return Var[x|z] = sum_k P(k|z) (k/255 - E[x|z])^2."""
        weights = torch.softmax(by_parameter(decoded, LEVELS), dim=1)
        levels = torch.arange(LEVELS, dtype=decoded.dtype, device=decoded.device) / (LEVELS - 1)
        away = levels.view(-1, *[1] * (weights.ndim - 2)) - self.mean(decoded).unsqueeze(1)
        return (weights * away.square()).sum(1)

    def sample(
        self, decoded: Float[Tensor, "batch channels_out *rest"], noise: Float[Tensor, "batch channels *rest"]
    ) -> Float[Tensor, "batch channels *rest"]:
        """Draw x = k/255 from uniform `noise` in [0, 1)."""
        ends = torch.softmax(by_parameter(decoded, LEVELS), dim=1).cumsum(1)
        return (noise.unsqueeze(1) >= ends[:, :-1]).sum(1).to(decoded.dtype) / (LEVELS - 1)


@dataclass(frozen=True, kw_only=True)
class Bitwise:
    """log P(k|z) = sum_b log s(+-l_b): the 8 bits of k, highest first, are independent given z; + where the bit is 1.

    s is the logistic function, l the decoder's 8 values for each element of x.
    """

    measure: ClassVar[Measure] = "mass"

    def parameters_per_element(self) -> int:
        return BITS

    def log_prob(
        self,
        decoded: Float[Tensor, "batch channels_out *rest"],
        x: Float[Tensor, "batch channels *rest"],
        mask: Tensor | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return log P(x|z) of x = k/255, [batch], nats per datum."""
        logits = by_parameter(decoded, BITS)
        values = _values(decoded).view(-1, *[1] * (x.ndim - 1)).long()
        of_bits = None if mask is None else mask.unsqueeze(1)
        bits = level(x).unsqueeze(1).div(values, rounding_mode="floor") % 2
        return sum_per_datum(F.logsigmoid(torch.where(bits == 1, logits, -logits)), of_bits)

    def mean(self, decoded: Float[Tensor, "batch channels_out *rest"]) -> Float[Tensor, "batch channels *rest"]:
        """Return E[x|z] = sum_b 2^(7 - b) P(bit b is 1) / 255."""
        weights = torch.sigmoid(by_parameter(decoded, BITS))
        number: Tensor = torch.tensordot(weights, _values(decoded), dims=([1], [0]))
        return number / (LEVELS - 1)

    def variance(
        self, decoded: Float[Tensor, "batch channels_out *rest"], x: Tensor
    ) -> Float[Tensor, "batch channels *rest"]:
        """Return Var[x|z] = sum_b (2^(7 - b) / 255)^2 p_b (1 - p_b)."""
        logits = by_parameter(decoded, BITS)
        squares = (_values(decoded) / (LEVELS - 1)).square()
        variance: Tensor = torch.tensordot(torch.sigmoid(logits) * torch.sigmoid(-logits), squares, dims=([1], [0]))
        return variance

    def sample(
        self, decoded: Float[Tensor, "batch channels_out *rest"], noise: Float[Tensor, "batch channels *rest"]
    ) -> Float[Tensor, "batch channels *rest"]:
        """Draw x = k/255 from uniform `noise` in [0, 1): each bit takes its part of the interval,
        the next one part of that.
        """
        place, value = noise.double(), torch.zeros_like(noise)
        for bits, weight in zip(
            torch.sigmoid(by_parameter(decoded, BITS).double()).unbind(1), _values(decoded), strict=True
        ):
            bit = place < bits
            place = torch.where(bit, place / bits, (place - bits) / (1 - bits))
            value = value + weight * bit
        return value / (LEVELS - 1)


def _values(like: Tensor) -> Tensor:
    """Return 128, 64, ..., 1: the bits' values."""
    return 2.0 ** torch.arange(BITS - 1, -1, -1, dtype=like.dtype, device=like.device)
