"""One training step as a pure function, and what surrounds it: noise, optimizer, the global gradient's norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vae_models import collectives, random
from vae_models.precision import Precision, keep_full
from vae_models.protocols import HasLogScale, Model, Objective
from vae_models.records import NoiseSpec

AHEAD = 16  # steps whose noise is drawn together, at most
TOGETHER = 2**16  # numbers that they have together, at most


class StepModule(nn.Module):
    """(x, noise, beta) -> (loss, terms): a pure function of its arguments, the parameters and the buffers.

    It draws nothing and reads no clock or step, so it can be wrapped (DistributedDataParallel), called with other
    parameters (`torch.func.functional_call`), mapped over many configurations (`torch.func.vmap`) or captured. Only
    batch norm's running statistics change, in place, as torch's own do.
    """

    def __init__(self, model: nn.Module, objective: Objective, precision: Precision = Precision()) -> None:  # noqa: B008 - frozen
        super().__init__()
        self.model = model
        self.objective = objective
        self.precision = precision
        if precision.name == "bf16" and precision.device_type == "cpu":
            keep_full(model)

    def forward(
        self, x: Tensor, noise: Mapping[str, Tensor], beta: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its terms. x [local batch, *data], noise by name [local batch, *shape],
        beta [] or [local batch], mask as of a `Batch`.

        The loss is the global batch's mean, terms are detached; both in nats per datum, the same on every worker.
        """
        model = cast(Model, self.model)
        with self.precision.autocast():
            trace = model(x, noise, beta, mask)
        loss = self.objective(trace, beta, model=model, noise=noise)
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
        """Draw `rows` of the global batch's noise, by name: {"z": [local batch, *shape]}.
        Streams are "<stream>/<name>".
        """
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


class StepNoise:
    """The noise of training steps, this worker's rows.

    Where a step on the CPU has little of it, that of the steps after it is drawn with it: the networks drive what draws
    it out of the processor's caches, and to load it again takes longer than to draw. The bits are the same.
    """

    def __init__(self, source: NoiseSource, specs: Mapping[str, NoiseSpec], batch: int, rows: slice) -> None:
        """Take the noise that a step needs. batch: the global one."""
        self._source, self._specs, self._batch, self._rows = source, specs, batch, rows
        numbers = batch * sum(math.prod(spec.shape) for spec in specs.values())
        few = source.device.type == "cpu" and numbers > 0
        self._count = max(1, min(AHEAD, TOGETHER // numbers)) if few else 1
        self._drawn: dict[int, dict[str, Tensor]] = {}

    def of(self, step: int) -> dict[str, Tensor]:
        """Return the noise of step 0, 1, ... by name, [local batch, *shape]: a function of (specs, seed, step)."""
        if step not in self._drawn:
            self._drawn = {each: self._draw(each) for each in range(step, step + self._count)}
        return self._drawn.pop(step)

    def _draw(self, step: int) -> dict[str, Tensor]:
        return self._source.draw(self._specs, self._batch, stream="train", step=step, rows=self._rows)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def merged(*specs: Mapping[str, NoiseSpec]) -> dict[str, NoiseSpec]:
    """Return all the noise of a step by name. Raise ValueError where two parts have one name:
    they would share their noise.
    """
    result: dict[str, NoiseSpec] = {}
    for part in specs:
        clash = result.keys() & part.keys()
        if clash:
            raise ValueError(f"two parts ask for noise of the same name: {sorted(clash)}")
        result |= part
    return result


def mean_beta(beta: Tensor) -> float:
    """Return the mean over the global batch of beta, [] or [local batch]: every worker has drawn its own data's."""
    beta = beta.double()
    return float(beta if beta.ndim == 0 else collectives.global_mean(beta))


@torch.no_grad()
def internals(model: nn.Module, control: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the numbers to plot beside the loss: the likelihood's log sigma, a beta controller's state.
    Waits for them.
    """
    values = {f"train/control_{name}": value.item() for name, value in control.items() if value.ndim == 0}
    for module in model.modules():
        if isinstance(module, HasLogScale):
            values["train/log_sigma"] = module.log_scale().item()
    return values


def hold(parameters: Sequence[nn.Parameter], gate: Tensor) -> None:
    """Scale the gradients by `gate`, after `backward` and before `step`: 0 freezes `parameters` in that step.
    See `release`.
    """
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(gate)


def release(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], gate: Tensor) -> None:
    """Keep Adam's count of steps at 0 after a frozen step (gate 0), as if it had never seen the parameters.

    With moments of zero Adam's update is zero; its bias correction must start with the first step that counts. The gate
    stays on the device: nothing waits for its value.
    """
    for parameter in parameters:
        state = optimizer.state.get(parameter, {})
        if "step" in state:
            state["step"].mul_(gate.to(state["step"].device))


def gradient_norm(parameters: Iterable[nn.Parameter], clip_norm: float | None) -> Tensor:
    """Return the L2 norm of the whole (global) gradient before clipping, []; scale it down to `clip_norm` if longer."""
    parameters = list(parameters)
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state by parameter name: {"exp_avg/decoder.0.weight": ...}.
    Its settings are the config's.
    """
    return {
        f"{key}/{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state of `optimizer_tensors`; parameters that had no state get none."""
    keys = dict.fromkeys(name.partition("/")[0] for name in tensors)
    for name, parameter in model.named_parameters():
        state = {
            key: tensors[f"{key}/{name}"].to(parameter.device, copy=True) for key in keys if f"{key}/{name}" in tensors
        }
        if state:
            optimizer.state[parameter] = state
