"""What a run measures: every quantity once, with its unit and which way is better, and `Goal`, which compares.

A metric's name is <where>/<quantity>: `val/elbo` of the validation split, `val/beta_0.5/elbo` of a multi-rate model
whose gates read beta = 0.5, `train/loss` of the training batches since the last log. The quantity says which way is
better. Specs are read where torch is not loaded, so nothing here imports it.

The set is open: a quantity of each datum, from its trace, may come with an installed package (entry point
`measure.NAME` of the group `vaesvc.parts`, a `Quantity` with `of`). `evaluation.measures` asks for it, and then it is
logged, chosen by and searched by like ours.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vae_models.open_union import is_foreign_allowed
from vae_models.parts import Seam

if TYPE_CHECKING:
    from pydantic import ValidationInfo
    from torch import Tensor

    from vae_models.records import Trace

Mode = Literal["max", "min"]
STORED: Mapping[str, bool] = {"stored": True}  # pydantic's context for specs that were accepted before, by any version


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """Something that is measured per datum and averaged over data, or over the steps since the last log.

    mode:  which way is better; None where neither is, so that a goal must give the mode
    bound: whether it is of a bound on log p(x), which an encoder without a density has not
    of:    (trace of a batch) -> [batch], the quantity of each datum, or where this function is, "module:name"; None:
           what every evaluation measures, and what only a loss has
    summary: one line on what it is
    """

    name: str
    unit: str
    mode: Mode | None
    bound: bool = False
    of: Callable[[Trace], Tensor] | str | None = None
    summary: str = ""

    def function(self) -> Callable[[Trace], Tensor]:
        """Return the function that `of` names, loaded. Raise TypeError for a quantity without one."""
        if self.of is None:
            raise TypeError(f"the measure {self.name} is not a function of a trace")
        if not isinstance(self.of, str):
            return self.of
        module, _, name = self.of.partition(":")
        function: Callable[[Trace], Tensor] = getattr(importlib.import_module(module), name)
        return function


def _wrong(part: Any) -> str | None:
    if not isinstance(part, Quantity):
        return f"{part!r} is no Quantity: make it with vae_models.measures.Quantity"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", part.name):
        return "its name is not of small letters, digits and underscores: a metric is called <split>/<name>"
    if part.mode not in ("max", "min", None):
        return f"its mode {part.mode!r} is neither max nor min, nor None"
    if not part.unit:
        return "it has no unit"
    return None if part.of is None or isinstance(part.of, str) or callable(part.of) else "its `of` is no function"


_NATS, _SQUARE = "nats per datum", "units of x squared"
OURS = (
    Quantity(
        name="elbo",
        unit=_NATS,
        mode="max",
        bound=True,
        summary="the evidence lower bound at beta = 1, -(rate + distortion)",
    ),
    Quantity(name="rate", unit=_NATS, mode="min", bound=True, summary="KL(q(z|x) || p(z)), or its estimate"),
    Quantity(name="distortion", unit=_NATS, mode="min", summary="-log p(x|z) of a sample of q(z|x)"),
    Quantity(name="squared_error", unit=_SQUARE, mode="min", summary="mean over the elements of (x - E[x|z])^2"),
    Quantity(name="loss", unit=_NATS, mode="min", summary="what is minimised, over the batches since the last log"),
    Quantity(name="iwae", unit=_NATS, mode="max", bound=True, summary="the importance-weighted bound of K samples"),
    Quantity(name="information", unit=_NATS, mode=None, summary="of the rate: mutual information of x and z"),
    Quantity(name="total_correlation", unit=_NATS, mode="min", summary="of the rate: KL(q(z) || product of q(z_j))"),
    Quantity(name="dimension_kl", unit=_NATS, mode="min", summary="of the rate: sum of KL(q(z_j) || p(z_j))"),
    Quantity(name="mmd", unit="1", mode="min", summary="between the aggregate posterior and N(0, I)"),
    Quantity(name="latent_square", unit="units of z squared", mode="min", summary="|z|^2"),
    Quantity(
        name="regularizer",
        unit="its own",
        mode="min",
        summary="of the decoder: of its weights, or of its gradient by z",
    ),
)
QUANTITIES: Mapping[str, Quantity] = {quantity.name: quantity for quantity in OURS}
MEASURES: Seam[Quantity] = Seam(
    "measure", ["vae_models.measures:OURS"], check=_wrong, summary="what is measured, per datum"
)
EVALUATED = ("elbo", "rate", "distortion", "squared_error")  # on a split; the last is a mean over elements
VALIDATION = "val"
ON_TRAIN = "train_eval"  # where an evaluation of the training split is: `train` is of the batches that it is trained on
SELECTABLE = tuple(f"val/{name}" for name in EVALUATED)  # what the best checkpoint of a run can be chosen by


def of_beta(beta: float) -> str:
    """Return what stands before the name of a number that is of a multi-rate model at this beta: beta_0.5."""
    return f"beta_{beta:g}"


def prefix(beta: float | None) -> str:
    """Return how such a number's name begins: beta_0.5/; empty of None, at which no beta is named."""
    return "" if beta is None else f"{of_beta(beta)}/"


