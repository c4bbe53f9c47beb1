"""Multi-rate gating of any topology (Bae et al. 2023, "Multi-Rate VAE"): one model for every beta at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Literal, NotRequired, Protocol, TypedDict, TypeVar, Unpack, cast

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from vae_models.nn import gates
from vae_models.nn.heads import PosteriorHeads
from vae_models.numbers import Number
from vae_models.protocols import LatentLayer, Likelihood, Model
from vae_models.records import NoiseSpec, Trace


class HasLikelihood(Protocol):
    """A topology of one likelihood."""

    @property
    def likelihood(self) -> Likelihood: ...


class Gating(TypedDict):
    """How a model is gated: see `GatingConfig`, which has these fields."""

    low: float
    high: float
    network: gates.Network
    encoder: gates.Function
    decoder: gates.Function
    hidden: int
    place: Literal["gates", "batch-norm", "gates-and-batch-norm"]
    heads: NotRequired[bool]
    start: NotRequired[Literal["drawn", "theorem-1"]]
    repeated: NotRequired[int | None]


@dataclass(frozen=True, kw_only=True)
class GatedParts:
    """The modules of a model whose layers are gated. heads: the posterior's last layers; None where it has none."""

    encoder: nn.Module
    decoder: nn.Module
    heads: PosteriorHeads | None = None


M = TypeVar("M", bound=nn.Module)


class Gated(nn.Module, Generic[M]):
    """A model whose layers are gated by log beta, from outside: the model itself knows nothing of it.

    Gates read u = sqrt(3) (log beta - m) / h, of mean 0 and variance 1 where log beta is uniform on [log low, log high]
    (m its middle, h half its width), which is what training draws for each datum. A call without beta is one at 1.
    """

    def __init__(self, model: M, parts: GatedParts, **gating: Unpack[Gating]) -> None:
        """Add gates to `model`, in place. Raise ValueError if it has nothing to gate. parts: of the model."""
        super().__init__()
        low, high, place = gating["low"], gating["high"], gating["place"]
        middle, half = (math.log(low) + math.log(high)) / 2, (math.log(high) - math.log(low)) / 2
        self.centre, self.half_width = Number(middle), Number(half)
        self._signal = gates.Signal()
        count = self._gate(parts, gating)
        if count == 0:
            what = "batch norm" if place == "batch-norm" else "hidden layers"
            raise ValueError(f"gating has nothing to act on: the backbone has no {what}; choose another backbone")
        if gating.get("start") == "theorem-1":
            gates.spread(model, middle=middle, half=half)
        self.model = model

    def _gate(self, parts: GatedParts, gating: Gating) -> int:
        """Put gates into the parts; return how many."""
        network, hidden, place = gating["network"], gating["hidden"], gating["place"]
        shared = nn.Linear(1, hidden) if network == "mlp-shared" and place != "batch-norm" else None
        networks = ((parts.encoder, gating["encoder"], False), (parts.decoder, gating["decoder"], True))
        count = 0
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
        if gating.get("heads"):
            if parts.heads is None:
                raise ValueError("gating.heads: the backbone has no heads of the posterior to gate")
            count += gates.add_head_gates(
                parts.heads, self._signal, network=network, function=gating["encoder"], hidden=hidden, first=shared
            )
        if (repeated := gating.get("repeated")) is not None:
            gates.repeat_gate(parts.encoder, repeated)
        return count

    @property
    def _topology(self) -> Model:
        return cast(Model, self.model)

    @property
    def bound(self) -> bool:
        """Return the gated model's `bound`."""
        return self._topology.bound

    @property
    def sampled(self) -> bool:
        """Return the gated model's `sampled`."""
        return self._topology.sampled

    def latents(self) -> Mapping[str, LatentLayer]:
        """Return the gated model's latents."""
        return self._topology.latents()

    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the gated model's groups: gates belong to the network that they are in."""
        return self._topology.groups()

    @property
    def likelihood(self) -> Likelihood:
        """Return the gated model's likelihood."""
        return cast(HasLikelihood, self.model).likelihood

    def noise(self, samples: int = 1) -> Mapping[str, NoiseSpec]:
        """Return the noise that the gated model needs."""
        return self._topology.noise(samples)

    def forward(
        self,
        x: Shaped[Tensor, "batch *data"],
        noise: Mapping[str, Tensor],
        beta: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Return one pass at beta, [] or [batch]."""
        real = x if x.is_floating_point() else next(iter(noise.values()))  # tokens are no real numbers
        with self.at(beta, real):
            trace: Trace = self.model(x, noise, None, mask)
            return trace

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that the gated model's `sample_mean` needs."""
        return self._topology.prior_noise()

    def sample_mean(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Shaped[Tensor, "batch *data"]:
        """Return E[x|z] of z ~ p(z), at beta."""
        with self.at(beta, next(iter(noise.values()))):
            return self._topology.sample_mean(noise)

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that the gated model's `sample` needs."""
        return self._topology.sample_noise()

    def sample(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Shaped[Tensor, "batch *data"]:
        """Draw x ~ p(x|z) of z ~ p(z), at beta."""
        with self.at(beta, next(iter(noise.values()))):
            return self._topology.sample(noise)

    @contextmanager
    def at(self, beta: Tensor | None, like: Tensor) -> Iterator[None]:
        """Let the gates read beta, [] or [batch], inside the block; None: 1. like: in whose type they compute."""
        with self._signal.of(self._standardized(beta, like)):
            yield

    def _standardized(self, beta: Tensor | None, like: Tensor) -> Tensor:
        """Return u, the standardized log beta, in `like`'s type and on its device."""
        log_beta = like.new_zeros(()) if beta is None else torch.log(beta.to(like))
        return math.sqrt(3) * (log_beta - self.centre.like(log_beta)) / self.half_width.like(log_beta)
