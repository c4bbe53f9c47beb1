"""A ladder of latents, as data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.likelihoods.specs import BernoulliConfig, LikelihoodConfig
from vae_models.strict import DataShape
from vae_models.topologies.ladder import plan
from vae_models.topologies.ladder.plan import Body, Plan
from vae_models.topologies.specs import TopologySpec

if TYPE_CHECKING:
    from vae_models.topologies.ladder.model import Ladder


class NvaeConfig(TopologySpec):
    """Groups of latents over scales, each one's prior given the ones above it (Vahdat and Kautz 2020)."""

    kind: Literal["nvae"] = "nvae"
    size: tuple[int, int] = Field(default=(28, 28), description="height and width of the images")
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

    def weights(self, data_shape: DataShape) -> int:
        """Return how many numbers are trained: exactly, but for a likelihood's own."""
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
        return total + convolution(last, channels * self.likelihood.parameters_per_element(), 3)

    def refusals(self) -> Iterator[str]:
        """Yield a sentence for each reason why its parts do not go together."""
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

    def build(self, data_shape: DataShape) -> Ladder:
        """Return the model: see `Ladder`."""
        from vae_models.topologies.ladder.model import Ladder

        return Ladder(
            self.plan((data_shape[1], data_shape[2])),
            self.likelihood.build(data_shape),
            latent=self.latent,
            data_shape=data_shape,
            squeeze=self.squeeze,
            spectrum=self.spectrum,
        )
