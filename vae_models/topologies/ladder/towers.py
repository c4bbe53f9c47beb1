"""The two ways of an NVAE: up from x without chance, and down through the latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.nn.weight_norm import WeightNormConv2d
from vae_models.topologies.ladder.cells import Cell
from vae_models.topologies.ladder.plan import CellPlan, GroupPlan, Plan


class Encoder(nn.Module):
    """x -> one feature map for each group of latents; and what is the posterior's of each group.

    `taps` is all that the way down reads: the top's features, and for every later group those of its size.
    """

    def __init__(self, plan: Plan, *, image_channels: int, latent: int, squeeze: bool) -> None:
        super().__init__()
        first = plan.before[0].inputs if plan.before else plan.rises[0][0].inputs
        self.stem = WeightNormConv2d(image_channels, first, 3, padding=1)
        self.before = _cells(plan.before, squeeze=squeeze)
        self.rises = nn.ModuleList([_cells(rise, squeeze=squeeze) for rise in plan.rises])
        top, *others = plan.groups
        self.top = nn.Sequential(nn.ELU(), WeightNormConv2d(top.channels, top.channels, 1), nn.ELU())
        self.combiners = nn.ModuleList([WeightNormConv2d(each.channels, each.channels, 1) for each in others])
        self.samplers = nn.ModuleList(
            [WeightNormConv2d(each.channels, 2 * latent, 3, padding=1) for each in plan.groups]
        )

    def taps(self, x: Float[Tensor, "batch channels height width"]) -> tuple[Tensor, ...]:
        """Return the features of each group, top-down."""
        features = self.before(self.stem(x))
        passed = []
        for rise in self.rises:
            features = rise(features)
            passed.append(features)
        return (self.top(features), *reversed(passed[:-1]))

    def posterior(self, group: int, tap: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the encoder says of a group: two maps [batch, latent, height, width], of mean and log sigma.

        state: of the decoder before the group, which later groups' posteriors read, too.
        """
        seen = tap if group == 0 else tap + self.combiners[group - 1](state)
        mean, log_std = self.samplers[group](seen).chunk(2, dim=1)
        return mean, log_std


class Prior(nn.Module):
    """What the decoder's state says of each group but the first: two maps, of mean and log sigma."""

    def __init__(self, groups: Sequence[GroupPlan], *, latent: int) -> None:
        super().__init__()
        self.samplers = nn.ModuleList(
            [nn.Sequential(nn.ELU(), WeightNormConv2d(each.channels, 2 * latent, 1)) for each in groups[1:]]
        )

    def forward(self, group: int, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps of a group from 1 on."""
        mean, log_std = self.samplers[group - 1](state).chunk(2, dim=1)
        return mean, log_std


class Decoder(nn.Module):
    """The way down: it starts from a learned constant, takes each group's latents, and ends at the likelihood's
    parameters."""

    def __init__(self, plan: Plan, *, outputs: int, latent: int, squeeze: bool) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.rand(plan.top))
        self.prior = Prior(plan.groups, latent=latent)
        steps: list[nn.Module] = []
        for step in plan.steps:
            if isinstance(step, GroupPlan):
                steps.append(Descent(step, latent=latent, squeeze=squeeze))
            else:
                steps.append(Cell(step, squeeze=squeeze))
        self.steps = nn.ModuleList(steps)
        self.after = _cells(plan.after, squeeze=squeeze)
        last = plan.after[-1].outputs if plan.after else plan.groups[-1].channels
        self.output = nn.Sequential(nn.ELU(), WeightNormConv2d(last, outputs, 3, padding=1))

    def start(self, batch: int) -> Tensor:
        """Return the state before the first group, [batch, channels, height, width]."""
        return self.constant.unsqueeze(0).expand(batch, -1, -1, -1)

    def descents(self) -> Iterator[tuple[nn.Module, Descent | None]]:
        """Yield each step of the way, and the same again where it takes latents."""
        for step in self.steps:
            yield step, step if isinstance(step, Descent) else None

    def end(self, state: Tensor) -> Tensor:
        """Return the likelihood's parameters, of the padded image."""
        parameters: Tensor = self.output(self.after(state))
        return parameters


class Descent(nn.Module):
    """One group: cells, then the group's latents join the state."""

    def __init__(self, plan: GroupPlan, *, latent: int, squeeze: bool) -> None:
        super().__init__()
        self.cells = _cells(plan.cells, squeeze=squeeze)
        self.combiner = WeightNormConv2d(plan.channels + latent, plan.channels, 1)

    def join(self, state: Tensor, z: Tensor) -> Tensor:
        """Return the state with the latents in it."""
        joined: Tensor = self.combiner(torch.cat([state, z], dim=1))
        return joined


def _cells(plans: Sequence[CellPlan], *, squeeze: bool) -> nn.Sequential:
    return nn.Sequential(*(Cell(plan, squeeze=squeeze) for plan in plans))
