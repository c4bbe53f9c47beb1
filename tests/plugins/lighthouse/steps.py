"""How weights move: an optimizer, and its learning rate over a run."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from vae_models.optimization.specs import OptimizerSpec, ScheduleSpec


class RMSpropConfig(OptimizerSpec):
    """RMSprop (Hinton 2012): the gradient over the root of its mean square."""

    kind: Literal["rmsprop"] = "rmsprop"
    lr: float = Field(default=1e-3, gt=0, le=1e6)
    memory: float = Field(default=0.99, ge=0, lt=1, description="of the past, in the mean square")
    clip_norm: float | None = Field(default=None, gt=0, le=1e6)

    def build(self, parameters):
        import torch

        return torch.optim.RMSprop(parameters, lr=self.lr, alpha=self.memory)


class InverseRootConfig(ScheduleSpec):
    """peak / sqrt(1 + t / steps of `epochs`), t counted from 0."""

    kind: Literal["inverse-root"] = "inverse-root"
    epochs: float = Field(default=5.0, gt=0, le=1e6)

    def build(self, *, peak, steps_per_epoch, total_steps):
        return lambda step: peak / math.sqrt(1 + step / (self.epochs * steps_per_epoch))
