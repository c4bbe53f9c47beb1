"""The optimizer and its learning rate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.optimization.learning_rate import LearningRate, Plateau
from vae_models.parts import Seam, spec_of
from vae_models.strict import Strict

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vae_models.optimization.stacked import StackedAdam, StackedAdamax, StackedOptimizer

AverageWeight = Annotated[float, Field(ge=0, lt=1)]  # of the past, in a moving average


class OptimizerSpec(Strict):
    """An optimizer, as data. It has two fields that the loop reads: `lr`, the peak learning rate, which the loop sets
    at every step by the schedule, and `clip_norm`, the largest L2 norm of the whole gradient (None: no clipping).

    What it keeps of a parameter are tensors: a checkpoint holds them by name. A state `step` counts the steps that the
    parameter has seen.
    """

    if TYPE_CHECKING:
        kind: str
        lr: float
        clip_norm: float | None

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters; torch is loaded here."""

    @classmethod
    def stacked(cls, lanes: Sequence[Any], device: torch.device) -> StackedOptimizer | None:
        """Return one optimizer for several lanes, whose specifications are of this class; None: each has its own."""
        return None


def _wrong(part: Any) -> str | None:
    wrong = spec_of(OptimizerSpec)(part)
    if wrong is not None:
        return wrong
    missing = [name for name in ("lr", "clip_norm") if name not in part.model_fields]
    return f"{part.__name__} has no field {' and no field '.join(missing)}: see OptimizerSpec" if missing else None


class AdamConfig(OptimizerSpec):
    """Adam (Kingma and Ba 2015); weight decay is added to the gradient, as published."""

    kind: Literal["adam"] = "adam"
    lr: float = Field(default=1e-3, gt=0, le=bounds.REAL, description="peak learning rate")
    betas: tuple[AverageWeight, AverageWeight] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0, le=bounds.REAL)
    weight_decay: float = Field(default=0.0, ge=0, le=bounds.REAL)
    clip_norm: float | None = Field(
        default=None, gt=0, le=bounds.REAL, description="largest L2 norm of the whole gradient; none: no clipping"
    )

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the Adam optimizer of these parameters: see `adam`."""
        from vae_models.optimization.optimizers import adam

        return adam(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)

    @classmethod
    def stacked(cls, lanes: Sequence[AdamConfig], device: torch.device) -> StackedOptimizer | None:
        """Return Adam, Adamax or AdamW of several lanes; None for a class of another package below one of them."""
        from vae_models.optimization import stacked

        kinds: dict[type[AdamConfig], type[StackedAdam | StackedAdamax]] = {
            AdamConfig: stacked.StackedAdam,
            AdamaxConfig: stacked.StackedAdamax,
            AdamWConfig: stacked.StackedAdamW,
        }
        if cls not in kinds:
            return None
        settings = {
            "beta1": [lane.betas[0] for lane in lanes],
            "beta2": [lane.betas[1] for lane in lanes],
            "eps": [lane.eps for lane in lanes],
        }
        if any(lane.weight_decay for lane in lanes):
            settings["weight_decay"] = [lane.weight_decay for lane in lanes]
        return kinds[cls](**stacked.numbers(settings, device))


class AdamaxConfig(AdamConfig):
    """Adamax (Kingma and Ba 2015, section 7.1): Adam by the largest gradient; weight decay is added to the gradient."""

    kind: Literal["adamax"] = "adamax"  # type: ignore[assignment]
    lr: float = Field(default=2e-3, gt=0, le=bounds.REAL, description="peak learning rate")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters: see `adamax`."""
        from vae_models.optimization.optimizers import adamax

        return adamax(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)


