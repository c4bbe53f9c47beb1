"""Pairs of layers multiplied element-wise, one of them through a sigmoid (VHP table 3: GatedFC, GatedConv)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedLinear(nn.Module):
    """(A u + a) * s(B u + b), s the logistic function."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.value = nn.Linear(inputs, outputs)
        self.gate = nn.Linear(inputs, outputs)

    def forward(self, u: Tensor) -> Tensor:
        value: Tensor = self.value(u) * torch.sigmoid(self.gate(u))
        return value


class GatedConv2d(nn.Module):
    """(A * u + a) s(B * u + b) with two convolutions of one form."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.value = nn.Conv2d(inputs, outputs, kernel_size, stride=stride, padding=padding)
        self.gate = nn.Conv2d(inputs, outputs, kernel_size, stride=stride, padding=padding)

    def forward(self, u: Tensor) -> Tensor:
        value: Tensor = self.value(u) * torch.sigmoid(self.gate(u))
        return value
