"""beta, over a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vae_models.config.base import Strict

if TYPE_CHECKING:
    from vae_models.control.schedules import Constant, LinearWarmup


class ConstantBetaConfig(Strict):
    """The same beta at every step."""

    kind: Literal["constant"] = "constant"
    value: float = Field(default=1.0, ge=0)

    def build(self, steps_per_epoch: float) -> Constant:
        from vae_models.control.schedules import Constant

        return Constant(value=self.value)


class WarmupBetaConfig(Strict):
    """beta rises linearly from `start` to `value` over `epochs`, then stays."""

    kind: Literal["warmup"] = "warmup"
    start: float = Field(default=0.0, ge=0)
    value: float = Field(default=1.0, ge=0)
    epochs: float = Field(default=10.0, gt=0)

    def build(self, steps_per_epoch: float) -> LinearWarmup:
        from vae_models.control.schedules import LinearWarmup

        return LinearWarmup(start=self.start, value=self.value, steps=self.epochs * steps_per_epoch)


BetaConfig = Annotated[ConstantBetaConfig | WarmupBetaConfig, Field(discriminator="kind")]
