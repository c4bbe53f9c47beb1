"""p(x|z) = N(x; mean(z), diag sigma^2): a density. Which elements share a sigma, and where it comes from.

Three axes (AR-ELBO 5.1 and table 2; sigma-VAE 3.1-3.2):

tie: "iso": one sigma for all elements of a datum; "diag": one each
per: "dataset": the same for all data; "datum": each datum has its own
fit: "fixed"      iso/dataset only: sigma is given
     "trained"    per dataset: log sigma is a parameter, moved by the gradient ("shared" in sigma-VAE)
     "mle"        sigma^2 is the mean squared error of what shares it: the value that maximises the likelihood. Per
                  dataset it is the mean over the global batch: iso is sigma-VAE's optimal sigma and AR-ELBO's Iso-I,
                  diag is Diag-I. Per datum: Iso-D and Diag-D
     "predicted"  per datum: the decoder's second output; iso takes its mean over the elements ("per-image" in
                  sigma-VAE), diag takes it as it is ("per-pixel")

log sigma is kept up by softclip(v, m) = m + softplus(v - m) (sigma-VAE B: m = -6), or sigma^2 by an epsilon c (AR-ELBO
5.2: 1e-6, but for Iso-I), or by nothing.

What is minimised and what is reported differ where there is a c. With S the squared error that shares a sigma (of an
element and datum, or its mean), AR-ELBO's table 2 puts the c into the logarithm alone: 1/2 sum log(S + c), up to
constants. The density with the fitted variance sigma^2 = S + c has 1/2 sum [log 2 pi(S + c) + S / (S + c)], less by
1/2 sum c / (S + c): it is what log_prob, and so every reported distortion and ELBO, says. To train on it would pull
single errors e below sqrt(c) harder, by e c / (e^2 + c)^2 each: at c = 1e-6 and e = 1e-3 the slope of the objective is
500, that of the density 750.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.collectives import global_mean
from vae_models.normal import HALF_LOG_TWO_PI, log_standard, mean_per_datum, sum_per_datum
from vae_models.numbers import Number
from vae_models.protocols import Measure

Link = Literal["identity", "sigmoid"]
Tie = Literal["iso", "diag"]
STRAIGHT = 40.0  # from here on log(exp(t) - 1) is t in float64; exp(t) would overflow at 710
SLOWEST = 0.01  # smallest weight of a new batch in the running variance: a memory of about a hundred steps


def linked(raw: Tensor, link: Link) -> Tensor:
    """Return the mean: `link` of the decoder's output."""
    return torch.sigmoid(raw) if link == "sigmoid" else raw


def softclip(value: Tensor, minimum: float | Tensor | Number | None) -> Tensor:
    """Return minimum + softplus(value - minimum): above `minimum`, and nearly `value` far above it. None: value."""
    if minimum is None:
        return value
    lowest = minimum.like(value) if isinstance(minimum, Number) else minimum
    return lowest + F.softplus(value - lowest)


def _minimum(value: float | None) -> Number | None:
    return None if value is None else Number(value)


def standard_normal_of(noise: Tensor) -> Tensor:
    """Return Phi^-1(noise) of uniform noise in [0, 1); 0 and 1 (to which a float32 may round)
    give large finite values.
    """
    info = torch.finfo(noise.dtype)
    standard: Tensor = torch.special.ndtri(noise.clamp(info.tiny, 1 - info.eps / 2))
    return standard


def log_normal(error: Tensor, log_sigma: Tensor, mask: Tensor | None = None) -> Float[Tensor, " batch"]:
    """Return -sum_i [(error_i / sigma_i)^2 / 2 + log sigma_i + log(2 pi) / 2], [batch], nats; log_sigma broadcasts."""
    terms = 0.5 * (error * torch.exp(-log_sigma)).square() + log_sigma + HALF_LOG_TWO_PI
    return -sum_per_datum(terms, mask)


def table_2(
    distortion: Tensor, log_sigma: Tensor, epsilon: float | Tensor, x: Tensor, mask: Tensor | None = None
) -> Float[Tensor, " batch"]:
    """Return AR-ELBO's table 2 from the density's distortion:
    distortion + 1/2 sum_i epsilon / sigma_i^2, [batch], nats.

    Its mean over the elements that share a sigma^2 = S + epsilon is 1/2 sum_i [log 2 pi(S + epsilon) + 1], G.5 to G.17
    with the epsilon inside of the logarithm. `log_sigma` broadcasts to x.
    """
    return distortion + sum_per_datum((0.5 * epsilon * torch.exp(-2 * log_sigma)).expand_as(x), mask)


