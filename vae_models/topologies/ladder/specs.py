"""A ladder of latents, as data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.likelihoods.specs import BernoulliConfig, LikelihoodConfig
from vae_models.strict import DataShape
from vae_models.topologies.ladder import plan
from vae_models.topologies.ladder.plan import Body, Plan
from vae_models.topologies.specs import TopologySpec
from vae_models.topologies.vae.specs import GatingConfig

if TYPE_CHECKING:
    from vae_models.data.spec import DataSpec
    from vae_models.topologies.ladder.model import Ladder
    from vae_models.topologies.ladder.multi_rate import MultiRateLadder


class NvaeConfig(TopologySpec):
    """Groups of latents over scales, each one's prior given the ones above it (Vahdat and Kautz 2020)."""

    recomputed: ClassVar[bool] = True

    kind: Literal["nvae"] = "nvae"
    size: tuple[bounds.Side, bounds.Side] = Field(
        default=(28, 28), description="height and width of the images: the data's"
    )
    channels: int = Field(default=32, ge=4, le=bounds.WIDTH, description="of the first feature map; each scale doubles")
    latent: int = Field(default=20, ge=1, le=bounds.WIDTH, description="channels of each group's latents")
    scales: int = Field(default=2, ge=1, le=8)
    groups: int = Field(default=10, ge=1, le=bounds.DEPTH, description="of latents, at the largest scale")
    halved: bool = Field(default=True, description="each smaller scale has half as many groups; no: as many")
    least_groups: int = Field(default=1, ge=1, le=bounds.DEPTH, description="of a scale, where they are halved")
    blocks: int = Field(default=2, ge=0, le=8, description="before the scales and after them; each halves the side")
    block_cells: int = Field(default=3, ge=1, le=bounds.DEPTH, description="cells of a block")
    encoder_cells: int = Field(default=2, ge=1, le=bounds.DEPTH, description="cells before each group, on the way up")
    decoder_cells: int = Field(default=2, ge=1, le=bounds.DEPTH, description="and on the way down")
    body: Body = Field(default="depthwise", description="of the decoder's cells: inverted residuals, or 3x3 ones")
    squeeze: bool = Field(default=True, description="squeeze-and-excitation at the end of each cell")
    spectrum: bool = Field(default=True, description="keep singular vectors, for spectral regularization")
    likelihood: LikelihoodConfig = BernoulliConfig()
    gating: GatingConfig | None = Field(default=None, description="multi-rate gates; none: a model of one beta")

    def suited(self, facts: DataSpec) -> NvaeConfig:
        """Return it for images of the data's size; as it is for what are no images."""
        return self.model_copy(update={"size": (facts.shape[1], facts.shape[2])}) if facts.image else self

    def beta_range(self) -> tuple[float, float] | None:
        """Return the smallest and the largest beta that the model is for; None: it does not read beta."""
        return None if self.gating is None else (self.gating.low, self.gating.high)

    def offers(self) -> frozenset[str]:
        """Return that the groups' rates can be balanced, and, with singular vectors kept, the weights penalized."""
        return frozenset({"balance", "spectrum"} if self.spectrum else {"balance"})

    def against_lanes(self) -> str | None:
        """Return why it is not fused with others; None without singular vectors."""
        return (
            "model nvae improves its singular vectors in place: each configuration is trained alone"
            if (self.spectrum)
            else None
        )

    def plan(self, size: tuple[int, int]) -> Plan:
        """Return the cells for images of this height and width."""
        counts = plan.groups_by_scale(self.scales, self.groups, halved=self.halved, least=self.least_groups)
        return plan.made(
            size=size,
            channels=self.channels,
            groups=counts,
            blocks=self.blocks,
            block_cells=self.block_cells,
            encoder_cells=self.encoder_cells,
            decoder_cells=self.decoder_cells,
            body=self.body,
        )

    def latents(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each group's latents, nearest to x first."""
        groups = self.plan(self.size).groups
        named = {f"z{place}": (self.latent, *group.side) for place, group in enumerate(groups, start=1)}
        return dict(reversed(named.items()))

    def against_micro_batch(self) -> str:
        """Return that its batch norms take the statistics of what they are given."""
        return "model nvae's batch norms take the statistics of the whole batch"

    def against_bf16(self) -> None:
        """Return None: what the networks return becomes float32 before a density is computed of it."""

    def weights(self, data_shape: DataShape) -> int:
        """Return how many numbers are trained: exactly, but for a likelihood's own and gates that are not affine."""
        planned, (channels, *_) = self.plan(self.size), data_shape
        convolution, groups = plan.convolution_weights, planned.groups
        total = convolution(channels, self.channels, 3) + math.prod(planned.top)
        total += sum(cell.weights(squeeze=self.squeeze) for cell in planned.cells())
        total += convolution(groups[0].channels, groups[0].channels, 1)
        for place, group in enumerate(groups):
            total += convolution(group.channels, 2 * self.latent, 3)
            total += convolution(group.channels + self.latent, group.channels, 1)
            if place:
                total += convolution(group.channels, group.channels, 1) + convolution(
                    group.channels, 2 * self.latent, 1
                )
        last = planned.after[-1].outputs if planned.after else groups[-1].channels
        total += convolution(last, channels * self.likelihood.parameters_per_element(), 3)
        return total if self.gating is None else total + self.gating.weights_of(self._gated(planned))

    def _gated(self, planned: Plan) -> list[int]:
        """Return the numbers of outputs of the layers that are gated, summed by where they are."""
        groups = planned.groups
        samplers = 2 * self.latent * (2 * len(groups) - 1)
        combiners = sum(group.channels for group in groups) * 2 - groups[0].channels
        cells = sum(cell.outputs_of_layers(squeeze=self.squeeze) for cell in planned.cells())
        return [self.channels, groups[0].channels, samplers, combiners, cells]

    def refusals(self) -> Iterator[str]:
        """Yield a sentence for each reason why its parts do not go together."""
        if self.gating is not None and (self.gating.place != "gates" or self.gating.heads or self.gating.repeated):
            yield "model.gating of nvae is one gate after each layer: set place to gates, leave heads and repeated out"
        if self.channels % 4:
            yield f"model.channels: {self.channels} is no multiple of 4, and a cell that halves the side has four parts"

    def data_refusals(self, data_shape: DataShape, batch_size: int) -> Iterator[str]:
        """Yield a sentence for each reason why it cannot be trained on such data; batch_size: of the global batch."""
        if len(data_shape) != 3:
            yield f"model nvae takes images (channels, height, width), and the data have the shape {list(data_shape)}"
            return
        if tuple(data_shape[1:]) != self.size:
            height, width = data_shape[1:]
            yield f"model.size is {list(self.size)}, and the images are {height} x {width}: set model.size to it"
        *_, height, width = self.plan(self.size).top
        if height * width * batch_size < 2:
            yield "the batch norm of the smallest scale has one value per channel: set batch_size to 2 or more"
        yield from self.likelihood.refusals(data_shape, batch_size)

    def build(self, data_shape: DataShape) -> Ladder | MultiRateLadder:
        """Return the model, with gates if it has `gating`: see `Ladder`."""
        from vae_models.topologies.ladder.model import Ladder
        from vae_models.topologies.ladder.multi_rate import MultiRateLadder

        model = Ladder(
            self.plan((data_shape[1], data_shape[2])),
            self.likelihood.build(data_shape),
            latent=self.latent,
            data_shape=data_shape,
            squeeze=self.squeeze,
            spectrum=self.spectrum,
        )
        return model if self.gating is None else MultiRateLadder(model, **self.gating.options())
