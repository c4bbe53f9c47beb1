"""One training step as a pure function, and what surrounds it: noise, optimizer, the global gradient's norm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vae_models import random
from vae_models.config import AdamConfig
from vae_models.protocols import Objective
from vae_models.records import NoiseSpec


class StepModule(nn.Module):
    """(x, noise, beta) -> (loss, terms): a pure function of its arguments, the parameters and the buffers.

    It draws nothing and reads no clock or step, so it can be wrapped (DistributedDataParallel), called with other
    parameters (`torch.func.functional_call`), mapped over many configurations (`torch.func.vmap`) or captured. Only
    batch norm's running statistics change, in place, as torch's own do.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, x: Tensor, noise: Mapping[str, Tensor], beta: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """x [local batch, *data], noise by name [local batch, *shape], beta [] or [local batch].

        The loss is the global batch's mean, terms are detached; both in nats per datum, the same on every worker.
        """
        loss = self.objective(self.model(x, noise), beta)
        return loss.total, {name: term.detach() for name, term in loss.terms.items()}


@dataclass(frozen=True, kw_only=True)
class NoiseSource:
    """Noise for this run's seed, device and precision; see `vae_models.random`."""

    seed: int
    device: torch.device
    dtype: torch.dtype

    def draw(
        self, specs: Mapping[str, NoiseSpec], batch: int, *, stream: str, step: int, rows: slice = slice(None)
    ) -> dict[str, Tensor]:
        """`rows` of the global batch's noise, by name: {"z": [local batch, *shape]}. Streams are "<stream>/<name>"."""
        return {
            name: random.draw(
                spec,
                batch,
                seed=self.seed,
                step=step,
                stream=f"{stream}/{name}",
                device=self.device,
                dtype=self.dtype,
            )[rows]
            for name, spec in specs.items()
        }


def adam(parameters: Iterable[nn.Parameter], config: AdamConfig) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015), one fused kernel per step; weight decay is added to the gradient, as published."""
    return torch.optim.Adam(
        parameters,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def gradient_norm(parameters: Iterable[nn.Parameter], clip_norm: float | None) -> Tensor:
    """L2 norm of the whole (global) gradient before clipping, []; scales the gradient down to `clip_norm` if longer."""
    parameters = list(parameters)
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by parameter name: {"exp_avg/decoder.0.weight": ...}. Its settings are the config's."""
    return {
        f"{key}/{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`; parameters that had no state get none."""
    for name, parameter in model.named_parameters():
        state = {
            key: tensors[f"{key}/{name}"].to(parameter.device, copy=True)
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"{key}/{name}" in tensors
        }
        if state:
            optimizer.state[parameter] = state
