"""One optimizer step for several lanes: parameters, gradients and state stacked, [lanes, *shape], and every setting a
tensor [lanes].

The formulas are torch's, elementwise, in the parameters' own type: a lane gets the step that its own optimizer takes,
but for rounding. State has torch's names; `step`, [lanes], counts each lane's steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

State = dict[str, Tensor]  # of one parameter in all lanes, by torch's names


def along(values: Tensor, like: Tensor) -> Tensor:
    """Return one number per lane, [lanes], as [lanes, 1, ...] in the type of `like`: [lanes, *shape]."""
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1))


def numbers(settings: Mapping[str, Sequence[float]], device: torch.device) -> dict[str, Tensor]:
    """Return each setting of the lanes as a tensor [lanes], float64."""
    return {name: torch.tensor(values, dtype=torch.float64).to(device) for name, values in settings.items()}


class StackedOptimizer(ABC):
    """settings: by name, [lanes], float64 on the parameters' device.

    state: the names of a parameter's state beside `step`, which is there where `counts` says so.
    """

    state: ClassVar[tuple[str, ...]]
    counts: ClassVar[bool] = True

    def __init__(self, **settings: Tensor) -> None:
        self.settings = settings

    def fresh(self, parameter: Tensor) -> State:
        """Return the state of a parameter, [lanes, *shape], before its first step: zeros."""
        state = {name: torch.zeros_like(parameter) for name in self.state}
        if self.counts:
            state["step"] = torch.zeros(parameter.shape[0], dtype=torch.float32, device=parameter.device)
        return state

    @torch.no_grad()
    def step(self, parameters: Sequence[Tensor], slopes: Sequence[Tensor], states: Sequence[State], lr: Tensor) -> None:
        """Take one step of all lanes, in place. lr: [lanes]; slopes: the gradients, which it may overwrite."""
        for parameter, slope, state in zip(parameters, slopes, states, strict=True):
            if self.counts:
                state["step"].add_(1)
            self.update(parameter, slope, state, lr)

    def setting(self, name: str, like: Tensor) -> Tensor:
        """Return a setting of every lane, [lanes, 1, ...]."""
        return along(self.settings[name], like)

    def decayed(self, parameter: Tensor, slope: Tensor) -> Tensor:
        """Return the gradient with weight decay added to it, where a lane has some."""
        return (
            slope.addcmul(self.setting("weight_decay", slope), parameter) if "weight_decay" in self.settings else slope
        )

    @abstractmethod
    def update(self, parameter: Tensor, slope: Tensor, state: State, lr: Tensor) -> None:
        """Move one parameter, [lanes, *shape], and its state, whose `step` counts this step."""

    def _unbiased(self, beta: str, state: State) -> Tensor:
        """Return 1 - beta^step, [lanes], float64."""
        return 1 - self.settings[beta] ** state["step"].double()


class StackedAdam(StackedOptimizer):
    """Adam (Kingma and Ba 2015, algorithm 1), weight decay added to the gradient."""

    state: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def update(self, parameter: Tensor, slope: Tensor, state: State, lr: Tensor) -> None:
        """p <- p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)."""
        slope = self.decayed(parameter, slope)
        first, second = state["exp_avg"], state["exp_avg_sq"]
        first.lerp_(slope, 1 - self.setting("beta1", slope))
        second.lerp_(slope.square(), 1 - self.setting("beta2", slope))
        root = second.sqrt().div_(along(self._unbiased("beta2", state).sqrt(), slope))
        root.add_(self.setting("eps", slope))
        size = along(lr / self._unbiased("beta1", state), slope)
        parameter.sub_(torch.div(first, root, out=root).mul_(size))


class StackedAdamW(StackedAdam):
    """AdamW (Loshchilov and Hutter 2019): the weights shrink by lr x weight decay, apart from the gradient."""

    def decayed(self, parameter: Tensor, slope: Tensor) -> Tensor:
        """Return the gradient as it is."""
        return slope

    def update(self, parameter: Tensor, slope: Tensor, state: State, lr: Tensor) -> None:
        """p <- (1 - lr weight_decay) p, then Adam."""
        if "weight_decay" in self.settings:
            parameter.mul_(along(1 - lr * self.settings["weight_decay"], parameter))
        super().update(parameter, slope, state, lr)


class StackedAdamax(StackedOptimizer):
    """Adamax (Kingma and Ba 2015, section 7.1), weight decay added to the gradient."""

    state: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_inf")

    def update(self, parameter: Tensor, slope: Tensor, state: State, lr: Tensor) -> None:
        """u <- max(beta2 u, |g| + eps); p <- p - lr / (1 - beta1^t) m / u."""
        slope = self.decayed(parameter, slope)
        first, largest = state["exp_avg"], state["exp_inf"]
        first.lerp_(slope, 1 - self.setting("beta1", slope))
        largest.mul_(self.setting("beta2", slope))
        torch.maximum(largest, slope.abs().add_(self.setting("eps", slope)), out=largest)
        size = along(lr / self._unbiased("beta1", state), slope)
        parameter.sub_((first / largest).mul_(size))


class StackedSGD(StackedOptimizer):
    """Gradient descent with momentum, weight decay added to the gradient. nesterov: the same in all lanes."""

    state: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    counts: ClassVar[bool] = False

    def __init__(self, *, nesterov: bool, **settings: Tensor) -> None:
        super().__init__(**settings)
        self.nesterov = nesterov

    def update(self, parameter: Tensor, slope: Tensor, state: State, lr: Tensor) -> None:
        """b <- momentum b + g; p <- p - lr b, or p - lr (g + momentum b)."""
        slope = self.decayed(parameter, slope)
        momentum, buffer = self.setting("momentum", slope), state["momentum_buffer"]
        buffer.mul_(momentum).add_(slope)
        way = slope.addcmul(momentum, buffer) if self.nesterov else buffer
        parameter.sub_(along(lr, parameter) * way)
