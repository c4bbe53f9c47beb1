"""How much memory a configuration takes, before anything is trained: a step and an evaluation are traced, not computed.

Tensors have shapes and no values (`torch._subclasses.fake_tensor`), so a large network takes no memory here and no time
but that of its operations' calls. What is not seen: copies that a library's kernel makes for itself, what the allocator
keeps, and the process: the interpreter, torch, a GPU's context.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from vae_models.config.train import TrainConfig
from vae_models.metrics.sums import values
from vae_models.nn.meter import Meter
from vae_models.nn.recompute import recompute
from vae_models.precision import Precision
from vae_models.protocols import HasCells, Model, Objective
from vae_models.records import NoiseSpec
from vae_models.training import accumulation
from vae_models.training.step import StepModule, merged

_STORED = {"tokens": 4, "unit": 4, "reals": 4}  # bytes of an element; of bits and bytes 1


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one worker's tensors.

    data:       the set's splits as they are kept; 0 where they are streamed from the disk
    weights:    parameters and buffers
    optimizer:  its state
    step:       what a training step makes beside them at most: the batch, activations, gradients
    evaluation: what a batch of an evaluation makes beside them at most
    """

    data: int
    weights: int
    optimizer: int
    step: int
    evaluation: int

    @property
    def total(self) -> int:
        """Return the most that is there at once: steps and evaluations alternate."""
        return self.data + self.weights + self.optimizer + max(self.step, self.evaluation)


class TakesLong(RuntimeError):  # noqa: N818 - says what is the case
    """Tracing has taken the time that it was given."""


def memory_of(config: TrainConfig, *, workers: int = 1, seconds: float = math.inf) -> Memory:
    """Return what a worker's tensors take, the largest share of the global batch given.

    Raise TakesLong where tracing is not done within so many seconds: the deepest ladders call tens of thousands of
    operations. Raise an error of torch's where a part cannot be traced: it reads a value, or is no function of tensors.
    """
    facts, dtype, before = config.data.facts, cast(torch.dtype, getattr(torch, config.dtype)), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with FakeTensorMode():
            weights, optimizer, step, evaluation = _traced(config, workers, time.monotonic() + seconds)
    finally:
        torch.set_default_dtype(before)
    stored = sum(facts.sizes) * math.prod(facts.shape) * _STORED.get(facts.support, 1)
    data = 0 if config.data.residency == "stream" else stored
    return Memory(data=data, weights=weights, optimizer=optimizer, step=step, evaluation=evaluation)


class _Until(Meter):  # type: ignore[no-untyped-call]
    """A meter that gives up at a time of `time.monotonic`."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if time.monotonic() > self._until:
            raise TakesLong("a step has more operations than could be traced in the time given")
        return super().__torch_dispatch__(func, types, args, kwargs)


def _traced(config: TrainConfig, workers: int, until: float) -> tuple[int, int, int, int]:
    """Return the bytes of weights, the optimizer's state, a step and an evaluation."""
    shape, controller = config.data.facts.shape, config.beta.build(1.0)
    model = config.model.build(shape)
    if config.recompute:
        recompute(cast(HasCells, model).cells())
    objective: Objective = config.objective.build(config.data.facts.sizes[0], shape, config.model.dimensions())
    module = StepModule(model, objective, Precision(name=config.precision))
    optimizer = config.optimizer.build(list(model.parameters()))
    passes = accumulation.passes(config.batch_size, config.micro_batch, workers - 1, workers)
    own = cast(Model, model)
    specs = merged(own.noise(objective.samples), objective.noise(), controller.noise())
    rows = -(-config.batch_size // workers)  # of the last worker: none has more

    model.train()
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()  # afterwards it has its state
    with _Until(until) as in_step:
        x, noise = _batch(config, rows, specs)
        beta = controller.beta(controller.initial(), 0, noise)
        optimizer.zero_grad(set_to_none=True)
        accumulation.backward(module, passes, x, noise, beta, None)
        optimizer.step()
    del x, noise, beta
    optimizer.zero_grad(set_to_none=True)
    model.eval()
    size = min(
        config.evaluation.batch_size,
        config.evaluation.limit or config.evaluation.batch_size,
        max(config.data.facts.sizes),
    )
    with _Until(until) as in_evaluation, torch.no_grad():
        x, noise = _batch(config, size, own.noise())
        values(own(x, noise))
    state = [value for each in optimizer.state.values() for value in each.values() if isinstance(value, Tensor)]
    return _bytes([*model.parameters(), *model.buffers()]), _bytes(state), in_step.peak, in_evaluation.peak


def _batch(config: TrainConfig, rows: int, specs: Mapping[str, NoiseSpec]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return x and noise of so many data, without values."""
    facts = config.data.facts
    tokens = facts.support == "tokens"
    x = torch.empty((rows, *facts.shape), dtype=torch.int64 if tokens else torch.get_default_dtype())
    of_data = {"x": NoiseSpec(shape=facts.shape, kind="uniform")} if config.data.binarize == "dynamic" else {}
    return x, {name: torch.empty((rows, *spec.shape)) for name, spec in (of_data | dict(specs)).items()}


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