class AdamWConfig(AdamConfig):
    """AdamW (Loshchilov and Hutter 2019): Adam, with weight decay apart from the gradient."""

    kind: Literal["adamw"] = "adamw"  # type: ignore[assignment]
    weight_decay: float = Field(default=1e-2, ge=0, le=bounds.REAL)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters: see `adamw`."""
        from vae_models.optimization.optimizers import adamw

        return adamw(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)


class SGDConfig(OptimizerSpec):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient."""

    kind: Literal["sgd"] = "sgd"
    lr: float = Field(default=1e-2, gt=0, le=bounds.REAL, description="peak learning rate")
    momentum: float = Field(default=0.9, gt=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0, le=bounds.REAL)
    clip_norm: float | None = Field(
        default=None, gt=0, le=bounds.REAL, description="largest L2 norm of the whole gradient; none: no clipping"
    )

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters: see `sgd`."""
        from vae_models.optimization.optimizers import sgd

        return sgd(
            parameters, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )

    @classmethod
    def stacked(cls, lanes: Sequence[SGDConfig], device: torch.device) -> StackedOptimizer | None:
        """Return gradient descent of several lanes; None where some are Nesterov's, or for another package's class."""
        from vae_models.optimization import stacked

        if cls is not SGDConfig or len({lane.nesterov for lane in lanes}) > 1:
            return None
        settings = {"momentum": [lane.momentum for lane in lanes]}
        if any(lane.weight_decay for lane in lanes):
            settings["weight_decay"] = [lane.weight_decay for lane in lanes]
        return stacked.StackedSGD(nesterov=lanes[0].nesterov, **stacked.numbers(settings, device))


OURS = (AdamConfig, AdamaxConfig, AdamWConfig, SGDConfig)
OPTIMIZERS = Seam[type[OptimizerSpec]](
    "optimizer", ["vae_models.optimization.specs:OURS"], check=_wrong, summary="how a gradient moves the weights"
)

if TYPE_CHECKING:
    OptimizerConfig = OptimizerSpec
else:
    OptimizerConfig = OPTIMIZERS.union(meant="adam")


class ScheduleSpec(Strict):
    """The learning rate over a run, as data.

    whole_run: how it depends on the length of the run, in words; None: it does not. Of one that does, a longer run is
               another run from its first step on
    """

    whole_run: ClassVar[str | None] = None

    if TYPE_CHECKING:
        kind: str

    @abstractmethod
    def build(self, *, peak: float, steps_per_epoch: float, total_steps: int) -> Callable[[int], float]:
        """Return the learning rate of step t = 0, 1, ...; peak: the optimizer's."""


class ConstantScheduleConfig(ScheduleSpec):
    """Linear warm-up over `warmup_epochs`, then constant."""

    kind: Literal["constant"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0, le=bounds.EPOCHS)

    def build(self, *, peak: float, steps_per_epoch: float, total_steps: int) -> LearningRate:
        """Return the constant learning rate: see `LearningRate`."""
        warmup_steps = self.warmup_epochs * steps_per_epoch
        return LearningRate(peak=peak, warmup_steps=warmup_steps, total_steps=total_steps, final=None)


class CosineScheduleConfig(ScheduleSpec):
    """Linear warm-up over `warmup_epochs`, then half a cosine down to `final` x lr at the last step."""

    whole_run: ClassVar[str | None] = "falls to its end over the whole run"

    kind: Literal["cosine"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0, le=bounds.EPOCHS)
    final: float = Field(default=0.0, ge=0, le=1)

    def build(self, *, peak: float, steps_per_epoch: float, total_steps: int) -> LearningRate:
        """Return the cosine schedule: see `LearningRate`."""
        warmup_steps = self.warmup_epochs * steps_per_epoch
        return LearningRate(peak=peak, warmup_steps=warmup_steps, total_steps=total_steps, final=self.final)


class PlateauScheduleConfig(ScheduleSpec):
    """Linear warm-up, then constant, and `factor` times as much whenever the validation score has not risen for long.

    The score is the metric that checkpoints are chosen by.
    """

    kind: Literal["plateau"] = "plateau"
    warmup_epochs: float = Field(default=0.0, ge=0, le=bounds.EPOCHS)
    factor: float = Field(default=0.5, gt=0, lt=1, description="of the learning rate, at each fall")
    patience_epochs: float = Field(default=2.0, gt=0, le=bounds.EPOCHS, description="without a rise, before a fall")
    least: float = Field(default=0.0, ge=0, le=bounds.REAL, description="learning rate below which it does not fall")

    def build(self, *, peak: float, steps_per_epoch: float, total_steps: int) -> Plateau:
        """Return the schedule, which has to be told of each evaluation: see `Plateau`."""
        return Plateau(
            peak=peak,
            warmup_steps=self.warmup_epochs * steps_per_epoch,
            factor=self.factor,
            patience_steps=self.patience_epochs * steps_per_epoch,
            least=self.least,
        )


SCHEDULE_SPECS = (ConstantScheduleConfig, CosineScheduleConfig, PlateauScheduleConfig)
SCHEDULES = Seam[type[ScheduleSpec]](
    "schedule",
    ["vae_models.optimization.specs:SCHEDULE_SPECS"],
    check=spec_of(ScheduleSpec),
    summary="the learning rate over a run",
)

if TYPE_CHECKING:
    ScheduleConfig = ScheduleSpec
else:
    ScheduleConfig = SCHEDULES.union()
