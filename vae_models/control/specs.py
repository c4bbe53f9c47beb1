"""beta over a run, as data."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from vae_models import bounds
from vae_models.parts import Seam, spec_of
from vae_models.strict import Strict

if TYPE_CHECKING:
    from vae_models.control.constrained import Alternative, Geco, Rewo
    from vae_models.control.schedules import Constant, CyclicWarmup, Held, LinearWarmup, LogUniform
    from vae_models.protocols import BetaController


class BetaSpec(Strict):
    """beta over a run, as data.

    per_datum: whether every datum has its own, which only a model that reads beta can use
    """

    per_datum: ClassVar[bool] = False

    if TYPE_CHECKING:
        kind: str

    def constant(self) -> float | None:
        """Return the one value that beta has in every step; None where it varies."""
        return None

    def range(self) -> tuple[float, float] | None:
        """Return the smallest and the largest beta that a datum may have; None where all data have the same."""
        return None

    @abstractmethod
    def build(self, steps_per_epoch: float) -> BetaController:
        """Return the controller; torch is loaded here."""


class ConstantBetaConfig(BetaSpec):
    """The same beta at every step."""

    kind: Literal["constant"] = "constant"
    value: float = Field(default=1.0, ge=0, le=bounds.REAL)

    def constant(self) -> float | None:
        """Return the value."""
        return self.value

    def build(self, steps_per_epoch: float) -> Constant:
        from vae_models.control.schedules import Constant

        return Constant(value=self.value)


class WarmupBetaConfig(BetaSpec):
    """beta rises linearly from `start` to `value` over `epochs`, then stays."""

    kind: Literal["warmup"] = "warmup"
    start: float = Field(default=0.0, ge=0, le=bounds.REAL)
    value: float = Field(default=1.0, ge=0, le=bounds.REAL)
    epochs: float = Field(default=10.0, gt=0, le=bounds.EPOCHS)

    def build(self, steps_per_epoch: float) -> LinearWarmup:
        from vae_models.control.schedules import LinearWarmup

        return LinearWarmup(start=self.start, value=self.value, steps=self.epochs * steps_per_epoch)


class HeldBetaConfig(BetaSpec):
    """beta is `start` for `epochs`, then `value` (MR-VAE C.2: NVAE on CelebA, whose start is unstable)."""

    kind: Literal["held"] = "held"
    start: float = Field(default=1e-4, ge=0, le=bounds.REAL)
    value: float = Field(default=1.0, ge=0, le=bounds.REAL)
    epochs: float = Field(default=10.0, gt=0, le=bounds.EPOCHS)

    def build(self, steps_per_epoch: float) -> Held:
        from vae_models.control.schedules import Held

        return Held(start=self.start, value=self.value, steps=self.epochs * steps_per_epoch)


class CyclicBetaConfig(BetaSpec):
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


class LogUniformBetaConfig(BetaSpec):
    """Every datum draws its own beta, uniform in the logarithm: for multi-rate models."""

    per_datum: ClassVar[bool] = True

    kind: Literal["log-uniform"] = "log-uniform"
    low: float = Field(default=0.01, gt=0, le=bounds.REAL)
    high: float = Field(default=10.0, gt=0, le=bounds.REAL)

    @model_validator(mode="after")
    def _ordered(self) -> LogUniformBetaConfig:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self

    def range(self) -> tuple[float, float] | None:
        """Return both ends of the draws."""
        return self.low, self.high

    def build(self, steps_per_epoch: float) -> LogUniform:
        from vae_models.control.schedules import LogUniform

        return LogUniform(low=self.low, high=self.high)


class _ConstrainedConfig(BetaSpec):
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


OURS = (
    ConstantBetaConfig,
    WarmupBetaConfig,
    HeldBetaConfig,
    CyclicBetaConfig,
    LogUniformBetaConfig,
    RewoBetaConfig,
    GecoBetaConfig,
    AlternativeBetaConfig,
)
BETAS = Seam[type[BetaSpec]](
    "beta",
    ["vae_models.control.specs:OURS"],
    check=spec_of(BetaSpec),
    summary="beta, the weight of the rate, over a run",
)

if TYPE_CHECKING:
    BetaConfig = BetaSpec
else:
    BetaConfig = BETAS.union()
