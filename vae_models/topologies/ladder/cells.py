"""NVAE's residual cells: skip(x) + 0.1 body(x), the body ending in squeeze-and-excitation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_models.nn.norm import BatchNorm2d
from vae_models.nn.weight_norm import WeightNormConv2d
from vae_models.topologies.ladder.plan import CellPlan, squeeze_hidden

RESIDUE = 0.1  # of the body in the sum
MOMENTUM, EPSILON = 0.05, 1e-5  # of the batch norms


class Swish(nn.Module):
    """x sigmoid(x) (Ramachandran et al. 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class SqueezeExcite(nn.Module):
    """Each channel times a number in (0, 1) that the means of all channels say (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = squeeze_hidden(channels)
        self.network = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        share = torch.sigmoid(self.network(x.mean((2, 3))))
        return x * share[:, :, None, None]


class HalvedSkip(nn.Module):
    """Half the side and the channels asked for: swish, then 1x1 convolutions of the four pixels of each square, a
    quarter of the channels from each."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        quarter = outputs // 4
        widths = (quarter, quarter, quarter, outputs - 3 * quarter)
        self.convolutions = nn.ModuleList([WeightNormConv2d(inputs, width, 1, stride=2) for width in widths])

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(x)
        squares = (y, y[:, :, 1:, 1:], y[:, :, :, 1:], y[:, :, 1:, :])
        return torch.cat([each(part) for each, part in zip(self.convolutions, squares, strict=True)], dim=1)


class DoubledSkip(nn.Module):
    """Twice the side, bilinear with the corners aligned, and a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convolution(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
        return y


class Cell(nn.Module):
    """One residual cell: see `CellPlan`."""

    def __init__(self, plan: CellPlan, *, squeeze: bool) -> None:
        super().__init__()
        body = _swish_body(plan) if plan.body == "swish" else _depthwise_body(plan)
        self.body = nn.Sequential(*body, *([SqueezeExcite(plan.outputs)] if squeeze else []))
        self.skip: nn.Module = nn.Identity()
        if plan.way != "same":
            self.skip = (HalvedSkip if plan.way == "down" else DoubledSkip)(plan.inputs, plan.outputs)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.skip(x) + RESIDUE * self.body(x)
        return total


def norm(channels: int) -> BatchNorm2d:
    """Return a batch norm over all workers' data, with the published momentum."""
    return BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)


def _swish_body(plan: CellPlan) -> list[nn.Module]:
    """Return twice [norm, swish, 3x3 convolution]; the first convolution has the stride."""
    stride = 2 if plan.way == "down" else 1
    return [
        norm(plan.inputs),
        Swish(),
        *_doubled(plan),
        WeightNormConv2d(plan.inputs, plan.outputs, 3, stride=stride, padding=1),
        norm(plan.outputs),
        Swish(),
        WeightNormConv2d(plan.outputs, plan.outputs, 3, padding=1),
    ]


def _depthwise_body(plan: CellPlan) -> list[nn.Module]:
    """Return an inverted residual (Sandler et al. 2018): 1x1 to the hidden channels, 5x5 of each, 1x1 back."""
    hidden = plan.inputs * plan.expansion
    return [
        *_doubled(plan),
        norm(plan.inputs),
        nn.Conv2d(plan.inputs, hidden, 1, bias=False),
        norm(hidden),
        Swish(),
        nn.Conv2d(hidden, hidden, 5, padding=2, groups=hidden, bias=False),
        norm(hidden),
        Swish(),
        nn.Conv2d(hidden, plan.outputs, 1, bias=False),
        norm(plan.outputs),
    ]


def _doubled(plan: CellPlan) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2, mode="nearest")] if plan.way == "up" else []
