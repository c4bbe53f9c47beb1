"""Which trials stop early, as data."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tuning.pruners import rules
from tuning.pruners.rules import Decide, Pack
from tuning.space import LIMIT
from vae_models import bounds
from vae_models.parts import Seam, spec_of
from vae_models.strict import Strict


class PrunerSpec(Strict):
    """Which trials stop early, as data.

    prunes:   whether any does
    compares: whether it compares the lanes of one pack, so that all assignments of a stage have to be in one
    """

    prunes: ClassVar[bool] = True
    compares: ClassVar[bool] = False

    if TYPE_CHECKING:
        kind: str

    @abstractmethod
    def decider(self, pack: Pack) -> Decide:
        """Return the function called after every evaluation of a pack, (step, metrics by lane) -> the lanes to stop."""


class NoPruning(PrunerSpec):
    """Every trial to its end."""

    prunes: ClassVar[bool] = False

    kind: Literal["none"] = "none"

    def decider(self, pack: Pack) -> Decide:
        """Return a decision that stops no lane."""
        return lambda step, metrics: ()


class Halving(PrunerSpec):
    """Successive halving (Jamieson and Talwalkar 2016).

    At the first evaluation at or after `epochs`, `epochs` x `factor`, `epochs` x `factor`^2, ... the best 1/`factor` of
    the assignments that are left go on.
    """

    compares: ClassVar[bool] = True

    kind: Literal["halving"] = "halving"
    epochs: float = Field(default=1.0, gt=0, le=bounds.EPOCHS, description="before the first decision")
    factor: float = Field(default=3.0, gt=1, le=LIMIT)

    def decider(self, pack: Pack) -> Decide:
        """Return successive halving's decision: see `rules.Halver`."""
        return rules.Halver(pack=pack, epochs=self.epochs, factor=self.factor, assignments=pack.assignments)


class Hyperband(PrunerSpec):
    """Hyperband (Li et al. 2018): assignments are dealt to `brackets`, of which each is halved on its own.

    In bracket b = 0, 1, ... the first decision comes after `epochs` x `factor`^b: a slow start is no end.
    """

    compares: ClassVar[bool] = True

    kind: Literal["hyperband"] = "hyperband"
    epochs: float = Field(
        default=1.0, gt=0, le=bounds.EPOCHS, description="before the first decision of the first bracket"
    )
    factor: float = Field(default=3.0, gt=1, le=LIMIT)
    brackets: int = Field(default=3, ge=2, le=20)

    def decider(self, pack: Pack) -> Decide:
        """Return Hyperband's decision: see `rules.Brackets`."""
        return rules.Brackets.of(pack, epochs=self.epochs, factor=self.factor, brackets=self.brackets)


class Asha(PrunerSpec):
    """Asynchronous successive halving (Li et al. 2020), across packs and processes.

    An assignment that comes to a rung (`epochs`, `epochs` x `factor`, ...) goes on if it is among the best 1/`factor`
    of those that have come there so far, itself included. Nobody waits; so who goes on depends on who came first.
    """

    kind: Literal["asha"] = "asha"
    epochs: float = Field(default=1.0, gt=0, le=bounds.EPOCHS, description="the first rung")
    factor: float = Field(default=3.0, gt=1, le=LIMIT)

    def decider(self, pack: Pack) -> Decide:
        """Return asynchronous halving's decision: see `rules.AsyncHalver`."""
        return rules.AsyncHalver(pack=pack, epochs=self.epochs, factor=self.factor)


class Median(PrunerSpec):
    """The median rule (Golovin et al. 2017).

    From `epochs` on an assignment stops whose best value so far is worse than the median of the others' means over all
    their evaluations. What was measured before an interruption is forgotten.
    """

    compares: ClassVar[bool] = True

    kind: Literal["median"] = "median"
    epochs: float = Field(default=1.0, gt=0, le=bounds.EPOCHS, description="before the first decision")

    def decider(self, pack: Pack) -> Decide:
        """Return the median rule's decision: see `rules.MedianStopper`."""
        return rules.MedianStopper(pack=pack, first_step=self.epochs * pack.steps_per_epoch)


OURS = (NoPruning, Halving, Hyperband, Asha, Median)
PRUNERS = Seam[type[PrunerSpec]](
    "pruner", ["tuning.pruners.specs:OURS"], check=spec_of(PrunerSpec), summary="which trials stop early"
)

if TYPE_CHECKING:
    PruningConfig = PrunerSpec
else:
    PruningConfig = PRUNERS.union()
