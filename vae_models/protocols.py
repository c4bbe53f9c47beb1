"""The ports: what a part must offer to be combined with the others. Parts are matched by shape, not by inheritance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from vae_models.records import Latent, Loss, NoiseSpec, Progress, Trace

Measure = Literal["density", "mass"]


@runtime_checkable
class Backbone(Protocol):
    """A pair of networks. `encode` returns posterior parameters, `decode` returns likelihood parameters."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """[batch, *data] -> (mean, raw scale), each [batch, latent]; the posterior says what the raw scale means.

        The raw scale is None in a backbone built with `scale=False`, for posteriors that read none.
        """
        ...

    def decode(self, z: Tensor) -> Tensor:
        """[batch, latent] -> [batch, channels_out, height, width].

        channels_out = the data's channels x the likelihood's parameters per element.
        """
        ...


@runtime_checkable
class Likelihood(Protocol):
    """p(x|z) given the decoder's raw output.

    A likelihood with parameters or buffers is an `nn.Module`. `log_prob` may couple the data of a batch (variances by
    maximum likelihood) through `collectives`, while training only; in evaluation it is a function of each datum.
    The decoder's output is parameter-major: `decoded.unflatten(1, (parameters_per_element, channels))`.
    """

    @property
    def measure(self) -> Measure: ...

    def parameters_per_element(self) -> int: ...

    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        """[batch], nats per datum, summed over dimensions."""
        ...

    def mean(self, decoded: Tensor) -> Tensor: ...

    def sample(self, decoded: Tensor, noise: Tensor) -> Tensor:
        """x from uniform `noise` of the data's shape (inverse distribution function)."""
        ...


@runtime_checkable
class HasLogScale(Protocol):
    """A likelihood with one scale for all data, which moves while training."""

    def log_scale(self) -> Tensor:
        """Mean over the elements of the scale's logarithm, []."""
        ...


@runtime_checkable
class HasObjective(Protocol):
    """A likelihood that is trained on something else than its -log p(x|z)."""

    def distortions(self, decoded: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """(what an objective minimises, -log p(x|z)), each [batch], nats per datum: one pass, as `log_prob` is."""
        ...


Encode = Callable[[Tensor], tuple[Tensor, Tensor]]  # x [n, *data] -> mean and log std of q(z|x), each [n, latent]


@runtime_checkable
class BoundPrior(Protocol):
    """p(z) in one forward pass: a prior together with the noise and the encoder that it reads."""

    def log_prob(self, z: Tensor) -> Tensor:
        """[batch], nats per datum; a lower bound on it where the prior says so."""
        ...

    def normal_kl(self, mean: Tensor, log_std: Tensor) -> Tensor | None:
        """KL(N(mean, sigma^2) || p) of a diagonal normal, [batch], nats per datum; None if there is no closed form."""
        ...


@runtime_checkable
class Prior(Protocol):
    """p(z). One that needs nothing returns itself from `bind`."""

    def noise(self) -> Mapping[str, NoiseSpec]:
        """The noise that `log_prob` needs, by name, per latent sample."""
        ...

    def bind(self, encode: Encode, noise: Mapping[str, Tensor]) -> BoundPrior:
        """For one forward pass; `noise` is what `noise()` names, a row per latent sample."""
        ...

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """The noise that `sample` needs, by name, per sample."""
        ...

    def sample(self, noise: Mapping[str, Tensor], encode: Encode) -> Tensor:
        """z ~ p(z), [n, latent]."""
        ...


@runtime_checkable
class Posterior(Protocol):
    """q(z|x) from the encoder's outputs and noise. raw is None for a posterior that has no use for it."""

    @property
    def scale(self) -> bool:
        """Whether it reads the encoder's raw scale."""
        ...

    @property
    def bound(self) -> bool:
        """Whether -(distortion + rate) is a lower bound on log p(x): false where q(z|x) has no density."""
        ...

    def normal(self, mean: Tensor, raw: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log std of q(z|x), each [batch, latent]."""
        ...

    def latent(self, name: str, mean: Tensor, raw: Tensor | None, noise: Tensor, prior: BoundPrior) -> Latent: ...


@runtime_checkable
class Model(Protocol):
    """A topology: VAE now, LadderVAE and VideoVAE later.

    `beta` is what a multi-rate model's gates read, [] or one per datum; None stands for 1. Other models ignore it.
    """

    @property
    def bound(self) -> bool:
        """Whether -(distortion + rate) of its traces is a lower bound on log p(x)."""
        ...

    def noise(self, samples: int = 1) -> Mapping[str, NoiseSpec]:
        """The noise that `__call__` needs, by name, per datum, for `samples` posterior samples of each datum."""
        ...

    def __call__(self, x: Tensor, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Trace: ...

    def decode(self, z: Tensor, beta: Tensor | None = None) -> Tensor:
        """E[x|z], [batch, *data]."""
        ...

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        """The noise that `sample_mean` needs, by name, per datum."""
        ...

    def sample_mean(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """E[x|z] of z ~ p(z), [batch, *data]."""
        ...


@runtime_checkable
class Objective(Protocol):
    """A trace, beta -> Loss. What an objective does not need of its arguments it accepts and ignores."""

    @property
    def samples(self) -> int:
        """Posterior samples per datum."""
        ...

    def noise(self) -> Mapping[str, NoiseSpec]:
        """The noise that it needs beyond the model's, by name, per datum."""
        ...

    def __call__(self, trace: Trace, beta: Tensor, *, model: Model, noise: Mapping[str, Tensor]) -> Loss:
        """beta is a scalar or [batch] (MR-VAE), one per datum, and multiplies the rate."""
        ...


@runtime_checkable
class BetaController(Protocol):
    """beta as a pure function of its state, the step and noise; checkpoints keep its tensors."""

    def initial(self) -> dict[str, Tensor]: ...

    def noise(self) -> Mapping[str, NoiseSpec]:
        """The noise that `beta` needs, by name, per datum."""
        ...

    def beta(self, state: Mapping[str, Tensor], step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """[] or, drawn for every datum, [batch]."""
        ...

    def update(self, state: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state after a step whose loss had these terms (global means, the same on every worker)."""
        ...

    def trains_prior(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """[] 1 or 0: whether this step changes the prior's parameters (REWO's first phase holds them); None: always."""
        ...


@runtime_checkable
class RunContext(Protocol):
    """All that the training loop knows of the world.

    Calls return at once: whatever waits on a network does so elsewhere.

    `log_*`, `progress` and `save_checkpoint` are called on rank 0 only.
    """

    rank: int
    world_size: int
    device: torch.device

    def latest_checkpoint(self) -> Path | None:
        """A verified local copy of the checkpoint to go on from, the same one on every rank; None to start afresh."""
        ...

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def log_picture(self, step: int, name: str, png: bytes) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        """Takes over `directory` (a complete checkpoint, manifest included) and deletes it when it is kept elsewhere.

        Raises `vae_models.training.context.Fenced` when this attempt has been superseded.
        """
        ...

    def stop_requested(self) -> bool:
        """Polled on rank 0 about once a second: the loop then checkpoints and returns, all ranks together."""
        ...
