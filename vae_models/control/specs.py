"""beta, over a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from vae_models import bounds
from vae_models.strict import Strict

if TYPE_CHECKING:
    from vae_models.control.constrained import Alternative, Geco, Rewo
    from vae_models.control.schedules import Constant, CyclicWarmup, LinearWarmup, LogUniform


class ConstantBetaConfig(Strict):
    """The same beta at every step."""

    kind: Literal["constant"] = "constant"
    value: float = Field(default=1.0, ge=0, le=bounds.REAL)

    def build(self, steps_per_epoch: float) -> Constant:
        from vae_models.control.schedules import Constant

        return Constant(value=self.value)


class WarmupBetaConfig(Strict):
    """beta rises linearly from `start` to `value` over `epochs`, then stays."""

    kind: Literal["warmup"] = "warmup"
    start: float = Field(default=0.0, ge=0, le=bounds.REAL)
    value: float = Field(default=1.0, ge=0, le=bounds.REAL)
    epochs: float = Field(default=10.0, gt=0, le=bounds.EPOCHS)

    def build(self, steps_per_epoch: float) -> LinearWarmup:
        from vae_models.control.schedules import LinearWarmup

        return LinearWarmup(start=self.start, value=self.value, steps=self.epochs * steps_per_epoch)


class CyclicBetaConfig(Strict):
    """In every cycle beta rises linearly from `start` to `value`, then stays until the next."""

    kind: Literal["cyclic"] = "cyclic"
    start: float = Field(default=0.0, ge=0, le=bounds.REAL)
    value: float = Field(default=1.0, ge=0, le=bounds.REAL)
    cycle_epochs: float = Field(default=10.0, gt=0, le=bounds.EPOCHS)
    rising: float = Field(default=0.5, gt=0, le=1, description="part of a cycle in which beta rises")

    def build(self, steps_per_epoch: float) -> CyclicWarmup:
        from vae_models.control.schedules import CyclicWarmup

        return CyclicWarmup(
            start=self.start, value=self.value, steps=self.cycle_epochs * steps_per_epoch, rising=self.rising
        )


class LogUniformBetaConfig(Strict):
    """Every datum draws its own beta, uniform in the logarithm: for multi-rate models."""

    kind: Literal["log-uniform"] = "log-uniform"
    low: float = Field(default=0.01, gt=0, le=bounds.REAL)
    high: float = Field(default=10.0, gt=0, le=bounds.REAL)

    @model_validator(mode="after")
    def _ordered(self) -> LogUniformBetaConfig:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self

    def build(self, steps_per_epoch: float) -> LogUniform:
        from vae_models.control.schedules import LogUniform

        return LogUniform(low=self.low, high=self.high)


class _ConstrainedConfig(Strict):
    kappa: float = Field(
        gt=0, le=bounds.REAL, description="root of the largest mean squared error of an element, in units of x"
    )
    nu: float = Field(default=1.0, gt=0, le=bounds.REAL, description="how fast beta moves")
    alpha: float = Field(default=0.99, ge=0, lt=1, description="of the moving average of the error: weight of the past")


class RewoBetaConfig(_ConstrainedConfig):
    """The smallest rate at a reconstruction error of kappa^2, in two phases; beta goes to 1 while that holds."""

    kind: Literal["rewo"] = "rewo"
    tau: float = Field(default=3.0, gt=0, le=bounds.REAL, description="slope towards 1")
    start: float = Field(default=1e-3, gt=0, le=bounds.REAL, description="beta of the first phase, far below 1")

    def build(self, steps_per_epoch: float) -> Rewo:
        from vae_models.control.constrained import Rewo

        return Rewo(kappa=self.kappa, nu=self.nu, alpha=self.alpha, tau=self.tau, start=self.start)


class GecoBetaConfig(_ConstrainedConfig):
    """The smallest rate at a reconstruction error of kappa^2, without phases; beta may pass 1."""

    kind: Literal["geco"] = "geco"
    start: float = Field(default=1.0, gt=0, le=bounds.REAL)

    def build(self, steps_per_epoch: float) -> Geco:
        from vae_models.control.constrained import Geco

        return Geco(kappa=self.kappa, nu=self.nu, alpha=self.alpha, start=self.start)


class AlternativeBetaConfig(_ConstrainedConfig):
    """REWO's two phases with another update, under which beta stays below 1 (VHP appendix B.1)."""

    kind: Literal["rewo-alternative"] = "rewo-alternative"
    tau: float = Field(default=1.0, gt=0, le=bounds.REAL, description="slope")
    start: float = Field(default=1e-3, gt=0, lt=1, description="beta of the first phase, far below 1")

    def build(self, steps_per_epoch: float) -> Alternative:
        from vae_models.control.constrained import Alternative

        return Alternative(kappa=self.kappa, nu=self.nu, alpha=self.alpha, tau=self.tau, start=self.start)


BetaConfig = Annotated[
    ConstantBetaConfig
    | WarmupBetaConfig
    | CyclicBetaConfig
    | LogUniformBetaConfig
    | RewoBetaConfig
    | GecoBetaConfig
    | AlternativeBetaConfig,
    Field(discriminator="kind"),
]
