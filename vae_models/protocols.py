"""The ports: what a part must offer to be combined with the others. Parts are matched by shape, not by inheritance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vae_models.records import Encoding, Latent, Loss, NoiseSpec, Progress, Trace

Measure = Literal["density", "mass"]


@runtime_checkable
class Backbone(Protocol):
    """A pair of networks: `encode` returns posterior parameters, `decode` returns likelihood parameters.

    It is an `nn.Module` with two modules in it, `encoder` and `decoder`: what is trained on the way from x to z, and
    from z to x. Gates are put into the two from outside, and penalties on a decoder's weights read the second.
    """

    @property
    def encoder(self) -> nn.Module: ...

    @property
    def decoder(self) -> nn.Module: ...

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (mean, raw scale) of x [batch, *data], each [batch, latent];
        the posterior defines the raw scale's meaning.

        The raw scale is None in a backbone built with `scale=False`, for posteriors that read none.
        """
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Return the likelihood's parameters, [batch, parameters x first, *rest], of z [batch, latent],
        data [first, *rest].

        `parameters` is the likelihood's number per element. The first axis of a datum holds them, all of it for the
        first parameter, then all of it for the second: of images [channels, height, width] that is [batch, parameters x
        channels, height, width], of vectors [n] it is [batch, parameters x n], of sequences [time, n] [batch,
        parameters x time, n]. See `likelihoods.layout`.
        """
        ...


@runtime_checkable
class Likelihood(Protocol):
    """p(x|z) given the decoder's raw output.

    A likelihood with parameters, buffers or numbers that lanes may differ in (`numbers.Number`) is an `nn.Module`.
    `log_prob` may couple the data of a batch (variances by maximum likelihood) through `collectives`, while training
    only; in evaluation it is a function of each datum. The decoder's output is parameter-major, whatever the shape of a
    datum: `decoded.unflatten(1, (parameters_per_element, first))`, see `Backbone.decode`.

    One that takes data of differing lengths has a third argument of `log_prob` (and of `distortions`), `mask`, as
    `records.Batch` has it: elements where it is false are padding and count nothing. Its specification says so
    (`masks`); it is given a mask only where there is padding.
    """

    @property
    def measure(self) -> Measure: ...

    def parameters_per_element(self) -> int: ...

    def log_prob(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return log p(x|z), [batch], nats per datum, summed over dimensions."""
        ...

    def mean(self, decoded: Tensor) -> Tensor:
        """Return E[x|z], [batch, *data]."""
        ...

    def sample(self, decoded: Tensor, noise: Tensor) -> Tensor:
        """Return x ~ p(x|z), [batch, *data], from uniform `noise` of that shape (inverse distribution function).

        Raise NotImplementedError with the reason where x cannot be drawn; it has `sampled = False` then.
        """
        ...


@runtime_checkable
class HasLogScale(Protocol):
    """A likelihood with one scale for all data, which moves while training."""

    def log_scale(self) -> Tensor:
        """Return the mean over the elements of the scale's logarithm, []."""
        ...


