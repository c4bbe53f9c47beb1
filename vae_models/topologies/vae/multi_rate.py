"""A model for every beta at once (Bae et al. 2023, "Multi-Rate VAE")."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.nn import gates
from vae_models.nn.heads import PosteriorHeads
from vae_models.numbers import Number
from vae_models.protocols import LatentLayer, Likelihood
from vae_models.records import Encoding, NoiseSpec, Trace
from vae_models.topologies.vae.model import VAE


@runtime_checkable
class HasHeads(Protocol):
    """A backbone whose last layers give the parameters of q(z|x)."""

    @property
    def heads(self) -> PosteriorHeads: ...


class MultiRate(nn.Module):
    """A VAE whose layers are gated by log beta, from outside: the VAE itself knows nothing of it.

    Gates read u = sqrt(3) (log beta - m) / h, of mean 0 and variance 1 where log beta is uniform on [log low, log high]
    (m its middle, h half its width), which is what training draws for each datum. A call without beta is one at 1.
    """

    def __init__(
        self,
        model: VAE,
        *,
        low: float,
        high: float,
        network: gates.Network,
        encoder: gates.Function,
        decoder: gates.Function,
        hidden: int,
        place: Literal["gates", "batch-norm", "gates-and-batch-norm"],
        heads: bool = False,
        start: Literal["drawn", "theorem-1"] = "drawn",
        repeated: int | None = None,
    ) -> None:
        """Add gates to `model`, in place. Arguments: see `GatingConfig`. Raise ValueError if it has nothing to gate."""
        super().__init__()
        middle, half = (math.log(low) + math.log(high)) / 2, (math.log(high) - math.log(low)) / 2
        self.centre, self.half_width = Number(middle), Number(half)
        self._signal = gates.Signal()
        shared = nn.Linear(1, hidden) if network == "mlp-shared" and place != "batch-norm" else None
        count = 0
        networks = ((model.backbone.encoder, encoder, False), (model.backbone.decoder, decoder, True))
        for part, function, is_decoder in networks:
            if place != "batch-norm":
                count += gates.add_gates(
                    part,
                    self._signal,
                    decoder=is_decoder,
                    network=network,
                    function=function,
                    hidden=hidden,
                    first=shared,
                )
            if place != "gates":
                own = place == "gates-and-batch-norm"
                count += gates.replace_norms(part, self._signal, hidden=hidden, own=own)
        if heads:
            if not isinstance(model.backbone, HasHeads):
                raise ValueError("gating.heads: the backbone has no heads of the posterior to gate")
            count += gates.add_head_gates(
                model.backbone.heads, self._signal, network=network, function=encoder, hidden=hidden, first=shared
            )
        if repeated is not None:
            gates.repeat_gate(model.backbone.encoder, repeated)
        if count == 0:
            what = "batch norm" if place == "batch-norm" else "hidden layers"
            raise ValueError(f"gating has nothing to act on: the backbone has no {what}; choose another backbone")
        if start == "theorem-1":
            gates.spread(model, middle=middle, half=half)
        self.model = model

    @property
    def bound(self) -> bool:
        """Return the gated model's `bound`."""
        return self.model.bound

    @property
    def sampled(self) -> bool:
        """Return the gated model's `sampled`."""
        return self.model.sampled

    def latents(self) -> Mapping[str, LatentLayer]:
        """Return the gated model's latents."""
        return self.model.latents()

    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the gated model's groups: gates belong to the network that they are in."""
        return self.model.groups()

    @property
    def likelihood(self) -> Likelihood:
        """Return the gated model's likelihood."""
        return self.model.likelihood

    def noise(self, samples: int = 1) -> Mapping[str, NoiseSpec]:
        """Return the noise that the gated model needs."""
        return self.model.noise(samples)

    def forward(
        self,
        x: Float[Tensor, "batch *data"],
        noise: Mapping[str, Tensor],
        beta: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Return one pass at beta, [] or [batch]."""
        with self._signal.of(self._standardized(beta, x)):
            trace: Trace = self.model(x, noise, None, mask)
            return trace

    def encode(self, x: Float[Tensor, "batch *data"], beta: Tensor | None = None) -> Encoding:
        """Return the parameters of q(z|x) at beta."""
        with self._signal.of(self._standardized(beta, x)):
            return self.model.encode(x)

    def trace(
        self,
        x: Float[Tensor, "batch *data"],
        encoding: Encoding,
        noise: Mapping[str, Tensor],
        beta: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Return the same as `forward` at beta, with the encoder's part of it given."""
        with self._signal.of(self._standardized(beta, x)):
            return self.model.trace(x, encoding, noise, None, mask)

    def decoded(self, z: Float[Tensor, "batch latent"], beta: Tensor | None = None) -> Tensor:
        """Return the likelihood's parameters of z at beta."""
        with self._signal.of(self._standardized(beta, z)):
            return self.model.decoded(z)

    def sample_prior(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Float[Tensor, "batch latent"]:
        """Draw z ~ p(z) at beta."""
        with self._signal.of(self._standardized(beta, next(iter(noise.values())))):
            return self.model.sample_prior(noise)

    def decode(self, z: Float[Tensor, "batch latent"], beta: Tensor | None = None) -> Float[Tensor, "batch *data"]:
        """Return E[x|z] at beta."""
        with self._signal.of(self._standardized(beta, z)):
            return self.model.decode(z)

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that the gated model's `sample_mean` needs."""
        return self.model.prior_noise()

    def sample_mean(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Float[Tensor, "batch *data"]:
        """Return E[x|z] of z ~ p(z), at beta."""
        with self._signal.of(self._standardized(beta, next(iter(noise.values())))):
            return self.model.sample_mean(noise)

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that the gated model's `sample` needs."""
        return self.model.sample_noise()

    def sample(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Float[Tensor, "batch *data"]:
        """Draw x ~ p(x|z) of z ~ p(z), at beta."""
        with self._signal.of(self._standardized(beta, next(iter(noise.values())))):
            return self.model.sample(noise)

    def _standardized(self, beta: Tensor | None, like: Tensor) -> Tensor:
        """Return u, the standardized log beta, in `like`'s type and on its device."""
        log_beta = like.new_zeros(()) if beta is None else torch.log(beta.to(like))
        return math.sqrt(3) * (log_beta - self.centre.like(log_beta)) / self.half_width.like(log_beta)
