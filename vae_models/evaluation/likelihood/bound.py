"""ELBO, rate and distortion of a split, with standard errors over its data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from vae_models.evaluation.findings import Findings, Value
from vae_models.evaluation.subject import Rows, Subject
from vae_models.measures import QUANTITIES


@dataclass(frozen=True, kw_only=True)
class BoundEvaluator:
    """Means over data of the ELBO's two terms, one posterior sample each: nats per datum, at beta = 1."""

    def __call__(self, subject: Subject) -> Findings:
        """Return elbo, rate, distortion and squared_error; the first two where q(z|x) has a density."""

        def terms(rows: Rows) -> dict[str, Tensor]:
            trace = subject.model(rows.x, rows.noise, None, rows.mask)
            rate, distortion = trace.rate.double(), trace.distortion.double()
            bound = {"elbo": -(rate + distortion), "rate": rate} if subject.model.bound else {}
            return {**bound, "distortion": distortion, "squared_error": trace.squared_error.double()}

        per_datum = subject.map(terms, what="ELBO", noise=subject.model.noise(), stream="elbo")
        return Findings(values=tuple(_value(name, each) for name, each in per_datum.items()))


def _value(name: str, per_datum: Tensor) -> Value:
    quantity, n = QUANTITIES[name], len(per_datum)
    error = float(per_datum.std(unbiased=True)) / math.sqrt(n) if n > 1 else None
    return Value(name=name, value=float(per_datum.mean()), error=error, unit=quantity.unit, mode=quantity.mode, count=n)