def is_evaluation(metric: str) -> bool:
    """Return whether `metric` is of a whole split, and not of the batches of training."""
    return metric.startswith((f"{VALIDATION}/", "test/", f"{ON_TRAIN}/"))


def on_validation(name: str) -> str:
    """Return the metric of quantity `name` on the validation split."""
    return f"{VALIDATION}/{name}"


def quantity(metric: str) -> Quantity | None:
    """Return the quantity that a metric is of; None of a name that is no measure's."""
    return MEASURES.find(metric.rpartition("/")[2])


def direction(metric: str) -> Mode | None:
    """Return which way `metric` is better; None where neither is, or the metric is unknown."""
    known = quantity(metric)
    return None if known is None else known.mode


def has_bound(metric: str) -> bool:
    """Return whether `metric` exists only where q(z|x) has a density."""
    known = quantity(metric)
    return known is not None and known.bound


def evaluated(*, bound: bool, where: Iterable[str] = ("val",), more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the metrics of an evaluation. where: their first parts, such as `val` and `val/beta_0.5`;
    more: the requested measures (`evaluation.measures`).
    """
    names = [name for name in (*EVALUATED, *more) if bound or not has_bound(name)]
    return tuple(f"{place}/{name}" for place in where for name in names)


def asked_for(names: Sequence[str]) -> tuple[str, ...]:
    """Return `names` if each is a measure that can be requested. Raise ValueError that lists them otherwise."""
    for place, name in enumerate(names):
        measure = MEASURES.find(name)
        if measure is None and not is_foreign_allowed():
            raise ValueError(f"there is no measure {name!r}; {_askable()}{MEASURES.not_loaded()}")
        if measure is not None and measure.of is None:
            raise ValueError(f"{name} is no function of a trace, so no evaluation is asked for it; {_askable()}")
        if name in names[:place]:
            raise ValueError(f"{name} is named twice")
    return tuple(names)


def _askable() -> str:
    kinds = [kind for kind, part in MEASURES.all().items() if part.of is not None]
    return f"there are: {', '.join(kinds)}" if kinds else "no installed package has one"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The best value of `metric`: the one definition of what is better."""

    metric: str = "val/elbo"
    mode: Mode = "max"

    @classmethod
    def of(cls, metric: str, mode: Mode | None = None) -> Goal:
        """Return the goal; without `mode`, the measure's own.
        Raise ValueError where it contradicts that, or is required.
        """
        own = direction(metric)
        way = own if mode is None else mode
        if way is None:
            raise ValueError(f"{metric} is neither better high nor low: say mode max or min")
        if own is not None and way != own:
            raise ValueError(contradiction(metric, way))
        return cls(metric=metric, mode=way)

    @classmethod
    def stored(cls, metric: str, mode: str | None) -> Goal:
        """Return the goal that an earlier version stored:
        the measure's own direction counts, whatever mode was stored.
        """
        return cls(metric=metric, mode=direction(metric) or ("min" if mode == "min" else "max"))

    def score(self, value: float | None) -> float:
        """Return a score of which larger is better, whichever way the measure goes;
        -inf where there is no finite value.
        """
        if value is None or not math.isfinite(value):
            return -math.inf
        return value if self.mode == "max" else -value

    def better(self, value: float | None, other: float | None) -> bool:
        """Return whether `value` is strictly better; none is better than a missing value or one that is not finite."""
        return self.score(value) > self.score(other)


def contradiction(metric: str, mode: str) -> str:
    """Return the message about a mode that would choose the worst."""
    own = direction(metric)
    how = "larger" if own == "max" else "smaller"
    return f"mode {mode} would choose the worst: {how} is better of {metric}; leave mode out, or set it to {own}"


def is_stored(info: ValidationInfo) -> bool:
    """Return whether a stored specification is read, accepted before, which must stay readable. See `STORED`."""
    return bool(info.context and info.context.get("stored"))


def own_mode(given: Any, metric: str) -> Any:
    """Return a stored mapping with `metric` and `mode`, without a mode that contradicts the measure. See `STORED`."""
    if not isinstance(given, Mapping) or "mode" not in given:
        return given
    own = direction(str(given.get("metric", metric)))
    if own is None or given["mode"] == own:
        return given
    return {name: value for name, value in given.items() if name != "mode"}


def following(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return `before` without what `change` invalidates:
    another metric brings its own mode unless one is given with it.
    """
    if "metric" in change and "mode" not in change:
        return {name: value for name, value in before.items() if name != "mode"}
    return dict(before)
