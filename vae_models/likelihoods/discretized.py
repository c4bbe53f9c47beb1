"""Masses over the 256 levels k/255 from continuous distributions cut into intervals (sigma-VAE table 4, appendix C)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.likelihoods.gaussian import Link, linked, softclip, standard_normal_of
from vae_models.likelihoods.intervals import LEVELS, logistic_log_mass, normal_log_mass
from vae_models.likelihoods.layout import by_parameter
from vae_models.normal import sum_per_datum
from vae_models.protocols import Measure

Shape = Literal["gaussian", "logistic"]
MASSES = {"gaussian": normal_log_mass, "logistic": logistic_log_mass}


def quantiles(shape: Shape, noise: Tensor) -> Tensor:
    """Return the inverse distribution function of the standard distribution at `noise`."""
    if shape == "gaussian":
        return standard_normal_of(noise)
    info = torch.finfo(noise.dtype)
    return torch.logit(noise.clamp(info.tiny, 1 - info.eps / 2))


def to_level(x: Tensor) -> Tensor:
    """Return the level k/255 in whose interval x lies."""
    return torch.round(x * (LEVELS - 1)).clamp(0, LEVELS - 1) / (LEVELS - 1)


def _variance(log_mass: Callable[[Tensor], Tensor], near: Tensor) -> Tensor:
    """Return Var[k/255] of each element. log_mass: of levels [batch, *data]; near: any value close to the mean, which
    the moments are taken about."""
    first, second = torch.zeros_like(near), torch.zeros_like(near)
    for k in range(LEVELS):
        level = torch.full_like(near, k / (LEVELS - 1))
        mass, away = log_mass(level).exp(), level - near
        first, second = first + mass * away, second + mass * away.square()
    return (second - first.square()).clamp(min=0)


class Discretized(nn.Module):
    """P(k|z) = F(upper end of k's interval) - F(lower end), F of N(m, s^2) or of the logistic distribution.

    m is the decoder's output by `link`, in units of x; s is one trained number for all data and elements ("scalar scale
    parameters", table 4), or predicted: the decoder's second output per element. log s is soft-clipped from below.
    """

    measure: ClassVar[Measure] = "mass"

    def __init__(self, *, shape: Shape, fit: Literal["trained", "predicted"], scale: float, link: Link) -> None:
        """Set up the distribution. scale: the value at which a trained s starts."""
        super().__init__()
        self.shape = shape
        self.link = link
        self.raw_log_scale = nn.Parameter(torch.tensor(math.log(scale))) if fit == "trained" else None

    def parameters_per_element(self) -> int:
        return 1 if self.raw_log_scale is not None else 2

    def log_prob(
        self,
        decoded: Float[Tensor, "batch channels_out *rest"],
        x: Float[Tensor, "batch channels *rest"],
        mask: Tensor | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return log P(x|z) of x = k/255, [batch], nats per datum."""
        location, log_scale = self._cut(decoded)
        return sum_per_datum(MASSES[self.shape](x, location, log_scale), mask)

    def mean(self, decoded: Float[Tensor, "batch channels_out *rest"]) -> Float[Tensor, "batch channels *rest"]:
        """Return the location clipped to [0, 1]: E[x|z], up to the small shift by the cut tails."""
        return self._cut(decoded)[0].clamp(0, 1)

    def variance(
        self, decoded: Float[Tensor, "batch channels_out *rest"], x: Tensor
    ) -> Float[Tensor, "batch channels *rest"]:
        """Return Var[x|z], over the 256 levels."""
        location, log_scale = self._cut(decoded)
        mass = MASSES[self.shape]
        return _variance(lambda level: mass(level, location, log_scale.expand_as(location)), self.mean(decoded))

    def sample(
        self, decoded: Float[Tensor, "batch channels_out *rest"], noise: Float[Tensor, "batch channels *rest"]
    ) -> Float[Tensor, "batch channels *rest"]:
        """Draw x = k/255 from uniform `noise` in [0, 1)."""
        location, log_scale = self._cut(decoded)
        return to_level(location + log_scale.exp() * quantiles(self.shape, noise))

    def _cut(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Return location and log scale, of the data's shape (a trained scale broadcasts)."""
        if self.raw_log_scale is not None:
            return linked(decoded, self.link), softclip(self.raw_log_scale, MINIMUM)
        location, raw = decoded.chunk(2, dim=1)
        return linked(location, self.link), softclip(raw, MINIMUM)


class LogisticMixture(nn.Module):
    """P(k|z) = sum_c pi_c [F_c(upper) - F_c(lower)], F_c logistic, for each element of x on its own.

    The decoder gives 3 values for each of `components`: logit, location, log scale. Unlike Salimans et al. (2017) no
    channel's location depends on another channel, so colour has to go through z (sigma-VAE appendix C).
    """

    measure: ClassVar[Measure] = "mass"

    def __init__(self, *, components: int) -> None:
        super().__init__()
        self.components = components

    def parameters_per_element(self) -> int:
        return 3 * self.components

    def log_prob(
        self,
        decoded: Float[Tensor, "batch channels_out *rest"],
        x: Float[Tensor, "batch channels *rest"],
        mask: Tensor | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return log P(x|z) of x = k/255, [batch], nats per datum."""
        logits, location, log_scale = self._cut(decoded)
        masses = logistic_log_mass(x.unsqueeze(1), location, log_scale)
        return sum_per_datum(torch.logsumexp(torch.log_softmax(logits, dim=1) + masses, dim=1), mask)

    def mean(self, decoded: Float[Tensor, "batch channels_out *rest"]) -> Float[Tensor, "batch channels *rest"]:
        """Return sum_c pi_c clip(location_c, 0, 1): E[x|z], up to the small shift by the cut tails."""
        logits, location, _ = self._cut(decoded)
        return (torch.softmax(logits, dim=1) * location.clamp(0, 1)).sum(1)

    def variance(
        self, decoded: Float[Tensor, "batch channels_out *rest"], x: Tensor
    ) -> Float[Tensor, "batch channels *rest"]:
        """Return Var[x|z], over the 256 levels."""
        logits, location, log_scale = self._cut(decoded)
        weights = torch.log_softmax(logits, dim=1)

        def log_mass(level: Tensor) -> Tensor:
            return torch.logsumexp(weights + logistic_log_mass(level.unsqueeze(1), location, log_scale), dim=1)

        return _variance(log_mass, self.mean(decoded))

    def sample(
        self, decoded: Float[Tensor, "batch channels_out *rest"], noise: Float[Tensor, "batch channels *rest"]
    ) -> Float[Tensor, "batch channels *rest"]:
        """Draw x = k/255 from uniform `noise` in [0, 1): it chooses the component, and its place therein the value."""
        logits, location, log_scale = self._cut(decoded)
        weights = torch.softmax(logits, dim=1)
        ends = weights.cumsum(1)
        chosen = (noise.unsqueeze(1) >= ends[:, :-1]).sum(1, keepdim=True)
        weight, end = weights.gather(1, chosen), ends.gather(1, chosen)
        inside = ((noise.unsqueeze(1) - (end - weight)) / weight).clamp(0, 1)
        value = location.gather(1, chosen) + log_scale.gather(1, chosen).exp() * quantiles("logistic", inside)
        return to_level(value.squeeze(1))

    def _cut(self, decoded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, locations and log scales, each [batch, components, channels, *rest]."""
        parts = by_parameter(decoded, 3 * self.components).chunk(3, dim=1)
        return parts[0], parts[1], softclip(parts[2], MINIMUM)


MINIMUM = -6.0  # of log scale, by soft clip: a scale of half a level
