"""Samples from the prior at a temperature, with batch norm's statistics estimated again there (NVAE, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from vae_models.nn.norm import BatchNorm1d, BatchNorm2d, untracked
from vae_models.protocols import Model
from vae_models.random import draw_rows
from vae_models.records import NoiseSpec
from vae_models.samplers.laws import space_of, tempered

Norm = BatchNorm1d | BatchNorm2d
Moments = list[tuple[Tensor, Tensor]]  # mean and unbiased variance of each batch norm, in the module's order


@dataclass(frozen=True, kw_only=True)
class ReadjustedSampler:
    """z ~ p(z), every standard deviation times the temperature, through batch norms whose running statistics are the
    means over `batches` batches of `size` such samples.

    In training the decoder sees latents of q(z|x); those of a colder prior have other statistics at each batch norm.
    The batches' noise is a function of `seed`, so the statistics are the same on every worker, and a sample stays a
    function of its own noise. The model's own statistics stay as they are.
    """

    temperature: float
    batches: int
    size: int
    seed: int = 0
    _found: WeakKeyDictionary[nn.Module, dict[float | None, Moments]] = field(
        default_factory=WeakKeyDictionary, compare=False, repr=False
    )

    def noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return the prior's noise."""
        return model.prior_noise()

    def z(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw z, [n, latent], of a model of one latent vector."""
        return space_of(model).sample_prior(self._tempered(model, noise), beta)

    def means(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return the model's own E[x|z], [n, *data]."""
        with self._readjusted(model, beta):
            return model.sample_mean(self._tempered(model, noise), beta)

    def draws(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw x ~ p(x|z) by the model's own way, [n, *data]."""
        with self._readjusted(model, beta):
            return model.sample(self._tempered(model, noise), beta)

    def moments(self, model: Model, beta: Tensor | None = None) -> Moments:
        """Return the statistics, estimated at the first call with this model and beta, [] or None.

        Raise ValueError for a beta of each sample: statistics are of one.
        """
        if beta is not None and beta.ndim:
            raise ValueError("batch norm's statistics are estimated at one beta, and each sample has its own: give one")
        module, key = cast(nn.Module, model), None if beta is None else float(beta)
        known = self._found.setdefault(module, {})
        if key not in known:
            known[key] = self._estimated(model, beta)
        return known[key]

    def _tempered(self, model: Model, noise: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        of_z = model.prior_noise()
        scaled = tempered({name: noise[name] for name in of_z}, of_z, self.temperature)
        return {**noise, **scaled}

    @contextmanager
    def _readjusted(self, model: Model, beta: Tensor | None) -> Iterator[None]:
        moments = self.moments(model, beta)
        with untracked(cast(nn.Module, model)):
            for norm, (mean, variance) in zip(_norms(model), moments, strict=True):
                _set(norm, mean, variance)
            yield

    @torch.no_grad()
    def _estimated(self, model: Model, beta: Tensor | None) -> Moments:
        norms, own = _norms(model), next(cast(nn.Module, model).parameters())
        seen: list[Moments] = [[] for _ in norms]
        hooks = [norm.register_forward_pre_hook(partial(_seen, into)) for norm, into in zip(norms, seen, strict=True)]
        try:
            with untracked(cast(nn.Module, model)):
                for batch in range(self.batches if norms else 0):
                    noise = draw_rows(
                        model.prior_noise(), self.size, first=batch * self.size, seed=self.seed, stream="readjusted",
                        device=own.device, dtype=own.dtype,
                    )  # fmt: skip
                    model.sample_mean(self._tempered(model, noise), beta)
        finally:
            for hook in hooks:
                hook.remove()
        return [_mean(each, norm) for each, norm in zip(seen, norms, strict=True)]


def _norms(model: Model) -> list[Norm]:
    return [module for module in cast(nn.Module, model).modules() if isinstance(module, BatchNorm1d | BatchNorm2d)]


def _running(norm: Norm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def _set(norm: Norm, mean: Tensor, variance: Tensor) -> None:
    for buffer, value in zip(_running(norm), (mean, variance), strict=True):
        buffer.copy_(value)


def _seen(into: Moments, norm: nn.Module, given: tuple[Tensor, ...]) -> None:
    """Note the moments of what a batch norm is given, and let it normalize by them, as in training."""
    x = given[0]
    dims, count = [0, *range(2, x.ndim)], x.numel() // x.shape[1]
    variance, mean = torch.var_mean(x, dims, correction=0)
    _set(cast(Norm, norm), mean, variance)
    into.append((mean, variance * (count / max(1, count - 1))))


def _mean(seen: Moments, norm: Norm) -> tuple[Tensor, Tensor]:
    """Return the mean over batches; of a norm that samples do not pass (an encoder's) what it has."""
    if not seen:
        mean, variance = _running(norm)
        return mean.clone(), variance.clone()
    means, variances = (torch.stack(each).mean(0) for each in zip(*seen, strict=True))
    return means, variances