@runtime_checkable
class HasVariance(Protocol):
    """A likelihood whose variance of each element is known."""

    def variance(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Return Var[x|z] of each element, [batch, *data], in units of x squared.

        x: [batch, *data], which only likelihoods read whose variances are fitted to it.
        """
        ...


@runtime_checkable
class HasObjective(Protocol):
    """A likelihood that is trained on something else than its -log p(x|z)."""

    def distortions(self, decoded: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (what an objective minimises, -log p(x|z)), each [batch], nats per datum,
        in one pass like `log_prob`.
        """
        ...


Encode = Callable[[Tensor], tuple[Tensor, Tensor]]  # x [n, *data] -> mean and log std of q(z|x), each [n, latent]


@runtime_checkable
class BoundPrior(Protocol):
    """p(z) in one forward pass: a prior together with the noise and the encoder that it reads."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z), [batch], nats per datum, or a lower bound on it where the prior declares one."""
        ...

    def normal_kl(self, mean: Tensor, log_std: Tensor) -> Tensor | None:
        """Return KL(N(mean, sigma^2) || p) of a diagonal normal, [batch], nats per datum;
        None if there is no closed form.
        """
        ...


@runtime_checkable
class Prior(Protocol):
    """p(z). One that needs nothing returns itself from `bind`."""

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that `log_prob` needs, by name, per latent sample."""
        ...

    def bind(self, encode: Encode, noise: Mapping[str, Tensor]) -> BoundPrior:
        """Return the prior for one forward pass; `noise`: as `noise()` declares, a row per latent sample."""
        ...

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that `sample` needs, by name, per sample."""
        ...

    def sample(self, noise: Mapping[str, Tensor], encode: Encode) -> Tensor:
        """Draw z ~ p(z), [n, latent]."""
        ...


@runtime_checkable
class Posterior(Protocol):
    """q(z|x) from the encoder's outputs and noise. raw is None for a posterior that has no use for it."""

    @property
    def scale(self) -> bool:
        """Return whether it reads the encoder's raw scale."""
        ...

    @property
    def bound(self) -> bool:
        """Return whether -(distortion + rate) is a lower bound on log p(x): false where q(z|x) has no density."""
        ...

    def normal(self, mean: Tensor, raw: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return mean and log std of q(z|x), each [batch, latent]."""
        ...

    def latent(self, name: str, mean: Tensor, raw: Tensor | None, noise: Tensor, prior: BoundPrior) -> Latent: ...


@dataclass(frozen=True, kw_only=True)
class LatentLayer:
    """One latent of a topology: z's shape, without the batch, and what its prior and its posterior are."""

    shape: tuple[int, ...]
    prior: Prior
    posterior: Posterior


@runtime_checkable
class Model(Protocol):
    """A topology, built: how latents, networks and a likelihood make one model of x. It is an `nn.Module`.

    The loop, evaluation, objectives, lanes, pictures, checkpoints and the registered model know a topology by this
    alone; nothing is looked for by the name of a parameter.

    `beta` is what a multi-rate model's gates read, [] or one per datum; None stands for 1. Other models ignore it.
    """

    @property
    def bound(self) -> bool:
        """Return whether -(distortion + rate) of its traces is a lower bound on log p(x)."""
        ...

    @property
    def sampled(self) -> bool:
        """Return whether `sample` can draw x: false where the likelihood's parameters are known only beside an x, and
        where x is drawn only after a beginning (`HasPrediction`).
        """
        ...

    def latents(self) -> Mapping[str, LatentLayer]:
        """Return its latents by the names that they have in a trace, in a trace's order: nearest to x first."""
        ...

    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the trained parameters by role, each in one group: "encoder", "decoder", "likelihood",
        "posterior", "prior", and others of a topology's own. A group may be empty or absent.

        A controller of beta freezes "prior", penalties on the decoder's weights read "decoder".
        """
        ...

    def noise(self, samples: int = 1) -> Mapping[str, NoiseSpec]:
        """Return the noise that `__call__` needs, by name, per datum, for `samples` posterior samples of each datum."""
        ...

    def __call__(
        self, x: Tensor, noise: Mapping[str, Tensor], beta: Tensor | None = None, mask: Tensor | None = None
    ) -> Trace:
        """Compute one pass: a pure function of its arguments, the parameters and the buffers.
        mask: see `records.Batch`.
        """
        ...

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that `sample_mean` needs, by name, per datum."""
        ...

    def sample_mean(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return E[x|z] of z ~ p(z), [batch, *data].

        Raise NotImplementedError with the reason where p(z) is known only after a beginning (`HasPrediction`).
        """
        ...

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that `sample` needs, by name, per datum: `prior_noise` and that of x."""
        ...

    def sample(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw x ~ p(x|z) of z ~ p(z), [batch, *data]. Raise NotImplementedError where it is not `sampled`."""
        ...


@runtime_checkable
class LatentSpace(Protocol):
    """A `Model` of one latent vector z, whose encoder and decoder can be used apart: what encoding, interpolation and
    the k-sample likelihood need. beta: as of a `Model`.
    """

    @property
    def likelihood(self) -> Likelihood: ...

    def encode(self, x: Tensor, beta: Tensor | None = None) -> Encoding:
        """Return q(z|x)'s parameters of x [batch, *data]."""
        ...

    def trace(
        self,
        x: Tensor,
        encoding: Encoding,
        noise: Mapping[str, Tensor],
        beta: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Return the pass over x that the model's call makes, to the bit, with the encoder's part of it given."""
        ...

    def decoded(self, z: Tensor, beta: Tensor | None = None) -> Tensor:
        """Return the likelihood's parameters of z [batch, latent]: see `Backbone.decode`."""
        ...

    def decode(self, z: Tensor, beta: Tensor | None = None) -> Tensor:
        """Return E[x|z], [batch, *data], of z [batch, latent]."""
        ...

    def sample_prior(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw z ~ p(z), [batch, latent]; noise: as `Model.prior_noise` says."""
        ...


@runtime_checkable
class HasGiven(Protocol):
    """A topology whose p(x) is of x's elements but the first few, which are given: the beginning of a sentence."""

    @property
    def given(self) -> int:
        """Return how many elements of a datum are given."""
        ...


@runtime_checkable
class HasPrediction(Protocol):
    """A topology of x along time, [batch, time, *frame], that continues a beginning: videos.

    Without a beginning there is no z ~ p(z), so `sampled` is false, and `sample_mean` and `sample` raise
    NotImplementedError. Both methods below are pure functions of their arguments, the parameters and the buffers; rows
    are independent in evaluation. beta: as of a `Model`.
    """

    @property
    def context(self) -> int:
        """Return how many frames are seen before the first that is predicted, 1 or more."""
        ...

    def prediction_noise(self, frames: int) -> Mapping[str, NoiseSpec]:
        """Return the noise that `predict` needs for so many frames, by name, per datum."""
        ...

    def predict(self, x: Tensor, frames: int, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return the means of the next `frames` frames, [batch, frames, *frame], in units of x.

        x: [batch, time >= context, *frame], of which the first `context` frames alone are read: frame 0 of what is
        returned stands in the place of x[:, context]. z is drawn from the posterior at the context's frames, and from
        the learned prior then; the mean of each frame is what the next one is predicted from (Denton and Fergus 2018).
        Raise ValueError of fewer frames than `context`.
        """
        ...

    def drawn_prediction_noise(self, frames: int) -> Mapping[str, NoiseSpec]:
        """Return the noise that `draw_prediction` needs: `prediction_noise` and that of x."""
        ...

    def draw_prediction(
        self, x: Tensor, frames: int, noise: Mapping[str, Tensor], beta: Tensor | None = None
    ) -> Tensor:
        """Draw the next `frames` frames, [batch, frames, *frame]: each from p(x_t | x_<t, z_<=t), and the next one
        given it as it was drawn. As `predict` else, whose z_t have the same noise.

        Raise NotImplementedError where x cannot be drawn from the likelihood.
        """
        ...


@runtime_checkable
class HasCells(Protocol):
    """A deep topology whose memory is in a chain of modules, most of which it calls as module(x) -> y."""

    def cells(self) -> Sequence[nn.Module]:
        """Return modules, none within another, whose activations may be computed again in the backward pass."""
        ...


@runtime_checkable
class HasParts(Protocol):
    """A topology of one latent that says which parts it is made of: an error can then name the one it is in."""

    def parts(self) -> Mapping[str, object]:
        """Return the parts by their names in the specification: "backbone", "likelihood", "prior", "posterior"."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """A law of z, by which samples of a trained model are made: a function of model, of what was fitted, and of noise.

    beta: as of a `Model`. See `samplers.laws.LatentLaw` for the methods of a law that needs nothing but z.
    """

    def noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return the noise that a sample's z needs, by name."""
        ...

    def z(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw z, [n, latent], of a `LatentSpace`; noise: a row for each. Raise ValueError of any other model."""
        ...

    def means(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return E[x|z] of each z, [n, *data]; noise: as of `z`."""
        ...

    def draws(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw x ~ p(x|z) of each z, [n, *data]; noise: that of z, and that of x as `samplers.laws.x_noise` says."""
        ...


@runtime_checkable
class HasDensity(Protocol):
    """A law of z whose density is known, or a lower bound on it: `protocols.Sampler` with two methods more."""

    def density_noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return the noise that `log_prob` needs, by name, per z."""
        ...

    def log_prob(self, model: Model, z: Tensor, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return log of the law's density at z [n, latent], [n], nats, or a lower bound on it."""
        ...


Tell = Callable[[int, int], None]  # how much is done, of how much


@runtime_checkable
class Fitter(Protocol):
    """How a law of z is fitted to the posteriors of a trained model, and made again from what was fitted."""

    def fit(self, posteriors: Encoding, *, seed: int, device: torch.device, tell: Tell) -> Mapping[str, Tensor]:
        """Return what is fitted, by name, on the CPU, the same on every worker: data, which are stored.

        posteriors: q(z|x) of the training data, [n, latent], on the CPU, all of them on every worker
        device:     where to compute, and where workers' messages are
        tell:       is told of progress, where there is some; it may raise, on all workers, which call it together

        Raise ValueError on too few data, with what is needed and how to mend it.
        """
        ...

    def law(self, fitted: Mapping[str, Tensor], device: torch.device) -> Sampler:
        """Return the law of z, on this device."""
        ...

    def notes(self, fitted: Mapping[str, Tensor]) -> Sequence[str]:
        """Return what a reader has to know of the fit, such as that it has not converged."""
        ...


@runtime_checkable
class Objective(Protocol):
    """A trace, beta -> Loss. What an objective does not need of its arguments it accepts and ignores."""

    @property
    def samples(self) -> int:
        """Return the number of posterior samples per datum."""
        ...

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that it needs beyond the model's, by name, per datum."""
        ...

    def __call__(self, trace: Trace, beta: Tensor, *, model: Model, noise: Mapping[str, Tensor]) -> Loss:
        """Compute the loss; beta, a scalar or [batch] (MR-VAE), one per datum, multiplies the rate."""
        ...


@runtime_checkable
class BetaController(Protocol):
    """beta as a pure function of its state, the step and noise; checkpoints keep its tensors."""

    def initial(self) -> dict[str, Tensor]: ...

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that `beta` needs, by name, per datum."""
        ...

    def beta(self, state: Mapping[str, Tensor], step: int, noise: Mapping[str, Tensor]) -> Tensor:
        """Return beta, [] or, drawn for every datum, [batch]."""
        ...

    def update(self, state: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state after a step whose loss had these terms (global means, the same on every worker)."""
        ...

    def trains_prior(self, state: Mapping[str, Tensor]) -> Tensor | None:
        """Return 1 or 0, [], for whether this step changes the prior's parameters (REWO's first phase freezes them);
        None: always.
        """
        ...


@runtime_checkable
class StackableController(BetaController, Protocol):
    """A controller whose state and formulas are elementwise, so that one can be that of several lanes."""

    def stacked(self, lanes: Sequence[Any], device: torch.device) -> BetaController:
        """Return the controller of a state with an axis of lanes in front; lanes: their controllers, of one type."""
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
        """Return a verified local copy of the checkpoint to go on from, the same one on every rank;
        None to start afresh.
        """
        ...

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def log_picture(self, step: int, name: str, png: bytes) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        """Take over `directory` (a complete checkpoint, manifest included) and delete it when it is kept elsewhere.

        Raise `vae_models.training.context.Fenced` when this attempt has been superseded.
        """
        ...

    def stop_requested(self) -> bool:
        """Return whether to stop; polled on rank 0 about once a second:
        the loop then checkpoints and returns, all ranks together.
        """
        ...
