"""Adam, Adamax (Kingma and Ba 2015), AdamW and stochastic gradient descent, as torch computes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Kernel = Callable[..., None]


@torch.no_grad()
def _step(optimizer: torch.optim.Adam, kernel: Kernel) -> None:
    """Take the step of torch's Adam by its fused kernel, of parameters of one type on one device.

    torch groups them by both in every step, and on a CPU converts the 1 that it adds to each one's count of steps.
    """
    for group in optimizer.param_groups:
        lists: tuple[list[Tensor], ...] = ([], [], [], [], [], [])
        optimizer._init_group(group, *lists)  # type: ignore[no-untyped-call]
        if not lists[0]:
            continue
        steps = lists[-1]
        if steps[0].device.type == "cpu":
            torch._foreach_add_(steps, torch.ones((), dtype=steps[0].dtype), alpha=1)
        else:
            torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]
        kernel(
            *lists,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


class EagerAdam(torch.optim.Adam):
    """torch's Adam, called past the decorators that keep torch.compile away from it: the first call of any of them
    imports the compiler, a second of every process, and nothing here is compiled."""

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that the parameters hold."""
        _step(self, torch._fused_adam_)


def adam(
    parameters: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return Adam, one fused kernel per step; weight decay is added to the gradient, as published."""
    return EagerAdam(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)


class EagerAdamax(torch.optim.Adamax):
    """torch's Adamax, past the compiler's decorators: see `EagerAdam`."""

    add_param_group = inspect.unwrap(torch.optim.Adamax.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Adamax.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adamax.step))


class EagerAdamW(torch.optim.AdamW):
    """torch's AdamW, past the compiler's decorators: see `EagerAdam`."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that the parameters hold."""
        _step(self, torch._fused_adamw_)


class EagerSGD(torch.optim.SGD):
    """torch's SGD, past the compiler's decorators: see `EagerAdam`."""

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


def adamax(
    parameters: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return Adamax; weight decay is added to the gradient."""
    return EagerAdamax(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=True)


def adamw(
    parameters: Iterable[nn.Parameter], *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return AdamW, one fused kernel per step; the weights shrink by lr x weight decay, apart from the gradient."""
    return EagerAdamW(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)


def sgd(
    parameters: Iterable[nn.Parameter], *, lr: float, momentum: float, nesterov: bool, weight_decay: float
) -> torch.optim.Optimizer:
    """Return stochastic gradient descent, one fused kernel per step; weight decay is added to the gradient."""
    return EagerSGD(parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=True)
