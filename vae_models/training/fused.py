"""Runs at one step as a stack: one `torch.func.vmap` of the step's gradient serves them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils._pytree import tree_map

from vae_models.config.train import TrainConfig
from vae_models.nn.norm import map_norms
from vae_models.training import accumulation
from vae_models.training.lockstep import Lockstep
from vae_models.training.loop import Run

Given = tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]  # x, noise by name, and x's mask where there is one


class CannotFuse(RuntimeError):  # noqa: N818 - says what is the case
    """These lanes cannot be one stack, and why."""


class Fused:
    """Runs at one step as a stack, from now until `close`; every run's model and optimizer are views of it."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        modules = [run.module for run in runs]
        self._names = [name for name, _ in modules[0].named_parameters()]
        self._views = [dict(module.named_parameters()) for module in modules]
        self._parameters = {name: _stacked([views[name] for views in self._views]) for name in self._names}
        self._buffers = _stack_buffers(modules)
        self._lockstep = Lockstep(self.runs, self._views, self._parameters)
        self._one_batch = len({run.config.seed for run in runs}) == 1
        self._tried = False
        self._rounding = 2**-7 if runs[0].config.precision == "bf16" else 1e-4  # of a loss, mapped and alone
        self._parts_differ = len({_parts(run.config) for run in runs}) > 1
        skeleton = modules[0]
        map_norms(skeleton, mapped=True)

        def loss(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            given: Given,
            beta: Tensor,
        ) -> tuple[Tensor, dict[str, Tensor]]:
            x, noise, mask = given
            # a shared layer is one module under several names: set once; torch would put it back wrongly
            total, terms = functional_call(skeleton, (parameters, buffers), (x, noise, beta, *mask), tie_weights=False)
            return total, terms

        shared = None if self._one_batch else 0
        self._gradient = vmap(grad_and_value(loss, has_aux=True), (0, 0, shared, 0), randomness="error")

    def step(self) -> None:
        """Take one optimizer step of every lane.

        Raise CannotFuse, in the first step only, where torch cannot map an operation over lanes, or the losses are not
        those of the lanes alone because a part is not a function of what can be stacked. Raise OutOfMemoryError where
        the stack is too large. In both cases nothing has changed, neither weights nor statistics.
        """
        given, beta = self._inputs()
        gradients, (losses, terms) = self._first(given, beta) if not self._tried else self._map(given, beta)
        self._lockstep.apply(gradients, losses, terms)

    def _inputs(self) -> tuple[Given, Tensor]:
        """Return data, noise, mask and beta of all lanes;
        of one seed they are the same: drawn once, and not stacked.
        """
        if self._one_batch:
            x, noise = self.runs[0].batch()
            return (x, noise, _mask(self.runs[0])), self._lockstep.beta([noise] * len(self.runs))
        by_seed: dict[int, Given] = {}
        for run in self.runs:
            if run.config.seed not in by_seed:
                by_seed[run.config.seed] = (*run.batch(), _mask(run))
        drawn = [by_seed[run.config.seed] for run in self.runs]
        betas = self._lockstep.beta([noise for _, noise, _ in drawn])
        noises = {name: torch.stack([noise[name] for _, noise, _ in drawn]) for name in drawn[0][1]}
        masks = tuple(torch.stack(each) for each in zip(*(mask for _, _, mask in drawn), strict=True))
        return (torch.stack([x for x, _, _ in drawn]), noises, masks), betas

    def _map(self, given: Given, beta: Tensor) -> Any:
        """Return (gradients, (losses, terms)), each [lanes, ...]."""
        parts = self.runs[0].passes
        with self.runs[0].precision.products():
            mapped = [self._gradient(self._parameters, self._buffers, *self._rows(part, given, beta)) for part in parts]
        if len(mapped) == 1:
            return mapped[0]
        gradients = {
            name: sum(part.share * of_part[name] for part, (of_part, _) in zip(parts, mapped, strict=True))
            for name in self._names
        }
        return gradients, accumulation.added_up(parts, [losses for _, losses in mapped])

    def _rows(self, part: accumulation.Pass, given: Given, beta: Tensor) -> tuple[Given, Tensor]:
        """Return what one pass takes of the data of all lanes; all of it where there is one pass."""
        if part.share == 1:
            return given, beta
        rows: Any = part.rows if self._one_batch else (slice(None), part.rows)
        return tree_map(itemgetter(rows), given), beta if beta.ndim == 1 else beta[:, part.rows]

    def _first(self, given: Given, beta: Tensor) -> Any:
        """Return `_map`'s result. Raise CannotFuse where these lanes cannot be fused."""
        before = {name: buffer.clone() for name, buffer in self._buffers.items()}
        try:
            expected = self._alone(given, beta) if self._parts_differ else None
            mapped = self._map(given, beta)
            if expected is not None and not torch.allclose(mapped[1][0], expected, rtol=self._rounding, equal_nan=True):
                raise CannotFuse(
                    "the parts differ in numbers that they do not hold as tensors (`vae_models.numbers.Number`)"
                )
        except RuntimeError as error:
            self._restore(before)
            if isinstance(error, CannotFuse | torch.OutOfMemoryError):
                raise
            raise CannotFuse(str(error).strip().splitlines()[0]) from error
        self._tried = True
        return mapped

    def _alone(self, given: Given, beta: Tensor) -> Tensor:
        """Return the losses of the lanes one by one, [lanes]; change no state."""
        before = {name: buffer.clone() for name, buffer in self._buffers.items()}
        losses = []
        for lane, run in enumerate(self.runs):
            x, noise, mask = given if self._one_batch else tree_map(itemgetter(lane), given)
            # slopes in a loss need the graph
            parts = [accumulation.rows(part, x, noise, beta[lane], *(mask or (None,))) for part in run.passes]
            losses.append(accumulation.weighted(run.passes, [run.module(*part)[0].detach() for part in parts]))
        self._restore(before)
        return torch.stack(losses)

    def _restore(self, buffers: Mapping[str, Tensor]) -> None:
        for name, buffer in buffers.items():
            self._buffers[name].copy_(buffer)

    def close(self) -> None:
        """Give every run tensors of its own again, so that the stack's memory is freed with the last lane."""
        self._lockstep.close()
        map_norms(self.runs[0].module, mapped=False)
        for run in self.runs:
            with torch.no_grad():
                for parameter in run.model.parameters():
                    parameter.grad = None
                    parameter.data = parameter.data.clone()
                for module in run.module.modules():
                    for name, buffer in module._buffers.items():
                        if buffer is not None:
                            module._buffers[name] = buffer.clone()


def _mask(run: Run) -> tuple[Tensor, ...]:
    mask = run.mask()
    return () if mask is None else (mask,)


def _parts(config: TrainConfig) -> str:
    return config.model.model_dump_json() + config.objective.model_dump_json()


def _stacked(tensors: Sequence[nn.Parameter]) -> Tensor:
    """Return the stack [lanes, *shape], and make every parameter a view of its row."""
    stack = torch.stack([tensor.detach() for tensor in tensors])
    for row, tensor in zip(stack.unbind(0), tensors, strict=True):
        tensor.data = row
    return stack


def _stack_buffers(modules: Sequence[nn.Module]) -> dict[str, Tensor]:
    stacks: dict[str, Tensor] = {}
    for name, _ in modules[0].named_buffers():
        path, _, last = name.rpartition(".")
        owners = [module.get_submodule(path) for module in modules]
        stacks[name] = torch.stack([module.get_buffer(name) for module in modules])
        for row, owner in zip(stacks[name].unbind(0), owners, strict=True):
            owner._buffers[last] = row
    return stacks
