"""What a run measures: every quantity once, with its unit and which way is better, and `Goal`, which compares.

A metric's name is <where>/<quantity>: `val/elbo` of the validation split, `val/beta_0.5/elbo` of a multi-rate model
whose gates read beta = 0.5, `train/loss` of the training batches since the last log. The quantity says which way is
better. Specs are read where torch is not loaded, so nothing here imports it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import ValidationInfo

Mode = Literal["max", "min"]
STORED: Mapping[str, bool] = {"stored": True}  # pydantic's context for specs that were accepted before, by any version


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """Something that is measured per datum and averaged over data, or over the steps since the last log.

    mode:  which way is better; None where neither is, so that whoever chooses by it must say
    bound: whether it is of a bound on log p(x), which an encoder without a density has not
    """

    name: str
    unit: str
    mode: Mode | None
    bound: bool = False


_NATS, _SQUARE = "nats per datum", "units of x squared"
QUANTITIES: Mapping[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity(name="elbo", unit=_NATS, mode="max", bound=True),
        Quantity(name="rate", unit=_NATS, mode="min", bound=True),
        Quantity(name="distortion", unit=_NATS, mode="min"),
        Quantity(name="squared_error", unit=_SQUARE, mode="min"),
        Quantity(name="loss", unit=_NATS, mode="min"),
        Quantity(name="iwae", unit=_NATS, mode="max", bound=True),
        Quantity(name="information", unit=_NATS, mode=None),
        Quantity(name="total_correlation", unit=_NATS, mode="min"),
        Quantity(name="dimension_kl", unit=_NATS, mode="min"),
        Quantity(name="mmd", unit="1", mode="min"),
        Quantity(name="latent_square", unit="units of z squared", mode="min"),
        Quantity(name="regularizer", unit="its own", mode="min"),
    )
}
EVALUATED = ("elbo", "rate", "distortion", "squared_error")  # on a split; the last is a mean over elements
ON_TRAIN = "train_eval"  # where an evaluation of the training split is: `train` is of the batches that it is trained on
SELECTABLE = tuple(f"val/{name}" for name in EVALUATED)  # what the best checkpoint of a run can be chosen by


def quantity(metric: str) -> Quantity | None:
    """The quantity that a metric is of; None of a name that is none of ours."""
    return QUANTITIES.get(metric.rpartition("/")[2])


def direction(metric: str) -> Mode | None:
    """Which way `metric` is better; None where neither is, and of an unknown one."""
    known = quantity(metric)
    return None if known is None else known.mode


def has_bound(metric: str) -> bool:
    """Whether `metric` is there only where q(z|x) has a density."""
    known = quantity(metric)
    return known is not None and known.bound


def evaluated(*, bound: bool, where: Iterable[str] = ("val",)) -> tuple[str, ...]:
    """The metrics of an evaluation. where: their first parts, such as `val` and `val/beta_0.5`."""
    return tuple(f"{place}/{name}" for place in where for name in EVALUATED if bound or not QUANTITIES[name].bound)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The best value of `metric`: the only place that knows what is better."""

    metric: str = "val/elbo"
    mode: Mode = "max"

    @classmethod
    def of(cls, metric: str, mode: Mode | None = None) -> Goal:
        """`mode` left out: the measure's own. ValueError where it contradicts that, or has to be said."""
        own = direction(metric)
        found = own if mode is None else mode
        if found is None:
            raise ValueError(f"{metric} is neither better high nor low: say mode max or min")
        if own is not None and found != own:
            raise ValueError(contradiction(metric, found))
        return cls(metric=metric, mode=found)

    @classmethod
    def stored(cls, metric: str, mode: str | None) -> Goal:
        """Of what an earlier version wrote down: the measure's own direction counts, whatever stands there."""
        return cls(metric=metric, mode=direction(metric) or ("min" if mode == "min" else "max"))

    def score(self, value: float | None) -> float:
        """Larger is better, whichever way the measure goes; -inf where there is no finite value."""
        if value is None or not math.isfinite(value):
            return -math.inf
        return value if self.mode == "max" else -value

    def better(self, value: float | None, other: float | None) -> bool:
        """Strictly; no value is better than one that is not finite, or than none."""
        return self.score(value) > self.score(other)


def contradiction(metric: str, mode: str) -> str:
    """What to say to somebody who wants the worst."""
    own = direction(metric)
    how = "larger" if own == "max" else "smaller"
    return f"mode {mode} would choose the worst: {how} is better of {metric}; leave mode out, or set it to {own}"


def is_stored(info: ValidationInfo) -> bool:
    """Whether what is read was accepted before: it must stay readable. See `STORED`."""
    return bool(info.context and info.context.get("stored"))


def own_mode(given: Any, metric: str) -> Any:
    """A stored mapping with `metric` and `mode` fields, without a mode that contradicts the measure. See `STORED`."""
    if not isinstance(given, Mapping) or "mode" not in given:
        return given
    own = direction(str(given.get("metric", metric)))
    if own is None or given["mode"] == own:
        return given
    return {name: value for name, value in given.items() if name != "mode"}


def following(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`before` as `change` will be put over it: another metric brings its own mode unless one is named with it."""
    if "metric" in change and "mode" not in change:
        return {name: value for name, value in before.items() if name != "mode"}
    return dict(before)
