"""The laws of z that samples are drawn by: the model's prior, and those fitted to it, which lie beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from vae_models.evaluation.fitting.fitted import Fitted, UnfitSampler, fitted_in
from vae_models.protocols import Sampler
from vae_models.samplers.specs import SAMPLERS
from vae_models.trained.checks import Refused


class Laws:
    """The laws of one model, by name: those without a fit, those fitted to it in `folder`, and those that `add` says
    where to fetch."""

    def __init__(self, model: nn.Module, folder: Path | None) -> None:
        """Look for fitted ones in `folder` when one is first asked for; None: there is no folder."""
        self._model = model
        self._folder = folder
        self._loaded: dict[str, Fitted] = {}
        self._fetch: Callable[[], Mapping[str, Fitted]] | None = None

    def add(self, fetch: Callable[[], Mapping[str, Fitted]]) -> None:
        """Have `fetch` called, once, when a sampler is asked for that neither the model nor the folder has."""
        self._fetch = fetch

    @property
    def names(self) -> tuple[str, ...]:
        """Return what a sampler may be called."""
        return tuple(dict.fromkeys([*self._without_fit, *self._fitted, *self._fetched]))

    def of(self, name: str, beta: float | None, device: torch.device) -> Sampler:
        """Return the law of this name. Raise Refused where there is none, and where it is damaged, of other weights, or
        of another beta.
        """
        if name in self._without_fit:
            return SAMPLERS.get(name).model_validate({}).build()
        if name not in self._fitted and name not in self._fetched:
            raise Refused(
                f"sampler {name!r} given: it is one of {', '.join(self.names)}. Others are fitted first to a "
                "model, in a folder or registered: vaesvc evaluate MODEL --evaluator samplers --sampler gmm-10 (all "
                "kinds: vaesvc parts sampler)"
            )
        fitted = self._read(name)
        if (fitted.beta or 1.0) != (beta or 1.0):
            raise Refused(f"{name} was fitted at beta {fitted.beta or 1:g}: ask for samples at this beta")
        return fitted.law(device)

    def _read(self, name: str) -> Fitted:
        """Return what was fitted, read and compared with the model's weights once."""
        if name not in self._loaded:
            try:
                fitted = Fitted.load(self._fitted[name]) if name in self._fitted else self._fetched[name]
                self._loaded[name] = fitted.check(self._model)
            except UnfitSampler as error:
                raise Refused(str(error)) from error
        return self._loaded[name]

    @property
    def _without_fit(self) -> tuple[str, ...]:
        return tuple(kind for kind, spec in SAMPLERS.all().items() if not spec.fitted)

    @cached_property
    def _fetched(self) -> Mapping[str, Fitted]:
        return {} if self._fetch is None else self._fetch()

    @cached_property
    def _fitted(self) -> Mapping[str, Path]:
        return {} if self._folder is None else fitted_in(self._folder)
