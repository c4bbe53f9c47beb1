"""The optimizer and its learning rate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.strict import Strict

AverageWeight = Annotated[float, Field(ge=0, lt=1)]  # of the past, in a moving average


class AdamConfig(Strict):
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient, as published."""

    kind: Literal["adam"] = "adam"
    lr: float = Field(default=1e-3, gt=0, le=bounds.REAL, description="peak learning rate")
    betas: tuple[AverageWeight, AverageWeight] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0, le=bounds.REAL)
    weight_decay: float = Field(default=0.0, ge=0, le=bounds.REAL)
    clip_norm: float | None = Field(
        default=None, gt=0, le=bounds.REAL, description="largest L2 norm of the whole gradient; none: no clipping"
    )


class ConstantScheduleConfig(Strict):
    """Linear warm-up over `warmup_epochs`, then constant."""

    kind: Literal["constant"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0, le=bounds.EPOCHS)


class CosineScheduleConfig(Strict):
    """Linear warm-up over `warmup_epochs`, then half a cosine down to `final` x lr at the last step."""

    kind: Literal["cosine"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0, le=bounds.EPOCHS)
    final: float = Field(default=0.0, ge=0, le=1)


ScheduleConfig = Annotated[ConstantScheduleConfig | CosineScheduleConfig, Field(discriminator="kind")]
