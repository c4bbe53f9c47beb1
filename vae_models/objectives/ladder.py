"""The evidence lower bound of a ladder of latents, as NVAE trains it (Vahdat and Kautz 2020, 3.2 and appendix A)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from vae_models.collectives import global_mean
from vae_models.numbers import Number
from vae_models.objectives.elbo import per_row, reduced
from vae_models.protocols import Model
from vae_models.records import Loss, NoiseSpec, Trace

LEAST = 0.01  # nats: added to a group's rate, so that one that says nothing keeps a weight


class Regularized(Protocol):
    """A model of several groups of latents whose weights can be penalized: what "balance" and "spectrum" stand for."""

    def balance(self) -> Tensor:
        """Return how much each group may say, in a trace's order, [groups], the smallest 1."""
        ...

    def spectral_norm(self) -> Tensor:
        """Return the sum of the convolutions' largest singular values, []."""
        ...

    def norm_scale(self) -> Tensor:
        """Return the sum over the batch norms of their largest |scale|, []."""
        ...


class LadderElbo(nn.Module):
    """total = mean_i [reconstruction_i + beta sum_l gamma_l rate_il] + weight (spectral norms + batch norm scales).

    While beta < 1, gamma_l is in proportion to (E|rate_l| + 0.01) / alpha_l, of mean 1 over the groups, without a
    gradient, E over the global batch; at beta >= 1, and unbalanced, gamma_l = 1. Nats per datum.
    """

    samples: ClassVar[int] = 1

    def __init__(self, *, weight: float, balanced: bool) -> None:
        super().__init__()
        self.weight = Number(weight)
        self.balanced = balanced

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: the objective needs none beyond the model's."""
        return {}

    def forward(self, trace: Trace, beta: Tensor, *, model: Model, noise: Mapping[str, Tensor]) -> Loss:
        regularized = cast(Regularized, model)
        rates = torch.stack([latent.rate for latent in trace.latents], dim=1)
        row_beta = per_row(beta, trace)
        rate = rates.sum(1)
        if self.balanced:
            balanced = (rates * self._shares(rates.detach(), regularized.balance())).sum(1)
            rate = torch.where((row_beta < 1).to(rate.device), balanced, rate)
        loss = reduced(trace.reconstruction + row_beta * rate, trace)
        penalty = self.weight.like(loss.total) * (regularized.spectral_norm() + regularized.norm_scale())
        return replace(loss, total=loss.total + penalty, terms={**loss.terms, "regularizer": penalty.detach()})

    @staticmethod
    def _shares(rates: Tensor, alpha: Tensor) -> Tensor:
        """Return gamma, [groups], of the rates [rows, groups]."""
        shares = (global_mean(rates.abs()) + LEAST) / alpha
        return shares / shares.mean()
