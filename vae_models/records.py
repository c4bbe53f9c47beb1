"""What flows between the parts: one record per thing, all frozen, all keyword-only.

A model's forward pass returns a `Trace`. Every objective, metric and controller is a function of a trace, so a
new system is a new function, never a new loop. All log-probabilities are in **nats per datum, summed over the
dimensions of that datum**; a leading axis is always the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class NoiseSpec:
    """Noise that a model needs for one batch: drawn by the loop from (seed, step), never inside the model.

    `shape` is the shape *per datum*; the loop adds the batch axis in front.
    """

    shape: tuple[int, ...]
    kind: Literal["normal", "uniform"] = "normal"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Data as a model reads them.

    x:      [batch, *data]
    mask:   which elements are data, and which are padding that no likelihood may count: bool, with as many dimensions
            as x and of a size that broadcasts to it, such as [batch, time, 1, 1, 1] of videos; None: all are data
    labels: what belongs to each datum beside x, [batch, ...]; None: nothing, or nobody reads it
    """

    x: Tensor
    mask: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What an encoder makes of a batch: the parameters of q(z|x), before anything is drawn.

    mean:    of q(z|x), [batch, latent]
    log_std: of q(z|x), [batch, latent]; None where q(z|x) has no density (a deterministic encoder)
    raw:     the encoder's second output, as the posterior reads it, [batch, latent]; None where it reads none
    """

    mean: Tensor
    log_std: Tensor | None
    raw: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Latent:
    """One stochastic layer of a trace.

    sample:  z ~ q(z|x), shape [batch, *latent]
    mean:    mean of q, same shape as `sample`
    log_std: log standard deviation of q, same shape as `sample`
    log_q:   log q(z|x) at the sample, [batch], nats per datum
    log_p:   log p(z) at the sample, [batch], nats per datum
    rate:    the KL term of the ELBO, [batch], nats per datum: analytic where a closed form exists, else log_q - log_p
    rates:   its terms, one of each unit, same shape as `sample`; None where a topology does not tell them
    """

    name: str
    sample: Tensor
    mean: Tensor
    log_std: Tensor
    log_q: Tensor
    log_p: Tensor
    rate: Tensor
    rates: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One pass through a model.

    target:     x as the likelihood sees it, [batch, *data]
    latents:    every stochastic layer, outermost (nearest to x) first
    decoded:    the decoder's raw output, what the likelihood is parameterized by
    mean:       E[x|z], [batch, *data]: what a picture of a reconstruction shows
    distortion: -log p(x|z), [batch], nats per datum; a density or a mass as the likelihood's `measure` says: what is
                reported
    reconstruction: what an objective minimises in its place, [batch], nats per datum: the distortion itself, unless the
                likelihood has an objective of its own (`protocols.HasObjective`)
    samples:    posterior samples per datum. With more than one every tensor here has batch x samples rows, those of one
                datum side by side: row i * samples + k is sample k of datum i, so a mean over rows is a mean over both
    bound:      whether -(distortion + rate) is a lower bound on log p(x): false for a deterministic encoder
    mask:       of the target, as `Batch` has it, with a row per row of the trace; None: all of it is data
    """

    target: Tensor
    latents: tuple[Latent, ...]
    decoded: Tensor
    mean: Tensor
    distortion: Tensor
    reconstruction: Tensor
    samples: int = 1
    bound: bool = True
    mask: Tensor | None = None

    @property
    def rate(self) -> Tensor:
        """Return the sum of the latents' rates, [batch], nats per datum."""
        total = self.latents[0].rate
        for latent in self.latents[1:]:
            total = total + latent.rate
        return total

    @property
    def squared_error(self) -> Tensor:
        """Return the mean over the elements of (x - E[x|z])^2, [batch], in units of x squared.

        Of tokens, whose numbers are names: the share that differs from the likeliest ones, which is half the squared
        distance of two tokens as unit vectors.
        """
        if self.mean.is_floating_point():
            squared = F.mse_loss(self.mean, self.target, reduction="none")
        else:
            squared = (self.target != self.mean).to(self.distortion.dtype)
        if self.mask is None:
            return squared.flatten(1).mean(1)
        counted = self.mask.expand_as(squared).flatten(1)
        return squared.flatten(1).where(counted, 0).sum(1) / counted.sum(1).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What an objective returns.

    total: the scalar to minimise: the mean over the **global** batch, the same value on every worker (see
           `collectives`); its gradients are averaged over workers by DDP.
    terms: detached-or-not scalars to report, global means, e.g. {"elbo", "rate", "distortion"} in nats per datum
           and {"squared_error"} in units of x squared. Every objective reports the last two.
    """

    total: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is, for people to look at."""

    step: int
    total_steps: int
    epoch: float
    images_per_second: float | None = None
    seconds_left: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
