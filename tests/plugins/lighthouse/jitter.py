"""Artificial noise: every element is moved a little, once."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from vae_models.data.noises import DataNoiseSpec


class JitterConfig(DataNoiseSpec):
    """x + u, u uniform in [-width / 2, width / 2]: a function of the seed."""

    support: ClassVar = "reals"
    kind: Literal["jitter"] = "jitter"
    width: float = Field(default=0.02, gt=0, le=1e6, description="in units of x")
    seed: int = Field(default=0, ge=0, lt=2**63)

    def applied(self, dataset):
        import torch

        generator = torch.Generator().manual_seed(self.seed)

        def moved(split):
            noise = torch.rand(split.x.shape, generator=generator) - 0.5
            return replace(split, x=split.x.float() + self.width * noise)

        return replace(dataset, train=moved(dataset.train), val=moved(dataset.val), test=moved(dataset.test))
