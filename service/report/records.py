"""What a report shows of one trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.tracking import describe

if TYPE_CHECKING:
    from vae_models.evaluation.findings import Findings, Picture

Curve = Sequence[tuple[int, float]]  # (step, value), by step


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What one evaluator has found out. plan: the split, limit, samplers and seed that it was told."""

    plan: Mapping[str, Any]
    findings: Findings

    @property
    def split(self) -> str:
        """Return the split that it is about."""
        return str(self.plan.get("split", "test"))


@dataclass(frozen=True, kw_only=True)
class Reported:
    """One trained model.

    name:      what it was called on the command line: a folder, or a job's id
    facts:     what there is to know of it beside its specification, in the order of the page
    spec:      its whole specification, as plain data
    curves:    what was measured while it trained, by metric
    pictures:  those that were drawn while it trained, the last of each
    evaluated: the older first: a value that is there twice is the newer one's
    run_id:    its run in MLflow; None: it has none
    """

    name: str
    facts: Mapping[str, str]
    spec: Mapping[str, Any]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    evaluated: tuple[Evaluated, ...] = ()
    notes: tuple[str, ...] = ()
    run_id: str | None = None

    @property
    def data(self) -> str:
        """Return which data it is of: values of other data are not compared with its own."""
        return describe.data_name(self.spec)

    @property
    def scale(self) -> str:
        """Return data and measure: exactly where they are equal may nats be compared."""
        return f"{self.data} ({describe.measure(self.spec)})"

    @property
    def latents(self) -> str | None:
        """Return the shapes of its latents; None where they are not known, as of another version's specification."""
        from pydantic import ValidationError

        from vae_models.config.train import TrainConfig
        from vae_models.measures import STORED
        from vae_models.parts import PartError

        try:
            latents = TrainConfig.model_validate(self.spec, context=STORED).model.latents()
        except (ValidationError, PartError):
            return None
        return ", ".join(f"{name} of {' x '.join(map(str, shape))}" for name, shape in latents.items())
