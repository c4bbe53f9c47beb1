"""The ports: what a part must offer to be combined with the others. Parts are matched by shape, not by inheritance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from vae_models.records import Latent, Loss, NoiseSpec, Progress, Trace

Measure = Literal["density", "mass"]


@runtime_checkable
class Backbone(Protocol):
    """A pair of networks. `encode` returns posterior parameters, `decode` returns likelihood parameters."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, *data] -> (mean, raw scale), each [batch, latent]; the posterior says what the raw scale means."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """[batch, latent] -> [batch, channels_out, height, width].

        channels_out = the data's channels x the likelihood's parameters per element.
        """
        ...


@runtime_checkable
class Likelihood(Protocol):
    """p(x|z) given the decoder's raw output."""

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
class Prior(Protocol):
    """p(z)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """[batch], nats per datum."""
        ...

    def normal_kl(self, mean: Tensor, log_std: Tensor) -> Tensor | None:
        """KL(N(mean, sigma^2) || p) of a diagonal normal, [batch], nats per datum; None if there is no closed form."""
        ...

    def sample(self, noise: Tensor) -> Tensor:
        """z from standard normal `noise`, [batch, latent]."""
        ...


@runtime_checkable
class Posterior(Protocol):
    """q(z|x) from the encoder's two outputs and noise."""

    def latent(self, name: str, mean: Tensor, raw: Tensor, noise: Tensor, prior: Prior) -> Latent: ...


@runtime_checkable
class Model(Protocol):
    """A topology: VAE now, LadderVAE and VideoVAE later."""

    def noise(self) -> Mapping[str, NoiseSpec]:
        """The noise that `__call__` needs, by name, per datum."""
        ...

    def __call__(self, x: Tensor, noise: Mapping[str, Tensor]) -> Trace: ...

    def decode(self, z: Tensor) -> Tensor:
        """E[x|z], [batch, *data]."""
        ...

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        """The noise that `sample_mean` needs, by name, per datum."""
        ...

    def sample_mean(self, noise: Mapping[str, Tensor]) -> Tensor:
        """E[x|z] of z ~ p(z), [batch, *data]."""
        ...


@runtime_checkable
class Objective(Protocol):
    """trace, beta -> Loss. beta is a scalar or [batch] (MR-VAE), and multiplies the rate."""

    def __call__(self, trace: Trace, beta: Tensor) -> Loss: ...


@runtime_checkable
class BetaController(Protocol):
    """beta as a pure function of its state and the step; the state is a dict of tensors that the checkpoint keeps."""

    def initial(self) -> dict[str, Tensor]: ...

    def beta(self, state: Mapping[str, Tensor], step: int) -> Tensor: ...

    def update(self, state: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]: ...


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
