"""Adam (Kingma and Ba 2015), as torch computes it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import torch
from torch import nn


class EagerAdam(torch.optim.Adam):
    """torch's Adam, called past the decorators that keep torch.compile away from it: the first call of any of them
    imports the compiler, a second of every process, and nothing here is compiled."""

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


def adam(
    parameters: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return Adam, one fused kernel per step; weight decay is added to the gradient, as published."""
    return EagerAdam(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
