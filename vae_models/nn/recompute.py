"""Activations that are computed again in the backward pass, not kept from the forward pass (Chen et al. 2016)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vae_models.nn.gates import signals_of
from vae_models.nn.norm import untracked

# past the decorator that keeps torch.compile away from it, whose first call imports the compiler
_checkpoint: Callable[..., Tensor] = inspect.unwrap(checkpoint)


def recompute(modules: Iterable[nn.Module]) -> None:
    """Let each of these, which are called as module(x) -> y, keep x alone while training, and compute the rest again
    when y's gradient is there. The gradients are the same to the bit.

    Running statistics of batch norms move once. Gates read the beta of the pass both times.
    """
    for module in modules:
        module.forward = partial(_forward, module, module.forward)


def _forward(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not module.training or not torch.is_grad_enabled():
        return forward(x)
    # nothing is drawn inside of a model, so no generator's state is kept
    return _checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False, context_fn=partial(_contexts, module))


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _again(module, [(signal, signal.value) for signal in signals_of(module)])


@contextmanager
def _again(module: nn.Module, signals: list[tuple[Any, Tensor | None]]) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(untracked(module))
        for signal, value in signals:
            if value is not None:
                stack.enter_context(signal.of(value))
        yield