class Gaussian(nn.Module):
    """p(x|z) = N(x; link(d), sigma^2 I), d [batch, *data] the decoder's raw output, sigma fixed and in units of x.

    A density: its values may be positive and may not be compared with those of a mass.
    link: "identity", or "sigmoid" for a mean inside (0, 1).
    """

    measure: ClassVar[Measure] = "density"

    def __init__(self, *, sigma: float = 1.0, link: Link = "identity") -> None:
        super().__init__()
        self.link = link
        self.sigma = Number(sigma)
        self.log_of_sigma = Number(math.log(sigma))

    def parameters_per_element(self) -> int:
        return 1

    def log_prob(
        self, decoded: Float[Tensor, "batch *data"], x: Float[Tensor, "batch *data"], mask: Tensor | None = None
    ) -> Float[Tensor, " batch"]:
        """Return -sum_i [((x_i - mean_i) / sigma)^2 / 2 + log sigma + log(2 pi) / 2], [batch], nats per datum."""
        standard = (x - self.mean(decoded)) / self.sigma.like(x)
        if mask is None:
            dimensions = math.prod(x.shape[1:])
            return log_standard(standard) - dimensions * self.log_of_sigma.value
        return sum_per_datum(-0.5 * standard.square() - HALF_LOG_TWO_PI - self.log_of_sigma.like(x), mask)

    def mean(self, decoded: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        """Return E[x|z]."""
        return linked(decoded, self.link)

    def log_sigma(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return log sigma, []."""
        return self.log_of_sigma.like(decoded)

    def variance(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return sigma^2 of each element, [batch, *data]."""
        return (2 * self.log_sigma(decoded, x)).exp().expand_as(x)

    def sample(
        self, decoded: Float[Tensor, "batch *data"], noise: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *data"]:
        """Draw x from uniform `noise` in [0, 1): mean + sigma * Phi^-1(noise)."""
        return self.mean(decoded) + self.sigma.like(noise) * standard_normal_of(noise)


class TrainedGaussian(nn.Module):
    """sigma is a parameter: [] (iso) or one for each element of the data (diag). It starts at `sigma`."""

    measure: ClassVar[Measure] = "density"

    def __init__(
        self, *, data_shape: tuple[int, ...], tie: Tie, sigma: float, link: Link, minimum: float | None
    ) -> None:
        """Set up a trained sigma. minimum: of log sigma, by `softclip`. Raise ValueError if sigma is not above it."""
        super().__init__()
        self.link = link
        self.minimum = _minimum(minimum)
        start = math.log(sigma)
        if minimum is not None:
            if start <= minimum:
                raise ValueError(f"sigma {sigma} is not above the soft clip at log sigma = {minimum}")
            above = start - minimum
            start = minimum + (math.log(math.expm1(above)) if above < STRAIGHT else above)  # softclip's inverse
        self.raw_log_sigma = nn.Parameter(torch.full(() if tie == "iso" else data_shape, start))

    def parameters_per_element(self) -> int:
        return 1

    def log_sigma(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return log sigma, [] or [*data]."""
        return softclip(self.raw_log_sigma, self.minimum)

    def log_scale(self) -> Tensor:
        """Return the mean of log sigma over the elements, []: for curves."""
        return softclip(self.raw_log_sigma, self.minimum).mean()

    def log_prob(
        self, decoded: Float[Tensor, "batch *data"], x: Float[Tensor, "batch *data"], mask: Tensor | None = None
    ) -> Float[Tensor, " batch"]:
        """Return log p(x|z), [batch], nats per datum."""
        return log_normal(x - self.mean(decoded), self.log_sigma(decoded, x), mask)

    def mean(self, decoded: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        """Return E[x|z]."""
        return linked(decoded, self.link)

    def variance(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return sigma^2 of each element, [batch, *data]."""
        return (2 * self.log_sigma(decoded, x)).exp().expand_as(x)

    def sample(
        self, decoded: Float[Tensor, "batch *data"], noise: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *data"]:
        """Draw x from uniform `noise` in [0, 1)."""
        return self.mean(decoded) + self.log_sigma(decoded, noise).exp() * standard_normal_of(noise)


class DatasetMLE(nn.Module):
    """sigma^2 by maximum likelihood over the global batch: the mean over data (and, iso, elements) of (x - mean)^2.

    Without softclip what is minimised is (dimensions / 2) (log(S + epsilon) + 1 + log 2 pi) in the mean, iso, and the
    sum of the same over the elements, diag: AR-ELBO's table 2, constants included. The gradient goes through sigma.
    Squared errors are reduced over workers before the logarithm, so N workers compute what one does.

    In evaluation sigma^2 is the running mean of training's: the plain mean of the first hundred batches, then with a
    weight of 1/100 for each new one. It is a buffer, so checkpoints keep it. Before any training it is 1. A batch
    without a datum, such as one of videos that have no frame to be predicted, does not move it.
    """

    measure: ClassVar[Measure] = "density"
    running_variance: Tensor
    batches: Tensor

    def __init__(
        self, *, data_shape: tuple[int, ...], tie: Tie, link: Link, minimum: float | None, epsilon: float
    ) -> None:
        super().__init__()
        self.tie = tie
        self.link = link
        self.minimum = _minimum(minimum)
        self.epsilon = Number(epsilon)
        self.regularized = epsilon > 0  # known before there is a tensor; lanes of which one has none are not fused
        self.register_buffer("running_variance", torch.ones(() if tie == "iso" else data_shape))
        self.register_buffer("batches", torch.zeros(()))

    def parameters_per_element(self) -> int:
        return 1

    def log_sigma(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return log sigma, [] or [*data]: of this batch in training, the running one in evaluation.
        It changes no state.
        """
        return self._log_of(self._variance(decoded, x) if self.training else self.running_variance)

    def log_scale(self) -> Tensor:
        """Return the mean of the running log sigma over the elements, []: for curves."""
        return self._log_of(self.running_variance).mean()

    def log_prob(
        self, decoded: Float[Tensor, "batch *data"], x: Float[Tensor, "batch *data"], mask: Tensor | None = None
    ) -> Float[Tensor, " batch"]:
        """Return log p(x|z), [batch], nats per datum.
        In training it couples the batch and moves the running variance.
        """
        return -self.distortions(decoded, x, mask)[1]

    def distortions(
        self, decoded: Float[Tensor, "batch *data"], x: Float[Tensor, "batch *data"], mask: Tensor | None = None
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Return (the objective of table 2, -log p(x|z)), nats per datum; in evaluation both are the second."""
        if not self.training:
            distortion = -log_normal(x - self.mean(decoded), self._log_of(self.running_variance), mask)
            return distortion, distortion
        variance = self._variance(decoded, x, mask)
        if not len(x) and bool(variance.isnan().all()):  # no datum on any worker: sigma stays as it is
            distortion = -log_normal(x - self.mean(decoded), self._log_of(self.running_variance), mask)
            return distortion, distortion
        with torch.no_grad():
            self.batches.add_(1)
            weight = (1 / self.batches).clamp(min=SLOWEST)
            self.running_variance.add_(weight * (variance - self.running_variance))
        log_sigma = self._log_of(variance)
        distortion = -log_normal(x - self.mean(decoded), log_sigma, mask)
        return (
            table_2(distortion, log_sigma, self.epsilon.like(x), x, mask) if self.regularized else distortion
        ), distortion

    def mean(self, decoded: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        """Return E[x|z]."""
        return linked(decoded, self.link)

    def variance(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return sigma^2 of each element, [batch, *data]."""
        return (2 * self.log_sigma(decoded, x)).exp().expand_as(x)

    def sample(
        self, decoded: Float[Tensor, "batch *data"], noise: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *data"]:
        """Draw x from uniform `noise` in [0, 1), with the running variance."""
        return self.mean(decoded) + self._log_of(self.running_variance).exp() * standard_normal_of(noise)

    def _variance(self, decoded: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean of (x - mean)^2 over the unmasked elements of the global batch;
        0 for an element masked everywhere.
        """
        squared = (x - self.mean(decoded)).square()
        if mask is None:
            return global_mean(squared.flatten(1).mean(1) if self.tie == "iso" else squared)
        counted = mask.expand_as(x).to(x.dtype)
        both = torch.stack([squared * counted, counted], dim=-1)
        total, count = global_mean(both.flatten(1, -2).sum(1) if self.tie == "iso" else both).unbind(-1)
        return total / count.clamp(min=torch.finfo(x.dtype).tiny)

    def _log_of(self, variance: Tensor) -> Tensor:
        return softclip(0.5 * torch.log(variance + self.epsilon.like(variance)), self.minimum)


class DatumMLE(nn.Module):
    """sigma^2 by maximum likelihood for each datum: the mean over its elements of (x - mean)^2, or each element's own.

    AR-ELBO's Iso-D and Diag-D with one posterior sample (row) at a time. It reads x, so it is an objective to train on
    and no likelihood of data held out: nothing can be sampled from it. Diag-D has one squared error per variance:
    without the epsilon its log-likelihood has no upper bound as an error goes to zero. Without softclip what is
    minimised is 1/2 sum_i [log(e_i^2 + epsilon) + 1 + log 2 pi], diag; iso has the mean of e_i^2 in every term.
    """

    measure: ClassVar[Measure] = "density"
    sampled: ClassVar[bool] = False

    def __init__(self, *, tie: Tie, link: Link, minimum: float | None, epsilon: float) -> None:
        super().__init__()
        self.tie = tie
        self.link = link
        self.minimum = _minimum(minimum)
        self.epsilon = Number(epsilon)
        self.regularized = epsilon > 0  # known before there is a tensor; lanes of which one has none are not fused

    def parameters_per_element(self) -> int:
        return 1

    def log_sigma(self, decoded: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log sigma, [batch, 1, ...] or [batch, *data]."""
        squared = (x - self.mean(decoded)).square()
        if self.tie == "iso":
            squared = mean_per_datum(squared, mask).view(-1, *[1] * (x.ndim - 1))
        return softclip(0.5 * torch.log(squared + self.epsilon.like(squared)), self.minimum)

    def log_prob(
        self, decoded: Float[Tensor, "batch *data"], x: Float[Tensor, "batch *data"], mask: Tensor | None = None
    ) -> Float[Tensor, " batch"]:
        """Return log p(x|z) with the fitted variances, [batch], nats per datum."""
        return -self.distortions(decoded, x, mask)[1]

    def distortions(
        self, decoded: Float[Tensor, "batch *data"], x: Float[Tensor, "batch *data"], mask: Tensor | None = None
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Return (the objective of table 2, -log p(x|z)), nats per datum; in evaluation both are the second."""
        log_sigma = self.log_sigma(decoded, x, mask)
        distortion = -log_normal(x - self.mean(decoded), log_sigma, mask)
        if not (self.training and self.regularized):
            return distortion, distortion
        return table_2(distortion, log_sigma, self.epsilon.like(x), x, mask), distortion

    def mean(self, decoded: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *data"]:
        """Return E[x|z]."""
        return linked(decoded, self.link)

    def variance(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return sigma^2 of each element, [batch, *data]."""
        return (2 * self.log_sigma(decoded, x)).exp().expand_as(x)

    def sample(self, decoded: Tensor, noise: Tensor) -> Tensor:
        """Raise NotImplementedError: the variance is that of a known x."""
        raise NotImplementedError("the variance of each datum is fitted to the datum itself: without x there is none")


class PredictedGaussian(nn.Module):
    """The decoder gives two values per element: the mean (by `link`) and log sigma.

    iso: one log sigma per datum, the mean of the second map over all elements; diag: the second map. Soft-clipped.
    """

    measure: ClassVar[Measure] = "density"

    def __init__(self, *, tie: Tie, link: Link, minimum: float | None) -> None:
        super().__init__()
        self.tie = tie
        self.link = link
        self.minimum = _minimum(minimum)

    def parameters_per_element(self) -> int:
        return 2

    def log_sigma(self, decoded: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log sigma, [batch, 1, ...] or [batch, *data]."""
        raw = decoded.chunk(2, dim=1)[1]
        if self.tie == "iso":
            raw = mean_per_datum(raw, mask).view(-1, *[1] * (raw.ndim - 1))
        return softclip(raw, self.minimum)

    def log_prob(
        self,
        decoded: Float[Tensor, "batch channels_out *rest"],
        x: Float[Tensor, "batch channels *rest"],
        mask: Tensor | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return log p(x|z), [batch], nats per datum."""
        return log_normal(x - self.mean(decoded), self.log_sigma(decoded, x, mask), mask)

    def mean(self, decoded: Float[Tensor, "batch channels_out *rest"]) -> Float[Tensor, "batch channels *rest"]:
        """Return E[x|z]."""
        return linked(decoded.chunk(2, dim=1)[0], self.link)

    def variance(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return sigma^2 of each element, [batch, *data]."""
        return (2 * self.log_sigma(decoded, x)).exp().expand_as(x)

    def sample(
        self, decoded: Float[Tensor, "batch channels_out *rest"], noise: Float[Tensor, "batch channels *rest"]
    ) -> Float[Tensor, "batch channels *rest"]:
        """Draw x from uniform `noise` in [0, 1)."""
        return self.mean(decoded) + self.log_sigma(decoded, noise).exp() * standard_normal_of(noise)
